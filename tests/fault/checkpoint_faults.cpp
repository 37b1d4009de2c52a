// A checkpoint whose writing is killed, or whose disk is full or failing, leaves the former file or the new one, never a half.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <set>

#include "gru4rec/base/error.h"
#include "support/checkpoint_example.h"
#include "support/faulty_calls.h"
#include "support/folders.h"
#include "support/temporary_folder.h"
#include "support/watched_calls.h"

namespace gru4rec {
namespace {

using ::testing::AnyOf;
using testing::CheckpointExample;
using testing::exit_with_fault;
using testing::Fault;
using testing::killed_at;
using testing::TemporaryFolder;
using testing::WatchedCall;
namespace fs = std::filesystem;

constexpr const char* kDiskFull = "No space left on device. Free some space";

size_t files_in(const fs::path& folder) {
  return static_cast<size_t>(std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

class CheckpointFaults : public ::testing::Test {
 protected:
  // A folder with the checkpoint of step 501; the next one is step 502 and a `replacement` writes step 501 again.
  fs::path fresh_folder() {
    const fs::path folder = folder_ / ("run" + std::to_string(folders_++));
    former_digest_ = former_.save(CheckpointFolder(folder, 5).file_of(501));
    return folder;
  }
  void write_next(const fs::path& folder) const { next_.save(CheckpointFolder(folder, 5).file_of(502)); }
  void write_replacement(const fs::path& folder) const { next_.save(CheckpointFolder(folder, 5).file_of(501)); }

  // Of the newest checkpoint; no file of the folder may be damaged.
  static uint64_t newest_digest(const fs::path& folder) {
    const CheckpointFolder checkpoints(folder, 5);
    const auto found = checkpoints.newest_good();
    EXPECT_TRUE(found && found->skipped.empty()) << "a damaged file under its final name";
    return read_checkpoint_info(checkpoints.file_of(found->step)).digest;
  }

  TemporaryFolder folder_;
  int folders_ = 0;
  const CheckpointExample former_{1}, next_{2};
  uint64_t former_digest_ = 0;
  const uint64_t next_digest_ = next_.save(folder_ / "next.h5");
};

TEST_F(CheckpointFaults, KilledBetweenAnyTwoCallsLeavesTheFormerOneOrTheNewOne) {
  for (const bool replace : {false, true}) {
    std::set<uint64_t> seen;
    uint64_t n = 0;
    for (;; ++n) {
      const fs::path folder = fresh_folder();
      const bool killed = killed_at(n, [&] { replace ? write_replacement(folder) : write_next(folder); });
      const uint64_t digest = newest_digest(folder);
      ASSERT_THAT(digest, AnyOf(former_digest_, next_digest_)) << "killed before call " << n;
      seen.insert(digest);
      replace ? write_replacement(folder) : write_next(folder);
      EXPECT_EQ(newest_digest(folder), next_digest_) << "the next writer is not in the way of what is left";
      EXPECT_EQ(files_in(folder), replace ? 1u : 2u) << "and cleans up";
      fs::remove_all(folder);
      if (!killed) break;
    }
    EXPECT_GT(n, 20u) << "calls that change files";
    EXPECT_EQ(seen.size(), 2u) << "some kills come before the rename, some after it";
  }
}

TEST_F(CheckpointFaults, ADiskThatIsFullFromAnyCallOnIsAClearErrorAndKeepsTheFormerOne) {
  int errors = 0;
  for (uint64_t n = 0;; ++n) {
    const fs::path folder = fresh_folder();
    const int code = exit_with_fault(Fault::disk_full, n, kDiskFull, [&] { write_replacement(folder); });
    if (code == 98) break;
    ASSERT_THAT(code, AnyOf(int{kExitDone}, int{kExitSurroundings})) << "from call " << n;
    ASSERT_EQ(newest_digest(folder), code == kExitDone ? next_digest_ : former_digest_) << "from call " << n;
    ASSERT_EQ(files_in(folder), 1u) << "nothing but the one; from call " << n;
    errors += code != kExitDone;
    fs::remove_all(folder);
  }
  EXPECT_GT(errors, 15);
}

TEST_F(CheckpointFaults, AFailingFsyncIsAnError) {
  int errors = 0;
  for (uint64_t n = 0;; ++n) {
    const fs::path folder = fresh_folder();
    const int code = exit_with_fault(Fault::failing_fsync, n, "fsync", [&] { write_next(folder); });
    if (code == 98) break;
    ASSERT_EQ(code, int{kExitSurroundings}) << "from fsync " << n;
    ASSERT_THAT(newest_digest(folder), AnyOf(former_digest_, next_digest_));
    fs::remove_all(folder);
    ++errors;
  }
  EXPECT_EQ(errors, 2) << "the file, then its folder";
}

// Takes a small file system away again, however a test ends.
struct Unmount {
  fs::path path;
  ~Unmount() { ::umount2(path.c_str(), MNT_DETACH); }
};

TEST_F(CheckpointFaults, ARealDiskThatIsFullAtAnyLevelIsAClearErrorAndKeepsTheFormerOne) {
  const fs::path disk = folder_ / "disk";
  fs::create_directory(disk);
  if (::geteuid() != 0) GTEST_SKIP() << "mounting a small file system needs root";
  if (::mount("tmpfs", disk.c_str(), "tmpfs", 0, "size=8m") != 0) GTEST_SKIP() << "mount: " << errno_text(errno);
  const Unmount at_end{disk};
  const fs::path folder = disk / "checkpoints";
  const uint64_t former = former_.save(CheckpointFolder(folder, 5).file_of(501));
  int errors = 0;
  for (uint64_t left = 0;; left += 4096) {
    ASSERT_LT(left, 1u << 20) << "it must succeed at last";
    std::ofstream(disk / "ballast").close();
    const uint64_t available = fs::space(disk).available;
    std::ofstream(disk / "ballast") << std::string(available > left ? available - left : 0, 'x');
    const int code = exit_with_fault(Fault::none, 0, kDiskFull, [&] { write_next(folder); });
    if (code != kExitSurroundings) break;
    EXPECT_EQ(newest_digest(folder), former) << "with " << left << " bytes left";
    EXPECT_EQ(files_in(folder), 1u);
    ++errors;
  }
  EXPECT_EQ(newest_digest(folder), next_digest_);
  EXPECT_EQ(files_in(folder), 2u);
  EXPECT_GT(errors, 3);
}

TEST_F(CheckpointFaults, TheFileIsSyncedBeforeItsRenameAndTheFolderAfterIt) {
  const fs::path folder = fs::canonical(fresh_folder()), file = folder / "step-00000502.h5";
  const std::string command = fmt::format("{}/write_example_checkpoint {} 2", testing::build_folder().string(), file.string());
  const auto calls = testing::watched_calls(command, folder, folder_ / "trace");
  if (calls.empty()) GTEST_SKIP() << "strace is not installed or may not trace here";

  const auto index_of = [&](auto from, const auto& wanted) { return std::find_if(from, calls.end(), wanted) - calls.begin(); };
  const auto rename = index_of(calls.begin(), [](const WatchedCall& call) { return call.name == "rename"; });
  ASSERT_LT(rename, std::ssize(calls));
  EXPECT_EQ(calls[rename].to, file);
  const fs::path temporary = calls[rename].file;
  const auto synced =
      index_of(calls.begin(), [&](const WatchedCall& call) { return call.name == "fsync" && call.file == temporary; });
  EXPECT_LT(synced, rename) << "the file is synced before it gets its name";
  const auto written_late = index_of(calls.begin() + synced, [&](const WatchedCall& call) {
    return call.name != "fsync" && call.name != "rename" && (call.file == temporary || call.file == file);
  });
  EXPECT_EQ(written_late, std::ssize(calls)) << "nothing is written after that";
  const auto folder_synced =
      index_of(calls.begin() + rename, [&](const WatchedCall& call) { return call.name == "fsync" && call.file == folder; });
  EXPECT_LT(folder_synced, std::ssize(calls)) << "the folder is synced after the file got its name";
}

}  // namespace
}  // namespace gru4rec

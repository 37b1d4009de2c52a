// A store whose writing is killed, or whose disk is full or failing, leaves the former store or the new one, never a half.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <functional>
#include <set>

#include "gru4rec/base/error.h"
#include "support/faulty_calls.h"
#include "support/folders.h"
#include "support/store_example.h"
#include "support/temporary_folder.h"
#include "support/watched_calls.h"

namespace gru4rec {
namespace {

using ::testing::AnyOf;
using ::testing::Contains;
using testing::example_sessions;
using testing::exit_with_fault;
using testing::Fault;
using ::testing::HasSubstr;
using testing::killed_at;
using testing::TemporaryFolder;
using testing::watched_calls;
using testing::WatchedCall;
using testing::write_example;
namespace fs = std::filesystem;

constexpr uint64_t kCatalogue = 97;
constexpr int kNewShards = 3;

// Digest of the store in a folder after a full check; 0 if there is none.
uint64_t digest_of(const fs::path& folder) {
  if (!fs::exists(folder / "manifest.h5")) return 0;
  const Store store(folder);
  store.verify();
  return store.info().data_digest;
}

size_t files_in(const fs::path& folder) {
  return static_cast<size_t>(std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

class StoreFaults : public ::testing::Test {
 protected:
  void write_new(const fs::path& folder) const {
    constexpr uint64_t kInMemory = 1000;  // most arrays are longer, and go through files
    write_example(folder, new_sessions_, kNewShards, kCatalogue, kInMemory);
  }
  // A folder with or without a former store.
  fs::path fresh_folder(bool with_former) {
    const fs::path folder = folder_ / ("store" + std::to_string(folders_++));
    if (with_former) former_ = write_example(folder, example_sessions(211, kCatalogue), 2, kCatalogue).data_digest;
    return folder;
  }
  // After whatever happened, the next writer leaves a complete store and nothing else.
  void expect_next_writer_cleans_up(const fs::path& folder) const {
    write_new(folder);
    EXPECT_EQ(digest_of(folder), new_);
    EXPECT_EQ(files_in(folder), kNewShards + 1u);
  }

  TemporaryFolder folder_;
  int folders_ = 0;
  const std::vector<testing::ExampleSession> new_sessions_ = example_sessions(307, kCatalogue);
  const uint64_t new_ = write_example(folder_ / "new", new_sessions_, kNewShards, kCatalogue).data_digest;
  uint64_t former_ = 0;
};

TEST_F(StoreFaults, KilledBetweenAnyTwoCallsLeavesTheFormerStoreOrTheNewOne) {
  std::set<uint64_t> seen;
  uint64_t n = 0;
  for (;; ++n) {
    const fs::path folder = fresh_folder(true);
    const bool killed = killed_at(n, [&] { write_new(folder); });
    const uint64_t digest = digest_of(folder);
    ASSERT_THAT(digest, AnyOf(former_, new_)) << "killed before call " << n;
    seen.insert(digest);
    expect_next_writer_cleans_up(folder);
    fs::remove_all(folder);
    if (!killed) break;
  }
  EXPECT_GT(n, 50u) << "calls that change files";
  EXPECT_EQ(seen.size(), 2u) << "some kills come before the manifest, some after it";
}

TEST_F(StoreFaults, KilledBetweenAnyTwoCallsLeavesNoStoreThatLooksComplete) {
  for (uint64_t n = 0;; ++n) {
    const fs::path folder = fresh_folder(false);
    const bool killed = killed_at(n, [&] { write_new(folder); });
    ASSERT_THAT(digest_of(folder), AnyOf(uint64_t{0}, new_)) << "killed before call " << n;
    expect_next_writer_cleans_up(folder);
    fs::remove_all(folder);
    if (!killed) break;
  }
}

TEST_F(StoreFaults, ADiskThatIsFullFromAnyCallOnIsAClearErrorAndKeepsTheFormerStore) {
  int errors = 0;
  for (uint64_t n = 0;; ++n) {
    const fs::path folder = fresh_folder(true);
    const int code =
        exit_with_fault(Fault::disk_full, n, "No space left on device. Free some space", [&] { write_new(folder); });
    if (code == 98) break;
    ASSERT_THAT(code, AnyOf(int{kExitDone}, int{kExitSurroundings})) << "from call " << n;
    ASSERT_EQ(digest_of(folder), code == kExitDone ? new_ : former_) << "from call " << n;
    if (code != kExitDone) {
      ASSERT_EQ(files_in(folder), 3u) << "nothing but the former store; from call " << n;
      ++errors;
    }
    fs::remove_all(folder);
  }
  EXPECT_GT(errors, 40);
}

// What it has is in part in files and in part not, so that a store made of the rest would not be that of its sessions.
TEST_F(StoreFaults, AWriterThatMetAFullDiskDoesNotGoOn) {
  int errors = 0;
  for (uint64_t n = 0;; ++n) {
    const fs::path folder = fresh_folder(true);
    StoreWriter writer(folder, kNewShards, testing::events_of(new_sessions_), {}, /*in_memory=*/1000);
    testing::arm(Fault::disk_full, n);
    bool failed = false;
    try {
      for (const testing::ExampleSession& session : new_sessions_) writer.add(session.record());
      testing::commit_example(writer, kCatalogue);
    } catch (const SurroundingsError&) {
      failed = true;
    }
    testing::arm(Fault::none, 0);
    if (failed) {
      ASSERT_THROW(writer.add(new_sessions_[0].record()), BugError) << "from call " << n;
      ASSERT_THROW(testing::commit_example(writer, kCatalogue), BugError) << "from call " << n;
    }
    ASSERT_EQ(digest_of(folder), failed ? former_ : new_) << "from call " << n;
    fs::remove_all(folder);
    errors += failed;
    if (!failed) break;
  }
  EXPECT_GT(errors, 40);
}

TEST_F(StoreFaults, AFailingFsyncIsAnError) {
  int errors = 0;
  for (uint64_t n = 0;; ++n) {
    const fs::path folder = fresh_folder(true);
    const int code = exit_with_fault(Fault::failing_fsync, n, "fsync", [&] { write_new(folder); });
    if (code == 98) break;
    ASSERT_EQ(code, int{kExitSurroundings}) << "from fsync " << n;
    ASSERT_THAT(digest_of(folder), AnyOf(former_, new_));
    fs::remove_all(folder);
    ++errors;
  }
  EXPECT_EQ(errors, 3 + 1 + 3 + 1) << "each shard when finished, the manifest; then the folder for the name of each";
}

// A real small file system.
class FullDisk : public StoreFaults {
 protected:
  void SetUp() override {
    fs::create_directory(disk_);
    if (::geteuid() != 0) GTEST_SKIP() << "mounting a small file system needs root";
    if (::mount("tmpfs", disk_.c_str(), "tmpfs", 0, "size=64m") != 0) GTEST_SKIP() << "mount: " << errno_text(errno);
    mounted_ = true;
  }
  void TearDown() override {
    if (mounted_) ::umount2(disk_.c_str(), MNT_DETACH);
  }
  // Leaves so many bytes.
  void fill_but(uint64_t bytes) const {
    std::ofstream(disk_ / "ballast").close();
    fs::resize_file(disk_ / "ballast", 0);
    const uint64_t available = fs::space(disk_).available;
    std::ofstream out(disk_ / "ballast");
    out << std::string(available > bytes ? available - bytes : 0, 'x');
  }
  const fs::path disk_ = folder_ / "disk";
  bool mounted_ = false;
};

TEST_F(FullDisk, IsAClearErrorAtAnyLevelAndKeepsTheFormerStore) {
  const fs::path folder = disk_ / "store";
  const uint64_t former = write_example(folder, example_sessions(211, kCatalogue), 2, kCatalogue).data_digest;
  int errors = 0;
  for (uint64_t left = 0;; left += 16 << 10) {
    ASSERT_LT(left, 16u << 20) << "it must succeed at last";
    fill_but(left);
    const int code = exit_with_fault(Fault::none, 0, "No space left on device. Free some space", [&] { write_new(folder); });
    if (code != kExitSurroundings) break;
    ASSERT_EQ(digest_of(folder), former) << "with " << left << " bytes left";
    ASSERT_EQ(files_in(folder), 3u);
    ++errors;
  }
  EXPECT_EQ(digest_of(folder), new_);
  EXPECT_GT(errors, 5);
}

// Index of the last call before `end` for which `wanted` holds, or of the first from `begin`; -1 for none.
using Wanted = std::function<bool(const WatchedCall&)>;
int64_t last_before(const std::vector<WatchedCall>& calls, int64_t end, const Wanted& wanted) {
  for (int64_t i = end - 1; i >= 0; --i) {
    if (wanted(calls[static_cast<size_t>(i)])) return i;
  }
  return -1;
}
int64_t first_from(const std::vector<WatchedCall>& calls, int64_t begin, const Wanted& wanted) {
  for (int64_t i = begin; i < static_cast<int64_t>(calls.size()); ++i) {
    if (wanted(calls[static_cast<size_t>(i)])) return i;
  }
  return -1;
}

TEST(StoreDurability, EveryFileIsSyncedBeforeItsRenameAndTheManifestComesLast) {
  const TemporaryFolder folder;
  const fs::path store = fs::canonical(folder.path()) / "store";
  write_example(store, example_sessions(211, kCatalogue), 2, kCatalogue);
  const auto calls =
      watched_calls(fmt::format("{}/write_example_store {} 307 3", testing::build_folder().string(), store.string()), store,
                    folder / "trace");
  if (calls.empty()) GTEST_SKIP() << "strace is not installed or may not trace here";

  const auto end = static_cast<int64_t>(calls.size());
  int64_t shards_durable = -1, manifest_renamed = -1, manifest_durable = -1;
  int renamed = 0;
  for (int64_t i = 0; i < end; ++i) {
    const WatchedCall& rename = calls[static_cast<size_t>(i)];
    if (rename.name != "rename") continue;
    const auto writes = [&](const WatchedCall& call) {
      return call.name != "fsync" && call.name != "rename" && call.file == rename.file;
    };
    const auto syncs = [&](const WatchedCall& call) { return call.name == "fsync" && call.file == rename.file; };
    const auto syncs_folder = [&](const WatchedCall& call) { return call.name == "fsync" && call.file == store; };
    const int64_t written = last_before(calls, end, writes), synced = last_before(calls, i, syncs);
    EXPECT_GE(written, 0) << rename.to;
    EXPECT_LT(written, synced) << rename.to << " is synced after its last byte and before it gets its name";
    const int64_t durable = first_from(calls, i, syncs_folder);
    EXPECT_GE(durable, 0) << "the folder is synced after " << rename.to << " got its name";
    const bool manifest = rename.to.filename() == "manifest.h5";
    (manifest ? manifest_durable : shards_durable) = durable;
    if (manifest) manifest_renamed = i;
    ++renamed;
  }
  EXPECT_EQ(renamed, 4) << "three shards and a manifest";
  EXPECT_GT(manifest_renamed, shards_durable) << "the manifest gets its name when all shards durably have theirs";
  const auto removes_shard = [](const WatchedCall& call) {
    return call.name == "unlink" && call.file.filename().string().starts_with("shard-");
  };
  EXPECT_GT(first_from(calls, 0, removes_shard), manifest_durable) << "the former shards go when the new manifest is durable";
}

}  // namespace
}  // namespace gru4rec

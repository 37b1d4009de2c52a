// A whole ingest, from the file of events on, that is killed or finds its disk full leaves the former store or the new one.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <limits>
#include <set>

#include "gru4rec/base/error.h"
#include "gru4rec/base/random.h"
#include "gru4rec/data/ingest.h"
#include "support/faulty_calls.h"
#include "support/temporary_folder.h"

namespace gru4rec {
namespace {

using ::testing::AnyOf;
using testing::exit_with_fault;
using testing::Fault;
using testing::killed_at;
namespace fs = std::filesystem;

constexpr uint64_t kNever = std::numeric_limits<uint64_t>::max();

// All ingests run in children: Arrow's threads do not survive a fork.
class IngestFaults : public ::testing::Test {
 protected:
  IngestFaults() {
    former_ = digest_of_undisturbed("former.tsv", 307);
    new_ = digest_of_undisturbed("new.tsv", 509);
  }

  void write_events(const std::string& name, uint64_t events) {
    std::ofstream out(folder_ / name);
    out << "user_id\titem_id\ttimestamp\n";
    for (uint64_t i = 0; i < events; ++i)
      out << fmt::format("u{}\ti{}\t{}\n", mix64(i) % 37, mix64(i + events) % 23, i * 7 % events);
  }
  static void ingest_events(const Options& options) { ingest(options); }
  static void append_events(const Options& options) { append(options); }
  void run(const std::string& name, void (*command)(const Options&) = ingest_events) const {
    Options options;
    options.data_path = folder_.path().string();
    options.train_file = name;
    options.store = store_.string();
    options.shards = 3;
    command(options);
  }
  uint64_t digest_of_undisturbed(const std::string& name, uint64_t events) {
    write_events(name, events);
    EXPECT_FALSE(killed_at(kNever, [&] { run(name); }));
    return digest();
  }
  // Of the store after a full check; 0 if there is none.
  uint64_t digest() const {
    if (!fs::exists(store_ / "manifest.h5")) return 0;
    const Store store(store_);
    store.verify();
    return store.info().data_digest;
  }

  testing::TemporaryFolder folder_;
  const fs::path store_ = folder_ / "store";
  uint64_t former_ = 0, new_ = 0;
};

TEST_F(IngestFaults, KilledBeforeAnyCallLeavesTheFormerStoreOrTheNewOne) {
  std::set<uint64_t> seen;
  for (uint64_t n = 0;; ++n) {
    ASSERT_FALSE(killed_at(kNever, [&] { run("former.tsv"); })) << "what a killed ingest left is in the way";
    ASSERT_EQ(digest(), former_);
    const bool killed = killed_at(n, [&] { run("new.tsv"); });
    ASSERT_THAT(digest(), AnyOf(former_, new_)) << "killed before call " << n;
    seen.insert(digest());
    if (!killed) break;
  }
  EXPECT_EQ(seen.size(), 2u) << "some kills come before the manifest, some after it";
}

TEST_F(IngestFaults, KilledBeforeAnyCallLeavesNoStoreThatLooksComplete) {
  for (uint64_t n = 0;; ++n) {
    fs::remove_all(store_);
    const bool killed = killed_at(n, [&] { run("new.tsv"); });
    ASSERT_THAT(digest(), AnyOf(uint64_t{0}, new_)) << "killed before call " << n;
    if (!killed) break;
  }
  EXPECT_EQ(digest(), new_);
}

TEST_F(IngestFaults, AnAppendThatIsKilledBeforeAnyCallLeavesTheFormerStoreOrTheGrownOne) {
  const fs::path kept = folder_ / "kept";
  ASSERT_FALSE(killed_at(kNever, [&] { run("former.tsv"); }));
  fs::copy(store_, kept);
  ASSERT_FALSE(killed_at(kNever, [&] { run("new.tsv", append_events); }));
  const uint64_t grown = digest();
  ASSERT_NE(grown, former_);
  std::set<uint64_t> seen;
  for (uint64_t n = 0;; ++n) {
    fs::remove_all(store_);
    fs::copy(kept, store_);
    const bool killed = killed_at(n, [&] { run("new.tsv", append_events); });
    ASSERT_THAT(digest(), AnyOf(former_, grown)) << "killed before call " << n;
    seen.insert(digest());
    if (!killed) break;
    ASSERT_FALSE(killed_at(kNever, [&] { run("new.tsv", append_events); })) << "what a killed append left is in the way";
    ASSERT_EQ(digest(), grown);
  }
  EXPECT_EQ(seen.size(), 2u) << "some kills come before the manifest, some after it";
}

TEST_F(IngestFaults, AFullDiskIsAnErrorThatLeavesTheFormerStore) {
  ASSERT_FALSE(killed_at(kNever, [&] { run("former.tsv"); }));
  for (uint64_t n = 0;; ++n) {
    const int code = exit_with_fault(Fault::disk_full, n, "No space left on device", [&] { run("new.tsv"); });
    if (code == 98) break;  // fewer calls
    ASSERT_THAT(code, AnyOf(int{kExitSurroundings}, int{kExitDone})) << "full from call " << n;
    ASSERT_EQ(digest(), code == kExitDone ? new_ : former_) << "full from call " << n;
    if (code == kExitDone) {
      ASSERT_FALSE(killed_at(kNever, [&] { run("former.tsv"); }));
    }
  }
  EXPECT_EQ(digest(), new_);
}

}  // namespace
}  // namespace gru4rec

// Ingest keeps to the formula for its memory that data/ingest.h states.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <functional>

#include "gru4rec/base/random.h"
#include "gru4rec/data/ingest.h"
#include "support/temporary_folder.h"

namespace gru4rec {
namespace {

// Highest resident memory of a process that does this and ends, in bytes.
uint64_t peak_bytes(const std::function<void()>& work) {
  const pid_t child = ::fork();
  if (child == 0) {
    int code = 0;
    try {
      work();
    } catch (...) {
      code = 1;
    }
    ::_exit(code);
  }
  int status = 0;
  rusage usage{};
  EXPECT_EQ(::wait4(child, &status, 0, &usage), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  return static_cast<uint64_t>(usage.ru_maxrss) * 1024;
}

TEST(IngestMemory, OfTwoMillionEventsIsWithinTheFormula) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a sanitizer keeps memory of its own";
#endif
  constexpr uint64_t kEvents = 2'000'003, kSessions = 150'001, kItems = 20'011;
  const testing::TemporaryFolder folder;
  std::ofstream few(folder / "few.tsv"), many(folder / "many.tsv");
  few << "user_id\titem_id\ttimestamp\nu\ti\t1\nu\tj\t2\n";
  many << "user_id\titem_id\ttimestamp\n";
  for (uint64_t i = 0; i < kEvents; ++i)
    many << fmt::format("user-{:07}\titem-{:06}\t{}\n", mix64(i) % kSessions, mix64(i + kEvents) % kItems,
                        mix64(i) % 1'000'003);
  few.close();
  many.close();

  Options options;
  options.data_path = folder.path().string();
  options.store = (folder / "store").string();
  options.train_file = "few.tsv";
  const uint64_t nothing = peak_bytes([&] { ingest(options); });
  options.train_file = "many.tsv";
  options.merge_repeats = true;  // with every filter on
  options.rm_dup_inter = DuplicateRule::last;
  options.user_inter_num_interval = {{2, 1e9, true, true}};
  options.min_item_support = 3;
  const uint64_t all = peak_bytes([&] { ingest(options); });

  constexpr uint64_t kIds = kSessions + kItems, kLengths = 12 * kSessions + 11 * kItems;
  constexpr uint64_t kForEvents = kIngestBytesPerEvent * kEvents + kIngestBytesPerId * kIds + kLengths;
  EXPECT_LE(all, kIngestBaseBytes + kForEvents);
  EXPECT_LE(all - nothing, kIngestBaseBytes / 3 + kForEvents) << "the base hides what the events take";
  EXPECT_GE(2 * all, kForEvents) << "the formula promises far more than is used";
}

// Ids take the more the less often each appears.
TEST(IngestMemory, OfAMillionItemsThatAppearOnceIsWithinTheFormula) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a sanitizer keeps memory of its own";
#endif
  constexpr uint64_t kItems = 1'500'007, kOfASession = 10, kSessions = (kItems + kOfASession - 1) / kOfASession;
  const testing::TemporaryFolder folder;
  std::ofstream file(folder / "items.tsv");
  file << "user_id\titem_id\ttimestamp\n";
  for (uint64_t i = 0; i < kItems; ++i) file << fmt::format("{}\titem-{:019}\t{}\n", i / kOfASession, i, i);
  file.close();
  Options options;
  options.data_path = folder.path().string();
  options.store = (folder / "store").string();
  options.train_file = "items.tsv";
  constexpr uint64_t kLengths = 6 * kSessions + 24 * kItems;
  EXPECT_LE(peak_bytes([&] { ingest(options); }),
            kIngestBaseBytes / 2 + kIngestBytesPerEvent * kItems + kIngestBytesPerId * (kItems + kSessions) + kLengths);
}

TEST(IngestMemory, OfAStoreIsThatOfItsArraysHoweverLongItsSessionsAre) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a sanitizer keeps memory of its own";
#endif
  const testing::TemporaryFolder folder;
  const auto peak = [&](uint64_t sessions, uint64_t events) {
    return peak_bytes([&] {
      const std::vector<uint32_t> items(events, 1);
      const std::vector<int64_t> times(events, 7);
      StoreWriter writer(folder / "store", 1, 0, {}, /*in_memory=*/uint64_t{1} << 20);
      const auto end = static_cast<uint32_t>(events);
      for (uint64_t i = 0; i < sessions; ++i) writer.add({"id", items, times, end, end});
      writer.commit({}, std::vector<std::string>{"item"});
    });
  };
  EXPECT_LT(peak(100, 60'000), peak(600'000, 10) + (uint64_t{12} << 20)) << "one session and not all of them at once";
}

}  // namespace
}  // namespace gru4rec

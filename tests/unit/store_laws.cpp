// Laws of the session store: what is written is read, whatever the number of shards.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <fstream>
#include <map>
#include <numeric>
#include <thread>

#include "gru4rec/base/error.h"
#include "gru4rec/base/hash.h"
#include "gru4rec/data/columns.h"
#include "support/store_example.h"
#include "support/temporary_folder.h"

namespace gru4rec {
namespace {

using testing::commit_example;
using testing::events_of;
using testing::example_names;
using testing::example_session;
using testing::example_sessions;
using testing::ExampleSession;
using testing::TemporaryFolder;
using testing::write_example;
namespace fs = std::filesystem;

constexpr uint64_t kCatalogue = 997;

std::map<std::string, std::string> files_of(const fs::path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::directory_iterator(folder)) {
    std::ifstream in(entry.path(), std::ios::binary);
    files[entry.path().filename().string()] = {std::istreambuf_iterator<char>(in), {}};
  }
  return files;
}

void expect_holds(const Store& store, const std::vector<ExampleSession>& sessions) {
  ASSERT_EQ(store.info().sessions, sessions.size());
  ASSERT_EQ(store.info().events, events_of(sessions));
  const auto shapes = store.shapes(0, sessions.size());
  const auto ids = store.session_ids(0, sessions.size());
  uint64_t event = 0;
  for (size_t s = 0; s < sessions.size(); ++s) {
    ASSERT_EQ(shapes[s].first_event, event) << s;
    ASSERT_EQ(shapes[s].events, sessions[s].items.size()) << s;
    ASSERT_EQ(shapes[s].train_end, sessions[s].train_end) << s;
    ASSERT_EQ(shapes[s].valid_end, sessions[s].valid_end) << s;
    ASSERT_EQ(ids[s], sessions[s].id);
    event += shapes[s].events;
  }
  std::vector<uint32_t> items, wanted_items;
  std::vector<int64_t> times, wanted_times;
  for (const ExampleSession& session : sessions) {
    wanted_items.insert(wanted_items.end(), session.items.begin(), session.items.end());
    wanted_times.insert(wanted_times.end(), session.times.begin(), session.times.end());
  }
  items.resize(event);
  times.resize(event);
  store.read_items(0, items);
  store.read_times(0, times);
  EXPECT_EQ(items, wanted_items);
  EXPECT_EQ(times, wanted_times);
}

TEST(Store, ReadsWhatWasWritten) {
  const TemporaryFolder folder;
  const auto sessions = example_sessions(1501, kCatalogue);
  const StoreInfo written = write_example(folder / "store", sessions, 3, kCatalogue);
  const Store store(folder / "store");
  expect_holds(store, sessions);
  EXPECT_EQ(store.item_names(), example_names(kCatalogue));
  EXPECT_EQ(store.info().dataset, "example");
  EXPECT_EQ(store.info().protocol, Protocol::next_item);
  EXPECT_EQ(store.info().ingest_json, written.ingest_json);
  EXPECT_EQ(store.info().data_digest, written.data_digest);
  uint64_t train = 0, valid = 0, test = 0;
  for (const ExampleSession& session : sessions) {
    train += session.train_end - 1;
    valid += session.valid_end - session.train_end;
    test += session.items.size() - session.valid_end;
  }
  EXPECT_EQ(store.info().train_targets, train);
  EXPECT_EQ(store.info().valid_targets, valid);
  EXPECT_EQ(store.info().test_targets, test);
  store.verify();
}

TEST(Store, OneShardEqualsSevenShards) {
  const TemporaryFolder folder;
  const auto sessions = example_sessions(2003, kCatalogue);
  const StoreInfo one = write_example(folder / "one", sessions, 1, kCatalogue);
  const StoreInfo seven = write_example(folder / "seven", sessions, 7, kCatalogue);
  ASSERT_EQ(one.shards.size(), 1u);
  ASSERT_EQ(seven.shards.size(), 7u);
  EXPECT_EQ(one.data_digest, seven.data_digest);
  const Store store(folder / "seven");
  expect_holds(store, sessions);
  store.verify();
}

// Of the arrays of a shard some are in memory in several pieces, others in a file, and those of the next shard in memory again.
TEST(Store, OfArraysThatDoNotStayInMemoryIsWhatWasWritten) {
  const TemporaryFolder folder;
  constexpr uint64_t kEvents = 30'011;
  const auto item = [](uint64_t event) { return static_cast<uint32_t>(1 + mix64(event) % kCatalogue); };
  StoreWriter writer(folder / "store", 1, 0, {}, 2 << 20);
  for (uint64_t s = 0; s < 16; ++s) {
    ExampleSession session{.id = fmt::format("s{}", s), .items = {}, .times = {}, .train_end = 3, .valid_end = 5};
    for (uint64_t i = 0; i < kEvents; ++i) {
      session.items.push_back(item(s * kEvents + i));
      session.times.push_back(static_cast<int64_t>(s * kEvents + i));
    }
    writer.add(session.record());
    if (s == 14) writer.end_shard();  // the times of what is there have 3.6 MB, those of the rest 0.2
  }
  StoreInfo info;
  info.dataset = "example";
  info.protocol = Protocol::next_item;
  writer.commit(info, example_names(kCatalogue));
  const Store store(folder / "store");
  ASSERT_EQ(store.info().shards.size(), 2u);
  store.verify();
  uint64_t event = 0;
  store.visit_sessions(0, 16, [&](const SessionRecord& session) {
    for (size_t i = 0; i < session.items.size(); ++i, ++event)
      if (session.items[i] != item(event) || session.times[i] != static_cast<int64_t>(event)) return false;
    return true;
  });
  EXPECT_EQ(event, 16 * kEvents);
}

TEST(Store, AnyRangeAcrossShardsEqualsTheSameRangeOfOneShard) {
  const TemporaryFolder folder;
  const auto sessions = example_sessions(2503, kCatalogue);
  write_example(folder / "one", sessions, 1, kCatalogue);
  write_example(folder / "five", sessions, 5, kCatalogue);
  const Store one(folder / "one");
  const Stream random(3, Purpose::window_order);
  std::unique_ptr<Store> five;
  for (uint64_t trial = 0; trial < 200; ++trial) {
    if (trial % 20 == 0)
      five = std::make_unique<Store>(folder / "five");  // some reads of unverified blocks, some of verified ones
    const uint64_t first = random.below(2 * trial, one.info().events);
    const uint64_t count = random.below(2 * trial + 1, one.info().events - first + 1);
    std::vector<uint32_t> a(count), b(count);
    one.read_items(first, a);
    five->read_items(first, b);
    ASSERT_EQ(a, b);
    const uint64_t session = random.below(3000 + 2 * trial, sessions.size());
    const uint64_t some = random.below(3001 + 2 * trial, sessions.size() - session + 1);
    ASSERT_EQ(one.session_ids(session, some), five->session_ids(session, some));
    const auto shapes_one = one.shapes(session, some), shapes_five = five->shapes(session, some);
    for (uint64_t s = 0; s < some; ++s) ASSERT_EQ(shapes_one[s].first_event, shapes_five[s].first_event);
  }
}

TEST(Store, EqualContentGivesEqualBytesOfEveryFile) {
  const TemporaryFolder folder;
  const auto sessions = example_sessions(1009, kCatalogue);
  write_example(folder / "a", sessions, 2, kCatalogue);
  std::this_thread::sleep_for(std::chrono::milliseconds(1100));  // a time stamp would differ
  write_example(folder / "b", sessions, 2, kCatalogue);
  EXPECT_EQ(files_of(folder / "a"), files_of(folder / "b"));
}

// On a disk large arrays pass the page cache, with what ends in the midst of a block as usual, from memory or from a file.
TEST(Store, OfLargeArraysHasTheSameBytesWhereverTheyAndTheFilesAre) {
  const TemporaryFolder in_memory("/dev/shm"), on_disk("/var/tmp");
  const auto sessions = example_sessions(250'007, kCatalogue);
  ASSERT_GT(events_of(sessions) * sizeof(int64_t), 9 << 20) << "more than is written at once";
  const auto written = [&](const fs::path& folder, uint64_t bytes) {
    EXPECT_EQ(write_example(folder, sessions, 1, kCatalogue, bytes).sessions, sessions.size());
    Store(folder).verify();
    return files_of(folder);
  };
  const auto usual = written(in_memory / "a", StoreWriter::kInMemory);
  EXPECT_EQ(written(on_disk / "a", StoreWriter::kInMemory), usual);
  EXPECT_EQ(written(on_disk / "b", 1 << 20), usual) << "arrays that came from files";
}

// Sessions that stay where they are: one behind the other in memory, with gaps, in another order, among others that are copied,
// and among more of those than may stay in memory.
TEST(Store, OfSessionsThatAreNotCopiedHasTheSameBytes) {
  const TemporaryFolder folder;
  const auto sessions = example_sessions(60'013, kCatalogue);
  write_example(folder / "copied", sessions, 3, kCatalogue);
  const auto usual = files_of(folder / "copied");
  const uint64_t events = events_of(sessions);
  const auto expect_same = [&](const std::string& name, size_t gap, bool backwards, size_t copied, uint64_t in_memory) {
    std::vector<uint32_t> items(events + gap * sessions.size());
    std::vector<int64_t> times(items.size());
    std::vector<size_t> places;  // of the sessions
    size_t place = backwards ? items.size() : 0;
    for (const ExampleSession& session : sessions) {
      const size_t room = session.items.size() + gap;
      if (backwards) place -= room;
      places.push_back(place);
      std::ranges::copy(session.items, items.begin() + static_cast<int64_t>(place));
      std::ranges::copy(session.times, times.begin() + static_cast<int64_t>(place));
      if (!backwards) place += room;
    }
    for (const int64_t far_off : {int64_t{0}, int64_t{1} << 40}) {  // numbers of 4 bytes, and of 8
      NearNumbers numbers;
      numbers.append(times);
      numbers.append(std::array{far_off});
      auto writer = std::make_unique<StoreWriter>(folder / name, 3, events, std::vector<StoreInfo::Shard>(), in_memory);
      for (size_t s = 0; s < sessions.size(); ++s) {
        const ExampleSession& session = sessions[s];
        const SessionRecord record{
            session.id, std::span(items).subspan(places[s], session.items.size()),
            copied > 0 && s % copied == 0 ? std::span<const int64_t>(session.times) : std::span<const int64_t>(),
            session.train_end, session.valid_end};
        if (copied > 0 && s % copied == 0)
          writer->add(record);
        else
          writer->add_lasting(record, numbers, places[s]);
      }
      commit_example(*writer, kCatalogue);
      writer.reset();  // and with it its files that were too many for memory
      Store(folder / name).verify();
      EXPECT_TRUE(files_of(folder / name) == usual) << name << far_off;
    }
  };
  expect_same("in a row", 0, false, 0, StoreWriter::kInMemory);
  expect_same("with gaps", 1, false, 0, StoreWriter::kInMemory);
  expect_same("backwards", 0, true, 0, StoreWriter::kInMemory);
  expect_same("among others", 0, false, 3, StoreWriter::kInMemory);
  expect_same("among many", 2, true, 2, 100'000);
  expect_same("cut in the midst of numbers", 0, false, 3, 1001);
}

TEST(Store, DigestChangesWithEveryPartOfTheContent) {
  const TemporaryFolder folder;
  const auto digest_with = [&](auto change) {
    auto sessions = example_sessions(101, kCatalogue);
    auto names = example_names(kCatalogue);
    StoreInfo info;
    change(sessions, names, info);
    StoreWriter writer(folder / "store", 1, 0);
    for (const ExampleSession& session : sessions) writer.add(session.record());
    return writer.commit(info, names).data_digest;
  };
  using Sessions = std::vector<ExampleSession>;
  using Names = std::vector<std::string>;
  std::vector<uint64_t> digests = {
      digest_with([](Sessions&, Names&, StoreInfo&) {}),
      digest_with([](Sessions& s, Names&, StoreInfo&) { s[7].items[0] ^= 1; }),
      digest_with([](Sessions& s, Names&, StoreInfo&) { s[7].times[0] += 1; }),
      digest_with([](Sessions& s, Names&, StoreInfo&) { s[7].id += "x"; }),
      digest_with([](Sessions& s, Names&, StoreInfo&) { std::swap(s[3], s[4]); }),
      digest_with([](Sessions& s, Names&, StoreInfo&) { s[9].train_end = s[9].train_end == 1 ? (s[9].valid_end = 2) : 1; }),
      digest_with([](Sessions&, Names& n, StoreInfo&) { n[5] += "x"; }),
      digest_with([](Sessions&, Names&, StoreInfo& i) { i.protocol = Protocol::next_item; }),
  };
  EXPECT_EQ(digest_with([](Sessions&, Names&, StoreInfo& i) { i.ingest_json = "{}"; }), digests[0])
      << "statistics are no content";
  std::sort(digests.begin(), digests.end());
  EXPECT_EQ(std::unique(digests.begin(), digests.end()), digests.end());
}

TEST(Store, ShardsAreBalancedToWithinOneSession) {
  const TemporaryFolder folder;
  const auto sessions = example_sessions(3001, kCatalogue, 97);
  const StoreInfo info = write_example(folder / "store", sessions, 7, kCatalogue);
  ASSERT_EQ(info.shards.size(), 7u);
  const double wanted = static_cast<double>(info.events) / 7;
  for (const StoreInfo::Shard& shard : info.shards) EXPECT_NEAR(static_cast<double>(shard.events), wanted, 97.0);
}

TEST(Store, FewerSessionsThanShardsGiveOneShardASession) {
  const TemporaryFolder folder;
  const auto sessions = example_sessions(3, kCatalogue);
  write_example(folder / "store", sessions, 64, kCatalogue);
  const Store store(folder / "store");
  EXPECT_LE(store.info().shards.size(), 3u);
  expect_holds(store, sessions);
}

TEST(Store, ReplacingLeavesOnlyTheFilesOfTheNewStoreAndOpenReadersKeepTheOldOne) {
  const TemporaryFolder folder;
  const auto before = example_sessions(503, kCatalogue), after = example_sessions(211, kCatalogue);
  write_example(folder / "store", before, 5, kCatalogue);
  const Store open(folder / "store");
  write_example(folder / "store", after, 2, kCatalogue);
  expect_holds(open, before);
  expect_holds(Store(folder / "store"), after);
  EXPECT_EQ(files_of(folder / "store").size(), 3u) << "a manifest and two shards";
}

TEST(Store, WriterThatIsNotCommittedLeavesNothing) {
  const TemporaryFolder folder;
  const auto sessions = example_sessions(503, kCatalogue);
  {
    StoreWriter writer(folder / "store", 3, events_of(sessions));
    for (const ExampleSession& session : sessions) writer.add(session.record());
    EXPECT_THROW(Store(folder / "store"), UserError);
  }
  EXPECT_TRUE(fs::is_empty(folder / "store"));
}

TEST(Store, ReadsOfOneEventReadAtMostItsBlockTheFirstTimeAndFourBytesLater) {
  const TemporaryFolder folder;
  const auto sessions = example_sessions(5003, kCatalogue);
  write_example(folder / "store", sessions, 1, kCatalogue);
  const Store store(folder / "store");
  uint32_t item = 0;
  const uint64_t opened = store.bytes_read();
  store.read_items(50'021, {&item, 1});
  EXPECT_EQ(store.bytes_read() - opened, 8192u * 4);
  store.read_items(50'022, {&item, 1});
  EXPECT_EQ(store.bytes_read() - opened, 8192u * 4 + 4);
}

TEST(Store, SeveralThreadsReadTheSameStore) {
  const TemporaryFolder folder;
  const auto sessions = example_sessions(2003, kCatalogue);
  write_example(folder / "store", sessions, 3, kCatalogue);
  const Store shared(folder / "store");
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      const Store own(folder / "store");
      expect_holds(t % 2 == 0 ? shared : own, sessions);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(Store, BrokenRecordsAreBugsOfTheWriter) {
  const TemporaryFolder folder;
  StoreWriter writer(folder / "store", 1, 0);
  const ExampleSession good = example_session(1, kCatalogue);
  const auto n = static_cast<uint32_t>(good.items.size());
  EXPECT_THROW(writer.add({"a", {}, {}, 1, 1}), BugError);
  EXPECT_THROW(writer.add({"a", good.items, std::span(good.times).first(n - 1), 1, 1}), BugError);
  EXPECT_THROW(writer.add({"a", good.items, good.times, 0, 1}), BugError);
  NearNumbers times;
  times.append(good.times);
  for (const uint64_t first : {uint64_t{1}, uint64_t{n}, UINT64_MAX})
    EXPECT_THROW(writer.add_lasting({"a", good.items, {}, 1, 1}, times, first), BugError) << "times that are not there";
  EXPECT_THROW(writer.add({"a", good.items, good.times, 1, n + 1}), BugError);
  EXPECT_THROW(writer.commit({}, example_names(kCatalogue)), UserError) << "an empty store";
  writer.add({"a", std::vector<uint32_t>{kCatalogue + 1}, std::vector<int64_t>{0}, 1, 1});
  EXPECT_THROW(writer.commit({}, example_names(kCatalogue)), BugError) << "an item beyond the catalogue";
}

}  // namespace
}  // namespace gru4rec

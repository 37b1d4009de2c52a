// Laws of ingest --append: what is later joins as if it had been there, known items keep their numbers, what is not new changes
// nothing, and files that both stores have in common are not touched.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>

#include "gru4rec/base/error.h"
#include "gru4rec/base/random.h"
#include "gru4rec/data/ingest.h"
#include "support/temporary_folder.h"

namespace gru4rec {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
namespace fs = std::filesystem;

struct Event {
  int64_t session;
  uint64_t item;
  int64_t time;
};

// Sessions [first, last), one after the other in time, from a catalogue that grows; those divisible by 7 go on a while later.
std::vector<Event> sessions_between(int64_t first, int64_t last) {
  std::vector<Event> all;
  for (int64_t s = first; s < last; ++s) {
    const Stream random(11, Purpose::block_order, static_cast<uint64_t>(s));
    const int64_t events = 2 + static_cast<int64_t>(random.below(0, 5));
    for (int64_t i = 0; i < events; ++i)
      all.push_back({s, random.below(static_cast<uint64_t>(10 + i), static_cast<uint64_t>(5 + s / 3)), s * 100 + i});
    if (s % 7 == 3 && s > 3) all.push_back({s - 3, random.below(99, static_cast<uint64_t>(5 + s / 3)), s * 100 + 50});
  }
  return all;
}

class Append : public ::testing::Test {
 protected:
  Options options(const std::string& store, const std::string& file) const {
    Options o;
    o.dataset = "made";
    o.data_path = folder_.path().string();
    o.store = (folder_ / store).string();
    o.train_file = file;
    return o;
  }
  void write(const std::string& name, const std::vector<Event>& events) const {
    std::ofstream out(folder_ / name);
    out << "user_id\titem_id\ttimestamp\n";
    for (const Event& event : events) out << fmt::format("s{}\ti{}\t{}\n", event.session, event.item, event.time);
  }
  void write_text(const std::string& name, const std::string& rows) const {
    std::ofstream(folder_ / name) << "user_id\titem_id\ttimestamp\n" << rows;
  }

  // Each session as text, items by their original ids but 0 for those without a number, and both cuts.
  static std::vector<std::string> content(const std::string& folder) {
    const Store store(folder);
    store.verify();
    const auto& names = store.item_names();
    std::vector<std::string> lines;
    store.visit_sessions(0, store.info().sessions, [&](const SessionRecord& session) {
      std::string line = fmt::format("{} {} {}:", session.id, session.train_end, session.valid_end);
      for (size_t i = 0; i < session.items.size(); ++i)
        line += fmt::format(" {}@{}", session.items[i] ? names[session.items[i] - 1] : "0", session.times[i]);
      lines.push_back(line);
      return true;
    });
    return lines;
  }
  static std::string manifest(const std::string& folder) {
    std::ifstream in(fs::path(folder) / "manifest.h5", std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  template <typename Body>
  static std::string refusal(Body body) {
    try {
      body();
    } catch (const UserError& error) {
      return error.what();
    }
    return "nothing was refused";
  }

  testing::TemporaryFolder folder_;
};

SplitOptions by(SplitKind kind, double valid, double test, bool days = false) {
  SplitOptions split;
  split.kind = kind;
  split.temporal_valid = valid;
  split.temporal_test = test;
  split.temporal_days = days;
  return split;
}

TEST_F(Append, LaterEventsGiveTheStoreOfAnIngestOfAllAtOnce) {
  std::vector<std::pair<std::string, SplitOptions>> splits = {{"LS", {}},
                                                              {"RS", {}},
                                                              {"TS", by(SplitKind::temporal, 0.1, 0.15)},
                                                              {"TSdays", by(SplitKind::temporal, 0.02, 0.03, true)},
                                                              {"files", by(SplitKind::files, 0.1, 0)}};
  splits[1].second.kind = SplitKind::ratio;
  splits[1].second.ratio = {0.6, 0.2, 0.2};
  write("a.tsv", sessions_between(0, 101));
  write("b.tsv", sessions_between(101, 139));
  write("c.tsv", sessions_between(139, 151));
  write("all.tsv", sessions_between(0, 151));
  for (const auto& [name, split] : splits)
    for (const bool recbole_filters : {false, true}) {
      const std::string at = fmt::format("{}{}", name, recbole_filters);
      Options grown = options("grown" + at, "a.tsv"), whole = options("whole" + at, "all.tsv");
      for (Options* o : {&grown, &whole}) {
        o->split = split;
        o->shards = 5;
        o->session_gap = recbole_filters ? 30 : 0;
      }
      ingest(grown);
      const std::vector<std::string> before = Store(grown.store).item_names();
      for (const char* file : {"b.tsv", "c.tsv"}) {
        grown.train_file = file;
        EXPECT_TRUE(append(grown).grown) << at;
      }
      const StoreInfo wanted = ingest(whole).store, got = Store(grown.store).info();
      EXPECT_EQ(content(grown.store), content(whole.store)) << at;
      const std::vector<std::string> names = Store(grown.store).item_names();
      ASSERT_GT(names.size(), before.size()) << at;
      EXPECT_TRUE(std::equal(before.begin(), before.end(), names.begin())) << at << ": a known item has another number";
      EXPECT_THAT(names, ::testing::UnorderedElementsAreArray(Store(whole.store).item_names())) << at;
      if (wanted.protocol == Protocol::leave_one_out) {
        EXPECT_EQ(got.data_digest, wanted.data_digest) << at;
      }
      EXPECT_EQ(got.grown_from.size(), 2u);
      EXPECT_EQ(got.valid_targets, wanted.valid_targets) << at;
    }
}

TEST_F(Append, WhatIsNotNewChangesNothing) {
  write("a.tsv", sessions_between(0, 61));
  write("none.tsv", {});
  write_text("short.tsv", "one\ti1\t99999\n");
  Options o = options("store", "a.tsv");
  o.min_session_length = 2;
  o.split = by(SplitKind::temporal, 0.1, 0.2);
  ingest(o);
  const std::string before = manifest(o.store);
  for (const char* file : {"none.tsv", "a.tsv", "short.tsv"}) {
    o.train_file = file;
    const AppendReport report = append(o);
    EXPECT_FALSE(report.grown) << file;
    EXPECT_EQ(report.already_there, file == std::string("a.tsv") ? report.events_read : 0u);
    EXPECT_EQ(manifest(o.store), before) << file;
  }
  write("both.tsv", sessions_between(0, 71));
  write("b.tsv", sessions_between(61, 71));
  Options once = options("once", "a.tsv");
  once.min_session_length = 2;
  once.split = o.split;
  ingest(once);
  once.train_file = "b.tsv";
  o.train_file = "both.tsv";
  EXPECT_EQ(append(o).ingest.store.data_digest, append(once).ingest.store.data_digest);
}

TEST_F(Append, ShardsThatBothStoresBeginWithAreNotTouched) {
  write("a.tsv", sessions_between(0, 101));
  write("b.tsv", sessions_between(101, 121));
  write("c.tsv", sessions_between(121, 141));
  Options o = options("store", "a.tsv");
  o.split = by(SplitKind::temporal, 0.1, 0.1);
  o.shards = 6;
  ingest(o);
  const auto kept = [&](const std::vector<StoreInfo::Shard>& former) {
    const std::vector<StoreInfo::Shard> now = Store(o.store).info().shards;
    size_t same = 0;
    while (same < std::min(former.size(), now.size()) && former[same].file == now[same].file) ++same;
    return same;
  };
  for (const char* file : {"b.tsv", "c.tsv"}) {
    const std::vector<StoreInfo::Shard> former = Store(o.store).info().shards;
    std::map<std::string, fs::file_time_type> written;
    for (const auto& shard : former) written[shard.file] = fs::last_write_time(fs::path(o.store) / shard.file);
    o.train_file = file;
    append(o);
    const size_t same = kept(former);
    // Of the first store the sixth shard, and part of the fifth, are valid and test; an append ends a shard where training
    // ends.
    EXPECT_EQ(same, file == std::string("b.tsv") ? 4u : former.size() - 1) << file;
    for (size_t s = 0; s < same; ++s)
      EXPECT_EQ(fs::last_write_time(fs::path(o.store) / former[s].file), written[former[s].file]);
  }
}

TEST_F(Append, AnOpenStoreStaysAsItWas) {
  write("a.tsv", sessions_between(0, 61));
  write("b.tsv", sessions_between(61, 90));
  Options o = options("store", "a.tsv");
  ingest(o);
  const Store former(o.store);
  const std::vector<std::string> names = former.item_names();
  std::vector<uint32_t> items(former.info().events), again(items.size());
  former.read_items(0, items);
  o.train_file = "b.tsv";
  append(o);
  former.read_items(0, again);
  EXPECT_EQ(items, again);
  EXPECT_EQ(former.item_names(), names);
  EXPECT_TRUE(Store(o.store).info().extends(former.info().data_digest));
  EXPECT_FALSE(former.info().extends(Store(o.store).info().data_digest));
}

TEST_F(Append, UnseenItemsGetTheirNumbersWhenTheirSessionsAreTrainedOn) {
  write_text("a.tsv", "a\tx\t1\na\ty\t2\nb\ty\t3\nb\tx\t4\nc\tq\t5\nc\tx\t6\n");
  write_text("b.tsv", "d\tx\t7\nd\tz\t8\n");
  Options o = options("store", "a.tsv");
  o.split = by(SplitKind::temporal, 0, 0.34);
  ingest(o);
  EXPECT_THAT(content(o.store), ElementsAre("a 2 2: x@1 y@2", "b 2 2: y@3 x@4", "c 1 1: 0@5 x@6"));
  o.train_file = "b.tsv";
  append(o);
  EXPECT_THAT(content(o.store), ElementsAre("a 2 2: x@1 y@2", "b 2 2: y@3 x@4", "c 2 2: q@5 x@6", "d 1 1: x@7 0@8"));
  EXPECT_THAT(Store(o.store).item_names(), ElementsAre("x", "y", "q"));
}

TEST_F(Append, OlderEventsStandWhereTheirTimeIsAndAreCounted) {
  write_text("a.tsv", "a\tx\t10\na\ty\t20\nb\ty\t30\nb\tz\t40\n");
  write_text("b.tsv", "a\tz\t15\nc\tw\t1\nc\tx\t2\nd\tx\t50\nd\ty\t51\n");
  Options o = options("store", "a.tsv");
  ingest(o);
  o.train_file = "b.tsv";
  EXPECT_EQ(append(o).late, 3u);
  EXPECT_THAT(content(o.store), ElementsAre("c 2 2: w@1 x@2", "a 2 2: x@10 z@15 y@20", "b 2 2: y@30 z@40", "d 2 2: x@50 y@51"));
  EXPECT_THAT(Store(o.store).item_names(), ElementsAre("x", "y", "z", "w"));
}

TEST_F(Append, ASessionThatAnIngestMadeIsNotCutAgain) {
  write_text("a.tsv", "a\tx\t0\na\tx\t20\na\ty\t40\n");  // merged, x and y are further apart than the gap
  write_text("b.tsv", "a\tz\t65\na\tw\t200\na\tv\t210\n");
  Options o = options("store", "a.tsv");
  o.session_gap = 30;
  o.merge_repeats = true;
  ingest(o);
  o.train_file = "b.tsv";
  append(o);
  EXPECT_THAT(content(o.store), ElementsAre("a 2 2: x@0 y@40 z@65", "a 2 2: w@200 v@210"));
}

TEST_F(Append, FilesOfASplitJoinTheirParts) {
  write_text("train.tsv", "a\tx\t1\na\ty\t2\nb\tx\t3\n");
  write_text("test.tsv", "a\ty\t4\na\tq\t5\nb\tx\t6\n");
  write_text("train2.tsv", "b\ty\t7\nc\ty\t8\nc\tr\t9\n");
  write_text("test2.tsv", "e\tx\t10\ne\tr\t11\n");
  Options o = options("store", "train.tsv");
  o.test_file = "test.tsv";
  ingest(o);
  o.train_file = "train2.tsv";
  o.test_file = "test2.tsv";
  append(o);
  EXPECT_THAT(content(o.store), ElementsAre("a 2 2: x@1 y@2", "b 2 2: x@3 y@7", "c 2 2: y@8 r@9", "a 1 1: y@4 0@5",
                                            "b 1 1: x@6", "e 1 1: x@10 r@11"));
}

TEST_F(Append, ASessionOfOneEventStaysInTheFileItCameFrom) {
  write_text("train.tsv", "a\tx\t1\na\ty\t2\n");
  write_text("test.tsv", "t\tq\t4\nu\tx\t5\nu\ty\t6\n");
  Options o = options("store", "train.tsv");
  o.test_file = "test.tsv";
  ingest(o);
  const std::string before = manifest(o.store);
  EXPECT_FALSE(append(o).grown);
  EXPECT_EQ(manifest(o.store), before);
  write_text("train2.tsv", "b\tx\t7\nb\ty\t8\n");
  write_text("test2.tsv", "t\tx\t9\n");
  o.train_file = "train2.tsv";
  o.test_file = "test2.tsv";
  append(o);
  EXPECT_THAT(content(o.store), ElementsAre("a 2 2: x@1 y@2", "b 2 2: x@7 y@8", "u 1 1: x@5 y@6", "t 1 1: 0@4 x@9"));
}

TEST_F(Append, WhatDoesNotFitTheStoreIsRefusedAndHarmsNothing) {
  write("a.tsv", sessions_between(0, 31));
  write("b.tsv", sessions_between(31, 41));
  std::ofstream(folder_ / "columns.tsv") << "user_id\tproduct\ttimestamp\nu\ti\t1\n";
  Options o = options("store", "a.tsv");
  EXPECT_THAT(refusal([&] { append(o); }), HasSubstr("there is no store"));
  ingest(o);
  const std::string before = manifest(o.store);
  o.train_file = "columns.tsv";
  EXPECT_THAT(refusal([&] { append(o); }), AllOf(HasSubstr("columns.tsv"), HasSubstr("item_id")));
  o.train_file = "b.tsv";
  o.min_session_length = 3;
  EXPECT_THAT(refusal([&] { append(o); }),
              AllOf(HasSubstr("cannot append"), HasSubstr("min_session_length: 1 → 3"), HasSubstr("Pass them")));
  o.min_session_length = 1;
  o.split = by(SplitKind::temporal, 0, 0.2);
  EXPECT_THAT(refusal([&] { append(o); }), HasSubstr("eval_args"));
  o.split = {};
  o.test_file = "b.tsv";
  EXPECT_THAT(refusal([&] { append(o); }), HasSubstr("2 files"));
  EXPECT_EQ(manifest(o.store), before);

  StoreWriter writer(folder_ / "by hand", 1, 2);
  writer.add({"s", std::vector<uint32_t>{1, 0}, std::vector<int64_t>{1, 2}, 1, 1});
  StoreInfo info;
  info.dataset = "made";
  writer.commit(info, std::vector<std::string>{"x"});
  Options by_hand = options("by hand", "b.tsv");
  EXPECT_THAT(refusal([&] { append(by_hand); }), HasSubstr("does not say with which options"));
  EXPECT_THAT(refusal([&] { Store(by_hand.store).unseen_items(); }), HasSubstr("1 events of items that training lacks"));
}

}  // namespace
}  // namespace gru4rec

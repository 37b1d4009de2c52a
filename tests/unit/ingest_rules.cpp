// Rules of ingest where RecBole or a benchmark fixes the answer to the last event.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "gru4rec/base/error.h"
#include "gru4rec/data/ingest.h"
#include "support/temporary_folder.h"

namespace gru4rec {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class IngestRules : public ::testing::Test {
 protected:
  IngestRules() {
    options.data_path = folder.path().string();
    options.train_file = "events.csv";
    options.store = (folder / "store").string();
  }

  void write(const std::string& name, const std::string& text) { std::ofstream(folder / name, std::ios::binary) << text; }

  // Rows "user item time" with `;` between them; rating is the number of the row from 1.
  void events(const std::string& rows) {
    std::string text = "user_id,item_id,timestamp,rating\n";
    std::istringstream in(rows);
    int rating = 0;
    for (std::string row; std::getline(in, row, ';');) {
      std::replace(row.begin(), row.end(), ' ', ',');
      text += fmt::format("{},{}\n", row, ++rating);
    }
    write("events.csv", text);
  }

  // One text a session: "id: a b | c | d", divided before the first valid and the first test target; '?' is an unseen item.
  std::vector<std::string> sessions() {
    ingest(options);
    const Store store(options.store);
    const uint64_t count = store.info().sessions;
    const auto shapes = store.shapes(0, count);
    const auto ids = store.session_ids(0, count), names = store.item_names();
    std::vector<std::string> lines;
    for (size_t i = 0; i < count; ++i) {
      std::vector<uint32_t> items(shapes[i].events);
      store.read_items(shapes[i].first_event, items);
      std::string line = ids[i] + ":";
      for (uint32_t p = 0; p < items.size(); ++p) {
        if (p == shapes[i].train_end) line += " |";
        if (p == shapes[i].valid_end) line += " |";
        line += ' ' + (items[p] == 0 ? "?" : names.at(items[p] - 1));
      }
      lines.push_back(line);
    }
    return lines;
  }

  std::string refusal() {
    try {
      ingest(options);
    } catch (const UserError& error) {
      return error.what();
    }
    return "accepted";
  }

  testing::TemporaryFolder folder;
  Options options;
};

TEST_F(IngestRules, RatioCountsTargetsAsRecBoleDoes) {
  // Valid and test of 1, 2, 3 … targets, by _calcu_split_ids of RecBole 1.2.1 with [0.8, 0.1, 0.1].
  const std::vector<uint32_t> valid = {0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2};
  const std::vector<uint32_t> test = {0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2};
  options.split.kind = SplitKind::ratio;
  options.split.ratio = {0.8, 0.1, 0.1};
  std::string rows;
  int time = 0;
  for (size_t targets = 1; targets <= valid.size(); ++targets)
    for (size_t i = 0; i <= targets; ++i) rows += fmt::format("u{} i{} {};", targets, i, ++time);
  events(rows);
  ingest(options);
  const auto shapes = Store(options.store).shapes(0, valid.size());
  for (size_t i = 0; i < valid.size(); ++i) {
    EXPECT_EQ(shapes[i].valid_end - shapes[i].train_end, valid[i]) << i + 1 << " targets";
    EXPECT_EQ(shapes[i].events - shapes[i].valid_end, test[i]) << i + 1 << " targets";
  }
}

TEST_F(IngestRules, DuplicatesGoBeforeValuesAreLookedAtAsInRecBole) {
  events("u a 1;u b 2;u a 3");
  options.rm_dup_inter = DuplicateRule::first;
  options.val_interval["rating"] = {{2, 9, true, true}};
  EXPECT_THAT(sessions(), ElementsAre("u: b"));
}

TEST_F(IngestRules, OfDuplicatesAtOneTimeTheFirstOrLastInTheFileStays) {
  events("u a 5;u b 5;u a 5;u c 5");
  options.rm_dup_inter = DuplicateRule::first;
  EXPECT_THAT(sessions(), ElementsAre("u: a b | | c"));
  options.rm_dup_inter = DuplicateRule::last;
  EXPECT_THAT(sessions(), ElementsAre("u: b a | | c"));

  std::string many;  // more than a sort leaves in order by chance
  for (int i = 0; i < 101; ++i) many += i == 50 ? "u b 5;" : "u a 5;";
  events(many + "u c 5");
  EXPECT_THAT(sessions(), ElementsAre("u: b a | | c"));
  options.rm_dup_inter = DuplicateRule::first;
  EXPECT_THAT(sessions(), ElementsAre("u: a b | | c"));
}

TEST_F(IngestRules, ItemsThatAppearAtOneTimeAreNumberedInTheOrderOfTheFile) {
  std::string rows;
  std::vector<std::string> wanted;
  for (int i = 0; i < 61; ++i) {
    wanted.push_back(fmt::format("i{}", i * 7 % 61));
    rows += fmt::format("u{} {} 5;", i % 3, wanted.back());
  }
  for (int i = 0; i < 61; ++i) rows += fmt::format("u0 i{} 5;", i);
  events(rows);
  ingest(options);
  EXPECT_EQ(Store(options.store).item_names(), wanted);
}

TEST_F(IngestRules, AMissingValueIsInNoInterval) {
  write("events.csv", "user_id,item_id,timestamp,rating\nu,a,1,\nu,b,2,7\n");
  options.val_interval["rating"] = {{0, 9, true, true}};
  EXPECT_THAT(sessions(), ElementsAre("u: b"));
}

TEST_F(IngestRules, TimesAreNormalisedOverWhatTheFiltersLeft) {
  // With the event at 0 the two times of u are equal in float32, without it they are not.
  events("w z 0;u b 1000000001;u a 1000000000;v c 1000000005");
  options.time_order = TimeOrder::recbole;
  EXPECT_THAT(sessions(), ::testing::Contains("u: b a"));
  options.val_interval["timestamp"] = {{1, 2e9, true, true}};
  EXPECT_THAT(sessions(), ::testing::Contains("u: a b"));
}

TEST_F(IngestRules, SupportCountsOnlyTrainingWhereWholeSessionsAreDivided) {
  events("s a 1;s b 2;s a 3;t a 4;t b 5;t b 6");
  options.min_item_support = 2;
  EXPECT_THAT(sessions(), ElementsAre("s: a b | | a", "t: a b | | b")) << "leave one out counts all";
  options.split.kind = SplitKind::temporal;
  options.split.temporal_test = 0.5;
  EXPECT_THAT(sessions(), ElementsAre("s: a a", "t: a | | ? ?"));
}

TEST_F(IngestRules, DropUnseenLeavesNoSessionBelowTheLeastLength) {
  events("s a 1;s b 2;t a 3;t b 4;u a 5;u x 6;u b 7;v x 8;v a 9");
  options.split.kind = SplitKind::temporal;
  options.split.temporal_test = 0.5;
  options.drop_unseen = true;
  EXPECT_THAT(sessions(), ElementsAre("s: a b", "t: a b", "u: a | | b", "v: a"));
  options.min_session_length = 2;
  EXPECT_THAT(sessions(), ElementsAre("s: a b", "t: a b", "u: a | | b"));
}

TEST_F(IngestRules, DropUnseenLeavesOtherSessionsAsTheyWereWhateverTheirOrderInTheFile) {
  options.split.kind = SplitKind::temporal;
  options.split.temporal_test = 0.5;
  options.drop_unseen = true;
  for (const char* const list : {"v x 1;u y 2;s a 3;s b 4;t b 5;t a 6;u a 7;u y 8;u b 9;v a 10;v x 11;v b 12;v a 13",
                                 "v x 1;v a 10;v x 11;v b 12;v a 13;u y 2;u a 7;u y 8;u b 9;s a 3;s b 4;t b 5;t a 6"}) {
    events(list);
    EXPECT_THAT(sessions(), ElementsAre("s: a b", "t: b a", "u: a | | b", "v: a | | b a"));
  }
}

TEST_F(IngestRules, AllMembersOfAGzipFileAreReadWhateverItsName) {
  write("head.csv", "user_id,item_id,timestamp\nu,a,1\n");
  write("tail.csv", "u,b,2\nu,c,3\n");
  ASSERT_EQ(std::system(fmt::format("cd '{}' && gzip -c head.csv > events.csv && gzip -c tail.csv >> events.csv",
                                    folder.path().string())
                            .c_str()),
            0);
  EXPECT_THAT(sessions(), ElementsAre("u: a b | | c"));
}

TEST_F(IngestRules, ColumnsOfCommaFilesMayHoldCommasAndLines) {
  write("events.csv", "x,timestamp,y,item_id,user_id\n,1,\"p,q\",a,u\n\"two\nlines\",2,,b,u\n");
  EXPECT_THAT(sessions(), ElementsAre("u: a b"));
  std::string blocks = "user_id,item_id,timestamp,x\n";  // read block by block, each of which may end within a value
  for (int i = 0; i < 30'011; ++i) blocks += fmt::format("u,{},{},\"{}\"\n", i < 30'010 ? "a" : "b", i, std::string(100, '\n'));
  write("events.csv", blocks);
  options.merge_repeats = true;
  EXPECT_THAT(sessions(), ElementsAre("u: a b"));
  write("events.csv", "user_id;item_id;timestamp\nu;a;1\nu;b;2\n");
  options.field_separator = ";";
  EXPECT_THAT(sessions(), ElementsAre("u: a b"));
}

TEST_F(IngestRules, ContradictionsAreRefused) {
  events("u a 1400000000000;u b 1400000000001");
  options.split.kind = SplitKind::temporal;
  options.split.temporal_days = true;
  options.split.temporal_test = 1;
  EXPECT_THAT(refusal(), HasSubstr("in seconds"));
  options.split = {SplitKind::files, {}, 0, 0.5, false};
  options.valid_file = options.test_file = "events.csv";
  EXPECT_THAT(refusal(), HasSubstr("valid is given twice"));
  options.valid_file = options.test_file = "";
  options.train_file = "events.xml";
  write("events.xml", "<a/>");
  EXPECT_THAT(refusal(), HasSubstr("cannot tell the format of"));
  options.train_file = "events.csv";
  write("events.csv", "user_id,item_id,item_id,timestamp\nu,a,a,1\n");
  EXPECT_THAT(refusal(), HasSubstr("more than one column 'item_id'"));
}

}  // namespace
}  // namespace gru4rec

// Laws of ingest: any format, any order and any number of shards give the same store; each option does what it says; a file
// that cannot be read is named with the place and what was wanted.
#include <arrow/api.h>
#include <arrow/io/api.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <parquet/arrow/writer.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>

#include "gru4rec/base/error.h"
#include "gru4rec/base/random.h"
#include "gru4rec/data/ingest.h"
#include "gru4rec/data/interner.h"
#include "session_builder.h"
#include "support/temporary_folder.h"

namespace gru4rec {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::UnorderedElementsAre;

struct Event {
  std::string user, item;
  int64_t time;
};

// "a:x@1 b:y@2": user, item and time of each event.
std::vector<Event> events(const std::string& text) {
  std::vector<Event> all;
  std::istringstream in(text);
  for (std::string word; in >> word;) {
    const size_t colon = word.find(':'), at = word.find('@');
    all.push_back({word.substr(0, colon), word.substr(colon + 1, at - colon - 1), std::stoll(word.substr(at + 1))});
  }
  return all;
}

// 61 events of 7 users and 11 items, all at different times, in no order; ids are numbers.
std::vector<Event> mixed_events() {
  std::vector<Event> all;
  for (int64_t i = 0; i < 61; ++i)
    all.push_back({std::to_string(i * 3 % 7 + 1), std::to_string(i * 5 % 11 + 100), 1'000'000 + i * 37 % 61});
  return all;
}

std::string text_of(const std::vector<Event>& all, const std::string& header, char separator) {
  std::string text = header + "\n";
  for (const Event& event : all) text += fmt::format("{}{}{}{}{}\n", event.user, separator, event.item, separator, event.time);
  return text;
}
std::string tsv(const std::string& text) { return text_of(events(text), "user_id\titem_id\ttimestamp", '\t'); }

class Ingest : public ::testing::Test {
 protected:
  Ingest() {
    options_.dataset = "made";
    options_.data_path = folder_.path().string();
    options_.store = (folder_ / "store").string();
    options_.train_file = "a.tsv";
  }

  void write(const std::string& name, const std::string& text) {
    const auto path = folder_ / name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << text;
  }
  void gzip(const std::string& name) {
    ASSERT_EQ(std::system(fmt::format("gzip -kf '{}'", (folder_ / name).string()).c_str()), 0);
  }

  uint64_t digest_of(const std::string& file) {
    options_.train_file = file;
    return ingest(options_).store.data_digest;
  }

  // Each session in the order of the store: "user: train | valid | test", items by their names, ? for one that training lacks.
  std::vector<std::string> sessions() {
    report_ = ingest(options_);
    const Store store(options_.store);
    store.verify();
    const auto names = store.item_names();
    const auto ids = store.session_ids(0, store.info().sessions);
    const auto shapes = store.shapes(0, store.info().sessions);
    std::vector<std::string> lines;
    for (size_t i = 0; i < shapes.size(); ++i) {
      std::vector<uint32_t> items(shapes[i].events);
      store.read_items(shapes[i].first_event, items);
      std::string line = ids[i] + ":";
      for (uint32_t p = 0; p < items.size(); ++p) {
        if (p == shapes[i].train_end) line += " |";
        if (p == shapes[i].valid_end) line += " |";
        line += " " + (items[p] == 0 ? "?" : names[items[p] - 1]);
      }
      if (shapes[i].train_end == items.size()) line += " |";
      if (shapes[i].valid_end == items.size()) line += " |";
      lines.push_back(line);
    }
    return lines;
  }
  // Of the store that was made last.
  std::vector<int64_t> times() {
    const Store store(options_.store);
    std::vector<int64_t> times(store.info().events);
    store.read_times(0, times);
    return times;
  }
  std::vector<std::string> sessions_of(const std::string& list) {
    write("a.tsv", tsv(list));
    return sessions();
  }
  // The same without the splits.
  std::vector<std::string> histories_of(const std::string& list) {
    auto lines = sessions_of(list);
    for (std::string& line : lines)
      for (size_t at; (at = line.find(" |")) != std::string::npos;) line.erase(at, 2);
    return lines;
  }
  uint64_t dropped(const std::string& reason) { return report_.statistics["dropped"].value(reason, uint64_t{0}); }

  std::string error() {
    try {
      ingest(options_);
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  }
  std::string error_of(const std::string& text, const std::string& name = "a.tsv") {
    write(name, text);
    options_.train_file = name;
    return error();
  }

  testing::TemporaryFolder folder_;
  Options options_;
  IngestReport report_;
};

// ---- Formats

template <typename Builder = arrow::StringBuilder>
std::shared_ptr<arrow::Array> text_column(const std::vector<Event>& all, std::string Event::*member) {
  Builder builder;
  for (const Event& event : all) EXPECT_TRUE(builder.Append(event.*member).ok());
  return builder.Finish().ValueOrDie();
}
template <typename Builder>
std::shared_ptr<arrow::Array> number_column(const std::vector<Event>& all, std::string Event::*member) {
  Builder builder;
  for (const Event& event : all)
    EXPECT_TRUE(builder.Append(static_cast<typename Builder::value_type>(std::stoll(event.*member))).ok());
  return builder.Finish().ValueOrDie();
}
std::shared_ptr<arrow::Array> time_column(const std::vector<Event>& all) {
  arrow::Int64Builder builder;
  for (const Event& event : all) EXPECT_TRUE(builder.Append(event.time).ok());
  return builder.Finish().ValueOrDie();
}
void write_parquet(const std::filesystem::path& path, const std::vector<std::string>& names,
                   const arrow::ArrayVector& columns) {
  arrow::FieldVector fields;
  for (size_t i = 0; i < names.size(); ++i) fields.push_back(arrow::field(names[i], columns[i]->type()));
  const auto table = arrow::Table::Make(arrow::schema(fields), columns);
  const auto out = arrow::io::FileOutputStream::Open(path.string()).ValueOrDie();
  // With the types of Arrow, as pandas and Polars write them: a large string is read as one.
  const auto with_types = parquet::ArrowWriterProperties::Builder().store_schema()->build();
  ASSERT_TRUE(parquet::arrow::WriteTable(*table, arrow::default_memory_pool(), out, 17, parquet::default_writer_properties(),
                                         with_types)
                  .ok());
  ASSERT_TRUE(out->Close().ok());
}
void write_parquet(const std::filesystem::path& path, std::shared_ptr<arrow::Array> users, std::shared_ptr<arrow::Array> items,
                   std::shared_ptr<arrow::Array> times) {
  write_parquet(path, {"item_id", "user_id", "timestamp"}, {items, users, times});
}

TEST_F(Ingest, EveryFormatOfTheSameEventsGivesTheSameStore) {
  const auto all = mixed_events();
  write("a.tsv", text_of(all, "user_id\titem_id\ttimestamp", '\t'));
  write("a.inter", text_of(all, "user_id:token\titem_id:token\ttimestamp:float", '\t'));
  write("a.csv", text_of(all, "user_id,item_id,timestamp", ','));
  write("a.txt", text_of(all, "user_id\titem_id\ttimestamp", '\t'));
  const uint64_t digest = digest_of("a.tsv");
  gzip("a.tsv");
  gzip("a.csv");
  const auto users = text_column(all, &Event::user), items = text_column(all, &Event::item), times = time_column(all);
  write_parquet(folder_ / "text.parquet", users, items, times);
  write_parquet(folder_ / "large.parquet", text_column<arrow::LargeStringBuilder>(all, &Event::user),
                text_column<arrow::LargeStringBuilder>(all, &Event::item), times);
  write_parquet(folder_ / "wide.parquet", number_column<arrow::Int64Builder>(all, &Event::user),
                number_column<arrow::UInt16Builder>(all, &Event::item), times);
  write_parquet(folder_ / "narrow.parquet", number_column<arrow::Int8Builder>(all, &Event::user),
                number_column<arrow::Int32Builder>(all, &Event::item),
                times->View(arrow::timestamp(arrow::TimeUnit::SECOND)).ValueOrDie());
  for (const char* name :
       {"a.inter", "a.csv", "a.txt", "a.tsv.gz", "a.csv.gz", "text.parquet", "large.parquet", "wide.parquet", "narrow.parquet"})
    EXPECT_EQ(digest_of(name), digest) << name;
}

TEST_F(Ingest, ParquetMayHaveOtherColumnsOfAnyTypeAnywhere) {
  const auto all = mixed_events();
  const auto users = text_column(all, &Event::user), items = text_column(all, &Event::item), times = time_column(all);
  const auto nested = arrow::StructArray::Make({items, times}, std::vector<std::string>{"user_id", "item_id"}).ValueOrDie();
  write_parquet(folder_ / "three.parquet", users, items, times);
  write_parquet(folder_ / "more.parquet", {"both", "timestamp", "again", "user_id", "item_id", "copy"},
                {nested, times, nested, users, items, items});
  EXPECT_EQ(digest_of("more.parquet"), digest_of("three.parquet"));
}

// More rows than a batch has, and ids that are short, or take more room than a column of a batch begins with.
TEST_F(Ingest, LongColumnsOfParquetAreThoseOfText) {
  const Stream random(19, Purpose::window_order, 0);
  std::vector<Event> all;
  for (uint64_t i = 0; i < 150'000; ++i) {
    const uint64_t user = random.below(3 * i, 30'000), item = random.below(3 * i + 1, 40'000);
    all.push_back({user % 3 == 0 ? fmt::format("{:0>{}}", user, user % 97 + 6) : std::to_string(user),
                   std::to_string(mix64(item)), static_cast<int64_t>(random.below(3 * i + 2, 1'000'000))});
  }
  write("a.tsv", text_of(all, "user_id\titem_id\ttimestamp", '\t'));
  write_parquet(folder_ / "a.parquet", text_column(all, &Event::user), text_column(all, &Event::item), time_column(all));
  EXPECT_EQ(digest_of("a.parquet"), digest_of("a.tsv"));
}

// Ids that lie close together and ids that do not; times after ones with a fraction, in another file.
TEST_F(Ingest, NumbersOfParquetAreThoseOfText) {
  const Stream random(20, Purpose::window_order, 0);
  std::vector<Event> all;
  for (uint64_t i = 0; i < 90'000; ++i)
    all.push_back({std::to_string(random.below(3 * i, 20'000)),
                   std::to_string(static_cast<int64_t>(mix64(random.below(3 * i + 1, 9'000)))),
                   static_cast<int64_t>(random.below(3 * i + 2, 1'000'000)) - 500'000});
  const auto users = number_column<arrow::Int64Builder>(all, &Event::user),
             items = number_column<arrow::Int64Builder>(all, &Event::item);
  write("a.tsv", text_of(all, "user_id\titem_id\ttimestamp", '\t'));
  write_parquet(folder_ / "a.parquet", users, items, time_column(all));
  EXPECT_EQ(digest_of("a.parquet"), digest_of("a.tsv"));
  options_.test_file = "a.tsv";
  write("fractions.tsv", "user_id\titem_id\ttimestamp\n1\t" + all[0].item + "\t0.5\n1\t" + all[1].item + "\t1\n");
  const uint64_t of_text = digest_of("fractions.tsv");
  options_.test_file = "a.parquet";
  EXPECT_EQ(digest_of("fractions.tsv"), of_text);
}

TEST_F(Ingest, TimesAndIdsOfParquetThatAreNoIntegersAreTheTextTheyPrintAs) {
  arrow::DoubleBuilder ids;
  for (double id : {-0.0, 0.0, 2.5, 9007199254740991.0, 1e16, -3.0}) ASSERT_TRUE(ids.Append(id).ok());
  const auto all = events("-0:x@1250 0:x@2000 2.5:x@2500 9007199254740991:x@4000 1e+16:x@5000 -3:x@6000");
  write_parquet(folder_ / "a.parquet", ids.Finish().ValueOrDie(), text_column(all, &Event::item),
                time_column(all)->View(arrow::timestamp(arrow::TimeUnit::MILLI)).ValueOrDie());
  write("a.tsv",
        "user_id\titem_id\ttimestamp\n-0\tx\t1.25\n0\tx\t2\n2.5\tx\t2.5\n9007199254740991\tx\t4\n1e+16\tx\t5\n-3\tx\t6\n");
  options_.min_session_length = 1;
  EXPECT_EQ(digest_of("a.parquet"), digest_of("a.tsv"));
}

// Numbers near the first one and, from a place of its own on in each trial, ones that lie anywhere.
TEST(NearNumbers, AreWhatWasAppendedAndSet) {
  constexpr int64_t kLeast = std::numeric_limits<int64_t>::min(), kMost = std::numeric_limits<int64_t>::max();
  const int64_t firsts[] = {0, 1'400'000'000, -5, kLeast, kMost};
  for (uint64_t trial = 0; trial < 60; ++trial) {
    const Stream random(17, Purpose::window_order, trial);
    const int64_t first = firsts[trial % 5];
    NearNumbers numbers;
    numbers.reserve(trial);
    std::vector<int64_t> wanted;
    uint64_t draw = 0;
    const auto value = [&] {
      if (draw > 20 * trial) return std::vector{kLeast, kMost, first, int64_t{0}}[random.below(draw++, 4)];
      const int64_t away = static_cast<int64_t>(random.below(draw++, (uint64_t{1} << 31) - 1));
      return first < 0 ? first + away : first - away;
    };
    for (uint64_t step = 0; step < 40; ++step) {
      std::vector<int64_t> more(random.below(1000 + step, 30));
      for (int64_t& number : more) number = value();
      if (wanted.empty() && !more.empty()) more.front() = first;  // the others of the first batch may lie far off
      numbers.append(more);
      wanted.insert(wanted.end(), more.begin(), more.end());
      if (wanted.empty()) continue;
      const uint64_t place = random.below(2000 + step, wanted.size());
      numbers.set(place, wanted[place] = value());
      if (step % 7 == 6) numbers.shrink(wanted.size() - 1), wanted.pop_back();
    }
    ASSERT_EQ(numbers.size(), wanted.size());
    for (size_t i = 0; i < wanted.size(); ++i) ASSERT_EQ(numbers[i], wanted[i]) << trial << " " << i;

    const size_t begin = random.below(3000, wanted.size() + 1), end = begin + random.below(3001, wanted.size() - begin + 1);
    std::string copied(1 + (end - begin) * sizeof(int64_t), '\0');
    numbers.copy(begin, end - begin, copied.data() + 1);
    for (size_t i = begin; i < end; ++i) {
      int64_t number = 0;
      std::memcpy(&number, copied.data() + 1 + (i - begin) * sizeof number, sizeof number);
      ASSERT_EQ(number, wanted[i]) << trial << " " << i;
    }

    Column<uint32_t> places(wanted.size() / 2);
    for (size_t i = 0; i < places.size(); ++i) places[i] = static_cast<uint32_t>(random.below(4000 + i, wanted.size()));
    std::ranges::sort(places, {}, [&](uint32_t place) { return wanted[place]; });
    NearNumbers some(numbers, places, Column<uint32_t>(wanted.size()));
    ASSERT_EQ(some.size(), places.size());
    for (size_t i = 0; i < places.size(); ++i) ASSERT_EQ(some[i], wanted[places[i]]) << trial << " " << i;
    EXPECT_TRUE(some.rise(0, some.size()));
    if (some.size() < 3 || some[1] == some[0]) continue;
    some.set(2, some[0]);
    EXPECT_FALSE(some.rise(0, some.size()));
    EXPECT_FALSE(some.rise(1, 3));
    EXPECT_TRUE(some.rise(0, 2) && some.rise(2, 3) && some.rise(2, 2));
  }
}

TEST(UniformColumn, HoldsWhatWasAppendedAndSet) {
  for (uint64_t trial = 0; trial < 30; ++trial) {
    const Stream random(18, Purpose::window_order, trial);
    UniformColumn<Part> column;
    std::vector<Part> wanted;
    for (uint64_t step = 0; step < 10; ++step) {
      const Part part = step < trial % 8 ? Part::train : Part::test;
      const uint64_t count = random.below(step, 4);
      column.append(count, part);
      wanted.insert(wanted.end(), count, part);
      if (step == trial % 11 && !wanted.empty()) {
        const uint64_t place = random.below(100, wanted.size());
        column.set(place, wanted[place] = Part::valid);
      }
      if (step == 7 && !wanted.empty()) column.shrink(wanted.size() - 1), wanted.pop_back();
    }
    ASSERT_EQ(column.size(), wanted.size());
    for (size_t i = 0; i < wanted.size(); ++i) ASSERT_EQ(column[i], wanted[i]) << trial;
    for (const Part part : {Part::train, Part::valid, Part::test})
      EXPECT_TRUE(!column.all(part) || std::ranges::count(wanted, part) == std::ssize(wanted)) << trial;
  }
}

TEST(RowNumbers, OfATableAreOfFourBytesWhileTheseNumberAllItsRows) {
  for (const uint64_t table_rows : {(uint64_t{1} << 32) - 1, uint64_t{1} << 32}) {
    RowNumbers rows;
    rows.resize(3, table_rows);
    rows.visit([&]<typename Number>(Column<Number>& numbers) {
      EXPECT_EQ(sizeof(Number), table_rows > UINT32_MAX ? 8 : 4);
      numbers = {1, static_cast<Number>(table_rows - 1), 2};
    });
    rows.set(2, table_rows - 1);
    EXPECT_EQ(rows[0], 1);
    EXPECT_EQ(rows[1], table_rows - 1);
    EXPECT_EQ(rows[2], table_rows - 1);
  }
}

TEST(Interner, IdsAreEqualJustWhereTheirTextsAre) {
  Interner ids;
  std::vector<std::string> texts = {"7",
                                    "07",
                                    "7.0",
                                    "+7",
                                    " 7",
                                    "-7",
                                    "-07",
                                    "0",
                                    "-0",
                                    "00",
                                    "-",
                                    "item",
                                    "9223372036854775807",
                                    "-9223372036854775808",
                                    "9223372036854775808",
                                    "18446744073709551615"};
  for (int64_t number = 1000; number < 3003; ++number)
    texts.push_back(number % 3 == 0 ? fmt::format("i{}", number) : std::to_string(number * number));
  for (int round = 0; round < 2; ++round)
    for (uint32_t code = 0; code < texts.size(); ++code) ASSERT_EQ(ids.code(texts[code]), code) << texts[code];
  for (uint32_t code = 0; code < texts.size(); ++code) ASSERT_EQ(ids.text(code), texts[code]);
  for (int64_t number : {int64_t{7}, int64_t{-7}, int64_t{0}, INT64_MAX, INT64_MIN, int64_t{1000} * 1000})
    EXPECT_EQ(ids.code(number), ids.code(std::to_string(number))) << number;
  EXPECT_EQ(ids.size(), texts.size());
}

// Counted ids, such that lie elsewhere later, such that lie nowhere, and texts: whatever an array over a range has room for.
TEST(Interner, CodesAreThoseOfAMapWhereverNumbersLie) {
  const auto of_stretch = [](const Stream& random, uint64_t i) -> std::string {
    const auto near = static_cast<int64_t>(random.below(2 * i, 4000));
    switch (random.below(2 * i + 1, 400)) {
      case 0:
        return std::to_string(static_cast<int64_t>(random.bits(2 * i)));  // anywhere
      case 1:
        return fmt::format("item {}", near);
      case 2:
        return std::to_string(INT64_MAX - near);
      case 3:
        return std::to_string(INT64_MIN + near);
      default:
        return std::to_string(i < 1500 ? near - 2000 : 1'000'000'000 + 2 * static_cast<int64_t>(i) + near);
    }
  };
  for (const bool far_first : {false, true}) {
    Interner ids;
    std::map<std::string, uint32_t> codes;
    const Stream random{far_first ? 2u : 1u, Purpose::block_order, 0};
    for (uint64_t i = 0; i < 70'000; ++i) {
      const std::string text = of_stretch(random, far_first ? 70'000 - i : i);
      const auto code = codes.emplace(text, static_cast<uint32_t>(codes.size())).first->second;
      const Interner::Key key(text);
      ids.fetch(key);
      ASSERT_EQ(ids.code(key), code) << text << ", the " << i << "th";
    }
    ASSERT_EQ(ids.size(), codes.size());
    for (const auto& [text, code] : codes) {
      ASSERT_EQ(ids.code(text), code) << text;
      ASSERT_EQ(ids.text(code), text);
    }
  }
}

TEST_F(Ingest, AByteOrderMarkCarriageReturnsAndAMissingLastNewlineChangeNothing) {
  const std::string text = tsv("1:x@1 1:y@2 2:y@3 2:x@4");
  write("a.tsv", text);
  const uint64_t digest = digest_of("a.tsv");
  write("mark.tsv", "\xef\xbb\xbf" + text);
  std::string returns;
  for (char c : text) returns += c == '\n' ? "\r\n" : std::string(1, c);
  write("returns.tsv", returns);
  write("last.tsv", text.substr(0, text.size() - 1));
  write("empty.tsv", text + "\n\n");
  std::string middle = text;
  middle.insert(middle.find("\n1\ty") + 1, "\n");
  write("middle.tsv", middle);
  for (const char* name : {"mark.tsv", "returns.tsv", "last.tsv", "empty.tsv", "middle.tsv"})
    EXPECT_EQ(digest_of(name), digest) << name;
}

TEST_F(Ingest, CommaFilesMayQuoteAndTabFilesKeepTheirQuotes) {
  write("a.csv", "\"user_id\",\"item_id\",timestamp\n\"u,1\",\"say \"\"x\"\"\",1\n\"u,1\",y,2\n");
  options_.train_file = "a.csv";
  EXPECT_THAT(sessions(), ElementsAre("u,1: say \"x\" y | |"));
  write("a.tsv", "user_id\titem_id\ttimestamp\nu\t\"x\t1\nu\ty\"\t2\n");
  options_.train_file = "a.tsv";
  EXPECT_THAT(sessions(), ElementsAre("u: \"x y\" | |"));
}

TEST_F(Ingest, OneShardAndSevenHoldTheSame) {
  write("a.tsv", text_of(mixed_events(), "user_id\titem_id\ttimestamp", '\t'));
  const IngestReport one = ingest(options_);
  options_.shards = 7;
  const IngestReport seven = ingest(options_);
  EXPECT_EQ(one.store.shards.size(), 1u);
  EXPECT_EQ(seven.store.shards.size(), 7u);
  EXPECT_EQ(one.store.data_digest, seven.store.data_digest);
}

TEST_F(Ingest, TheOrderOfTheFileDoesNotMatterWhereTimesDiffer) {
  auto all = mixed_events();
  write("a.tsv", text_of(all, "user_id\titem_id\ttimestamp", '\t'));
  std::sort(all.begin(), all.end(), [](const Event& a, const Event& b) { return a.time < b.time; });
  write("sorted.tsv", text_of(all, "user_id\titem_id\ttimestamp", '\t'));
  EXPECT_EQ(digest_of("a.tsv"), digest_of("sorted.tsv"));
}

TEST_F(Ingest, EqualTimesKeepTheOrderOfTheFile) {
  EXPECT_THAT(histories_of("a:z@5 b:x@5 a:y@5 a:x@4 a:w@5 b:z@5"), ElementsAre("a: x z y w", "b: x z"));
}

TEST_F(Ingest, TimesMayHaveFractionsFromAnyRowOn) {
  write("a.tsv", "user_id\titem_id\ttimestamp\na\tx\t2\na\ty\t1.5\na\tz\t1.25\na\tw\t3e0\n");
  EXPECT_THAT(sessions(), ElementsAre("a: z y | x | w"));
  EXPECT_THAT(times(), ElementsAre(1'250'000, 1'500'000, 2'000'000, 3'000'000));
  EXPECT_THAT(report_.text(), HasSubstr("time scale                        1000000"));
}

TEST_F(Ingest, NegativeTimesAndTimesOf62BitsAreExact) {
  write("a.tsv", "user_id\titem_id\ttimestamp\na\tx\t4611686018427387905\na\ty\t4611686018427387904\na\tz\t-7\n");
  EXPECT_THAT(sessions(), ElementsAre("a: z y | | x"));
  EXPECT_THAT(times(), ElementsAre(-7, 4611686018427387904, 4611686018427387905));
}

TEST_F(Ingest, TimesThatLieFarApartAreExactWhereverTheyDo) {
  EXPECT_THAT(histories_of("a:x@1400000000000 a:y@1400000060000 b:x@1402592000000 b:z@1402592060000"),
              ElementsAre("a: x y", "b: x z"));
  EXPECT_THAT(times(), ElementsAre(1400000000000, 1400000060000, 1402592000000, 1402592060000));
  for (const size_t far : {0, 1, 3000, 3998}) {  // in two readings: one file of train, one of test
    std::string text = "user_id\titem_id\ttimestamp\n";
    std::vector<int64_t> wanted;
    for (size_t i = 0; i < 4000; ++i) {
      wanted.push_back(i <= far ? static_cast<int64_t>(i) : (int64_t{1} << 40) + static_cast<int64_t>(i));
      text += fmt::format("{}\tx\t{}\n", i / 2, wanted.back());
    }
    write("a.tsv", text);
    write("b.tsv", "user_id\titem_id\ttimestamp\nu\tx\t-9000000000\nu\tx\t5\n");
    options_.test_file = "b.tsv";
    sessions();
    auto found = times();
    wanted.insert(wanted.end(), {-9'000'000'000, 5});
    std::ranges::sort(found), std::ranges::sort(wanted);
    ASSERT_EQ(found, wanted) << far;
  }
}

// ---- Columns

TEST_F(Ingest, SessionIdFieldComesBeforeUserIdField) {
  write("a.tsv", "user_id\tvisit\titem_id\ttimestamp\tprice\nu\tv1\tx\t1\t9\nu\tv2\ty\t2\t9\nu\tv1\tz\t3\t9\n");
  EXPECT_THAT(sessions(), ElementsAre("u: x y | | z"));
  options_.SESSION_ID_FIELD = "visit";
  EXPECT_THAT(sessions(), ElementsAre("v2: y | |", "v1: x z | |"));
  options_.SESSION_ID_FIELD = "";
  options_.USER_ID_FIELD = "visit";
  EXPECT_THAT(sessions(), ElementsAre("v2: y | |", "v1: x z | |"));
  options_.ITEM_ID_FIELD = "price";
  options_.TIME_FIELD = "price";
  EXPECT_THAT(sessions(), ElementsAre("v2: 9 | |", "v1: 9 9 | |"));
}

TEST_F(Ingest, FieldSeparatorDividesTextFiles) {
  write("a.txt", text_of(events("a:x@1 a:y@2"), "user_id|item_id|timestamp", '|'));
  options_.train_file = "a.txt";
  EXPECT_THAT(error(), HasSubstr("field_separator"));
  options_.field_separator = "|";
  EXPECT_THAT(sessions(), ElementsAre("a: x y | |"));
}

// ---- Filters

TEST_F(Ingest, RmDupInterKeepsTheFirstOrTheLastOfAUserAndAnItem) {
  const std::string list = "a:x@9 a:x@1 a:y@3 a:x@5 b:x@2 b:x@2";
  EXPECT_THAT(histories_of(list), ElementsAre("b: x x", "a: x y x x"));
  options_.rm_dup_inter = DuplicateRule::first;
  EXPECT_THAT(histories_of(list), ElementsAre("b: x", "a: x y"));
  EXPECT_EQ(dropped("rm_dup_inter"), 3u);
  options_.rm_dup_inter = DuplicateRule::last;
  EXPECT_THAT(histories_of(list), ElementsAre("b: x", "a: y x"));
}

TEST_F(Ingest, ValIntervalDropsEventsOutsideItAfterDuplicatesAreGone) {
  write("a.tsv", "user_id\titem_id\trating\ttimestamp\na\tx\t1\t1\na\ty\t3\t2\na\tz\t4.5\t3\na\tw\t5\t4\na\ty\t1\t5\n");
  options_.val_interval["rating"] = {{3, 5, true, false}};
  EXPECT_THAT(sessions(), ElementsAre("a: y z | |"));
  EXPECT_EQ(dropped("val_interval"), 3u);
  options_.val_interval["rating"] = {{0, 1, true, true}, {5, 9, true, true}};  // several: in any of them
  EXPECT_THAT(sessions(), ElementsAre("a: x w | | y"));
  options_.val_interval["rating"] = {{3, 5, true, false}};
  options_.rm_dup_inter = DuplicateRule::last;  // the y that stays is out of range
  EXPECT_THAT(sessions(), ElementsAre("a: z | |"));
}

TEST_F(Ingest, CountsOfUsersAndItemsAreFilteredUntilNothingChanges) {
  // Item z goes (1 event), then user c (1 left), then item y (1 left), then user b (1 left).
  const std::string list = "a:x@1 a:w@2 d:x@3 d:w@4 b:w@5 b:y@6 c:y@7 c:z@8";
  EXPECT_EQ(histories_of(list).size(), 4u);
  options_.user_inter_num_interval = options_.item_inter_num_interval = Intervals{{2, 1e9, true, true}};
  EXPECT_THAT(histories_of(list), ElementsAre("a: x w", "d: x w"));
  EXPECT_EQ(dropped("user_inter_num_interval") + dropped("item_inter_num_interval"), 4u);
  options_.item_inter_num_interval.clear();
  EXPECT_EQ(histories_of(list).size(), 4u);
  options_.user_inter_num_interval = {{{0, 1, true, true}}};
  EXPECT_THAT(error(), HasSubstr("user_inter_num_interval: 8"));
}

TEST_F(Ingest, ShortSessionsAndRareItemsAreDroppedUntilNothingChanges) {
  const std::string list = "a:x@1 a:w@2 d:x@3 d:w@4 b:w@5 b:y@6 c:y@7 c:z@8";
  options_.min_item_support = 2;
  EXPECT_THAT(histories_of(list), ElementsAre("a: x w", "d: x w", "b: w y", "c: y"));
  options_.min_session_length = 2;
  EXPECT_THAT(histories_of(list), ElementsAre("a: x w", "d: x w"));
  EXPECT_EQ(dropped("min_session_length") + dropped("min_item_support"), 4u);
  options_.min_item_support = 1;
  EXPECT_EQ(histories_of(list).size(), 4u);
}

TEST_F(Ingest, RepeatedNeighboursAreMergedAlsoWhereARareItemStoodBetweenThem) {
  const std::string list = "a:x@1 a:x@2 a:y@3 a:x@4 a:x@5 b:x@6 b:x@7";
  options_.merge_repeats = true;
  EXPECT_THAT(histories_of(list), ElementsAre("a: x y x", "b: x"));
  EXPECT_EQ(dropped("merge_repeats"), 3u);
  options_.min_item_support = 2;
  EXPECT_THAT(histories_of(list), ElementsAre("a: x", "b: x"));
  options_.min_session_length = 2;
  EXPECT_THAT(error(), HasSubstr("leave none"));
}

TEST_F(Ingest, AGapLongerThanSessionGapStartsASession) {
  const std::string list = "a:x@0 a:y@10 a:z@21 b:x@22 a:w@23";
  options_.session_gap = 10;
  EXPECT_THAT(histories_of(list), ElementsAre("a: x y", "b: x", "a: z w"));
  write("a.tsv", "user_id\titem_id\ttimestamp\na\tx\t0.5\na\ty\t10.5\na\tz\t21\n");
  EXPECT_THAT(sessions(), ElementsAre("a: x y | |", "a: z | |"));
}

TEST_F(Ingest, TimeOrderOfRecBoleComparesTimesInFloats) {
  const std::string list = "a:x@1000000001 a:y@1000000000 b:x@0 b:y@1";
  EXPECT_THAT(histories_of(list), UnorderedElementsAre("a: y x", "b: x y"));
  options_.time_order = TimeOrder::recbole;
  EXPECT_THAT(histories_of(list), UnorderedElementsAre("a: x y", "b: x y"));
}

// ---- Splits

TEST_F(Ingest, LeaveOneOutTakesTheLastForTestThenOneForValid) {
  EXPECT_THAT(sessions_of("a:p@1 b:p@2 b:q@3 c:p@4 c:q@5 c:r@6 d:p@7 d:q@8 d:r@9 d:s@10 e:p@11 e:q@12 e:r@13 e:s@14 e:t@15"),
              ElementsAre("a: p | |", "b: p q | |", "c: p q | | r", "d: p q | r | s", "e: p q r | s | t"));
}

TEST_F(Ingest, RatioRoundsValidAndTestDownButLeavesNeitherEmpty) {
  options_.split.kind = SplitKind::ratio;
  options_.split.ratio = {0.8, 0.1, 0.1};
  std::string ten, eleven, twenty_one;
  for (int i = 0; i < 21; ++i) {
    if (i < 10) ten += fmt::format("a:x{}@{} ", i, i);
    if (i < 11) eleven += fmt::format("b:x{}@{} ", i, 100 + i);
    twenty_one += fmt::format("c:x{}@{} ", i, 200 + i);
  }
  EXPECT_THAT(sessions_of(ten + eleven + twenty_one),
              ElementsAre("a: x0 x1 x2 x3 x4 x5 x6 x7 | x8 | x9", "b: x0 x1 x2 x3 x4 x5 x6 x7 x8 | x9 | x10",
                          "c: x0 x1 x2 x3 x4 x5 x6 x7 x8 x9 x10 x11 x12 x13 x14 x15 x16 | x17 x18 | x19 x20"));
}

TEST_F(Ingest, TemporalSplitByDaysGoesByTheEndOfASession) {
  options_.split.kind = SplitKind::temporal;
  options_.split.temporal_days = true;
  options_.split.temporal_test = options_.split.temporal_valid = 1;
  const int64_t day = 86400, end = 10 * day;
  const std::string list = fmt::format("a:x@{} a:y@{} b:x@{} b:y@{} c:y@{} c:x@{} d:y@{} d:z@{}", 0, end - 2 * day, 1,
                                       end - 2 * day + 1, 2, end - day, 3, end);
  EXPECT_THAT(sessions_of(list), ElementsAre("a: x y | |", "b: x | y |", "c: y | x |", "d: y | | ?"));
  options_.split.temporal_valid = 0;
  EXPECT_THAT(sessions_of(list), ElementsAre("a: x y | |", "b: x y | |", "c: y x | |", "d: y | | ?"));
  options_.split.temporal_test = 2;
  EXPECT_THAT(sessions_of(list), ElementsAre("a: x y | |", "b: x | | y", "c: y | | x", "d: y | | ?"));
}

TEST_F(Ingest, TemporalSplitByFractionsTakesTheLastSessions) {
  options_.split.kind = SplitKind::temporal;
  options_.split.temporal_test = 0.3;
  options_.split.temporal_valid = 0.2;
  std::string list;
  for (int i = 0; i < 11; ++i) list += fmt::format("s{}:x@{} s{}:y@{} ", i, 20 - i, i, 100 - i);
  EXPECT_THAT(sessions_of(list),
              ElementsAre("s10: x y | |", "s9: x y | |", "s8: x y | |", "s7: x y | |", "s6: x y | |", "s5: x y | |",
                          "s4: x | y |", "s3: x | y |", "s2: x | | y", "s1: x | | y", "s0: x | | y"));
  list.clear();  // and where the file has the sessions in the order of their ends
  for (int i = 0; i < 11; ++i) list += fmt::format("s{}:x@{} ", 10 - i, i);
  for (int i = 0; i < 11; ++i) list += fmt::format("s{}:y@{} ", 10 - i, 100 + i);
  EXPECT_THAT(sessions_of(list),
              ElementsAre("s10: x y | |", "s9: x y | |", "s8: x y | |", "s7: x y | |", "s6: x y | |", "s5: x y | |",
                          "s4: x | y |", "s3: x | y |", "s2: x | | y", "s1: x | | y", "s0: x | | y"));
}

TEST_F(Ingest, FilesForValidAndTestAreTheSplitAndTheSameIdInTwoFilesIsTwoSessions) {
  options_.valid_file = "v.tsv";
  options_.test_file = "t.tsv";
  write("v.tsv", tsv("a:y@1 a:x@2"));
  write("t.tsv", tsv("a:x@3 a:q@4 a:y@5"));
  EXPECT_THAT(sessions_of("a:x@7 a:y@8 b:y@9"), ElementsAre("a: x y | |", "b: y | |", "a: y | x |", "a: x | | ? y"));
  EXPECT_EQ(report_.statistics["unseen_targets"], 1u);
  options_.valid_file = "";
  EXPECT_THAT(sessions(), ElementsAre("a: x y | |", "b: y | |", "a: x | | ? y"));
  options_.split.kind = SplitKind::files;
  options_.split.temporal_valid = 0.5;
  EXPECT_THAT(sessions(), ElementsAre("a: x y | |", "b: y | |", "a: x | | ? y"));  // b is the last half: one event, no target
  EXPECT_EQ(report_.store.train_targets, 1u);
  options_.test_file = "";
  options_.split.temporal_valid = 0;
  EXPECT_THAT(error(), HasSubstr("Name test_file or valid_file"));
}

TEST_F(Ingest, BenchmarkFilenameNamesTheFilesOfASplit) {
  options_.train_file = "";
  options_.benchmark_filename = {"one", "two", "three"};
  const std::string header = "user_id:token\titem_id:token\ttimestamp:float";
  write("made/made.one.inter", text_of(events("a:x@1 a:y@2"), header, '\t'));
  write("made/made.two.inter", text_of(events("b:x@1 b:y@2"), header, '\t'));
  write("made/made.three.inter", text_of(events("c:x@1 c:y@2"), header, '\t'));
  EXPECT_THAT(sessions(), ElementsAre("a: x y | |", "b: x | y |", "c: x | | y"));
  options_.benchmark_filename.clear();
  write("made/made.inter", text_of(events("d:x@1 d:y@2"), header, '\t'));
  EXPECT_THAT(sessions(), ElementsAre("d: x y | |"));
}

// ---- Numbers of items

TEST_F(Ingest, ItemsAreNumberedByFirstAppearanceInTimeOrderOfTraining) {
  sessions_of("a:z@5 a:w@6 b:x@2 b:z@3 c:y@4 c:x@7");
  EXPECT_THAT(Store(options_.store).item_names(), ElementsAre("x", "z", "y", "w"));
  options_.test_file = "t.tsv";
  write("t.tsv", tsv("t:q@0 t:w@1"));
  sessions();
  EXPECT_THAT(Store(options_.store).item_names(), ElementsAre("x", "z", "y", "w"));
}

TEST_F(Ingest, DropUnseenDropsEventsOfItemsThatTrainingLacks) {
  options_.test_file = "t.tsv";
  write("t.tsv", tsv("t:q@1 t:x@2 t:r@3 t:y@4 u:q@5"));
  EXPECT_THAT(sessions_of("a:x@1 a:y@2"), ElementsAre("a: x y | |", "t: ? | | x ? y", "u: ? | |"));
  options_.drop_unseen = true;
  EXPECT_THAT(sessions(), ElementsAre("a: x y | |", "t: x | | y"));
  EXPECT_EQ(dropped("drop_unseen"), 3u);
}

TEST_F(Ingest, TheReportCountsWhatTheStoreHolds) {
  sessions_of("a:x@1 a:y@2 a:z@3 a:w@4 b:x@5");
  EXPECT_EQ(report_.statistics["events_read"], 5u);
  EXPECT_EQ(report_.statistics["lengths"]["longest"], 4u);
  EXPECT_EQ(report_.statistics["lengths"]["mean"], 2.5);
  EXPECT_EQ(report_.store.test_targets, 1u);
  EXPECT_THAT(report_.text(), AllOf(HasSubstr("session length: median"), HasSubstr("targets: test")));
}

// ---- Errors

TEST_F(Ingest, AMissingFileIsNamed) {
  options_.train_file = "none.tsv";
  EXPECT_THAT(error(), AllOf(HasSubstr("none.tsv"), HasSubstr("data_path")));
}

TEST_F(Ingest, AMissingColumnIsNamedWithTheNearestOne) {
  EXPECT_THAT(error_of("user_id\titem_id\ttimestamps\na\tx\t1\n"),
              AllOf(HasSubstr("no column 'timestamp'"), HasSubstr("'timestamps'?"), HasSubstr("TIME_FIELD")));
  options_.val_interval["rating"] = {{0, 1, true, true}};
  EXPECT_THAT(error_of(tsv("a:x@1")), HasSubstr("no column 'rating'"));
}

TEST_F(Ingest, ABadFieldIsNamedWithItsRow) {
  const std::string start = tsv("a:x@1 a:y@2");
  EXPECT_THAT(error_of(start + "\tx\t3\n"), AllOf(HasSubstr("row 4"), HasSubstr("'user_id' is empty")));
  EXPECT_THAT(error_of(start + "b\t\t3\n"), AllOf(HasSubstr("row 4"), HasSubstr("'item_id' is empty")));
  for (const char* time : {"soon", "", "nan", "inf", "1 2", "3.4.5"})
    EXPECT_THAT(error_of(start + "b\tx\t" + time + "\nb\tx\t9\n"),
                AllOf(HasSubstr("row 4"), HasSubstr(fmt::format("'timestamp' is '{}', wanted a number", time))));
  EXPECT_THAT(error_of(tsv("a:x@4611686018427387904") + "a\ty\t0.5\n"), AllOf(HasSubstr("row 3"), HasSubstr("too large")));
  EXPECT_THAT(error_of(tsv("a:x@1") + "a\ty\t1e300\n"), AllOf(HasSubstr("row 3"), HasSubstr("too large")));
}

TEST_F(Ingest, TheFirstBadRowIsNamedAndTheFirstBadFieldInIt) {
  const std::string start = tsv("a:x@1 a:y@2");
  EXPECT_THAT(error_of(start + "b\tx\tsoon\n\tx\t3\n"),
              AllOf(HasSubstr("row 4"), HasSubstr("'timestamp'"), HasSubstr("b | x")));
  EXPECT_THAT(error_of(start + "b\t\t3\n\tx\tsoon\n"),
              AllOf(HasSubstr("row 4"), HasSubstr("'item_id'"), HasSubstr("b |  | 3")));
  EXPECT_THAT(error_of(start + "b\t\tsoon\n"), AllOf(HasSubstr("row 4"), HasSubstr("'item_id'"), HasSubstr("b |  | soon")));
  options_.val_interval = {{"price", {{0, 9, true, true}}}};
  const std::string priced = "user_id\titem_id\ttimestamp\tprice\na\tx\t1\t5\n";
  EXPECT_THAT(error_of(priced + "a\ty\t2\tmuch\na\ty\tsoon\t5\n"), AllOf(HasSubstr("row 3"), HasSubstr("'price' is 'much'")));
  EXPECT_THAT(error_of(priced + "a\ty\tsoon\tmuch\n"), AllOf(HasSubstr("row 3"), HasSubstr("'timestamp' is 'soon'")));
}

TEST_F(Ingest, ARowWithAnotherNumberOfFieldsIsNamed) {
  const std::string start = tsv("a:x@1 a:y@2");
  EXPECT_THAT(error_of(start + "b\tx\nb\tx\t9\n"),
              AllOf(HasSubstr("row 4"), HasSubstr("2 fields, wanted 3"), HasSubstr("b\tx")));
  EXPECT_THAT(error_of(start + "b\tx\t3\t4\n"), AllOf(HasSubstr("row 4"), HasSubstr("4 fields, wanted 3")));
}

TEST_F(Ingest, RowsAreNumberedAsInTheFileAlsoAfterEmptyLinesAndInGzip) {
  const std::string start = "user_id\titem_id\ttimestamp\n\n\na\tx\t1\n\na\ty\t2\n";
  for (const std::string& text : {start + "a\tz\tsoon\n", start + "a\tz\n", start + "\ta\n"}) {
    EXPECT_THAT(error_of(text), HasSubstr("row 7:"));
    gzip("a.tsv");
    options_.train_file = "a.tsv.gz";
    EXPECT_THAT(error(), HasSubstr("row 7:"));
  }
  std::string returns;
  for (char c : start + "a\tz\tsoon\n") returns += c == '\n' ? "\r\n" : std::string(1, c);
  EXPECT_THAT(error_of(returns), HasSubstr("row 7:"));
}

TEST_F(Ingest, RowsAreNumberedAcrossTheBlocksOfALongFile) {
  std::string text = "user_id\titem_id\ttimestamp\n";
  for (int row = 2; row < 150'001; ++row) text += row % 1000 == 0 ? "\n" : fmt::format("{}\t{}\t{}\n", row % 97, row % 89, row);
  EXPECT_THAT(error_of(text + "a\tz\tsoon\n"), HasSubstr("row 150001:"));
  EXPECT_THAT(error_of(text + "a\tz\n"), HasSubstr("row 150001:"));
}

TEST_F(Ingest, AFileWithoutHeaderOrEventsIsRefused) {
  EXPECT_THAT(error_of(""), HasSubstr("no header"));
  EXPECT_THAT(error_of("\n"), HasSubstr("no header"));
  for (const char* ending : {"", "\n", "\r\n", "\n\n\n"})
    EXPECT_THAT(error_of(std::string("user_id\titem_id\ttimestamp") + ending), HasSubstr("has a header and no events"));
}

TEST_F(Ingest, FilesThatAreNotWhatTheirNameSaysAreRefused) {
  EXPECT_THAT(error_of("not parquet", "a.parquet"), HasSubstr("Check that it is a Parquet file"));
  EXPECT_THAT(error_of(""), Not(HasSubstr("no error")));
  write("b.tsv", text_of(mixed_events(), "user_id\titem_id\ttimestamp", '\t'));
  gzip("b.tsv");
  std::filesystem::resize_file(folder_ / "b.tsv.gz", std::filesystem::file_size(folder_ / "b.tsv.gz") / 2);
  options_.train_file = "b.tsv.gz";
  EXPECT_THAT(error(), AllOf(HasSubstr("cannot read"), HasSubstr("b.tsv.gz")));
}

TEST_F(Ingest, FiltersThatLeaveNothingAreNamedWithWhatEachDropped) {
  options_.min_session_length = 3;
  EXPECT_THAT(error_of(tsv("a:x@1 a:y@2 b:z@3")), AllOf(HasSubstr("of 3 events"), HasSubstr("min_session_length: 3")));
}

TEST_F(Ingest, AFailedIngestLeavesTheFormerStore) {
  sessions_of("a:x@1 a:y@2");
  const uint64_t digest = Store(options_.store).info().data_digest;
  EXPECT_THAT(error_of(tsv("a:x@1") + "a\tz\tsoon\n"), HasSubstr("row 3"));
  EXPECT_EQ(Store(options_.store).info().data_digest, digest);
}

}  // namespace
}  // namespace gru4rec

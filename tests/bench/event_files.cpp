// Made-up events as files to ingest: columns session_id, item_id and timestamp, rows in the order of time.
//
//   event_files FOLDER EVENTS        writes events.csv, events.tsv, events.parquet and text.parquet, all with the same content
//
// Sessions have 10 events on average and 500 are open at any time; 100,000 items, a tenth of which have almost half of the
// events. Ids are integers, in text.parquet as text. Row groups and compression are those that pyarrow and pandas choose.
#include <arrow/api.h>
#include <arrow/io/file.h>
#include <fmt/format.h>
#include <parquet/arrow/writer.h>

#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "gru4rec/base/random.h"

namespace {

using namespace gru4rec;

constexpr uint64_t kOpen = 500, kLength = 10, kItems = 100'000, kRowGroup = 1 << 20;
constexpr int64_t kFirstItem = 214'500'000, kFirstTime = 1'396'000'000;

struct Columns {
  std::vector<int64_t> session, item, time;
};

Columns make_events(uint64_t events) {
  Columns columns;
  std::vector<int64_t> open(kOpen);
  int64_t sessions = 0;
  for (int64_t& session : open) session = ++sessions;
  for (uint64_t i = 0; i < events; ++i) {
    const Stream random{1, Purpose::block_order, i};
    int64_t& session = open[random.below(0, kOpen)];
    const double place = random.uniform(1);
    columns.session.push_back(session);
    const auto rank = static_cast<int64_t>(place * place * place * kItems);
    columns.item.push_back(kFirstItem + rank * 7919 % 100'003);  // popular ones are no neighbours
    columns.time.push_back(kFirstTime + static_cast<int64_t>(i / 2));
    if (random.below(2, kLength) == 0) session = ++sessions;
  }
  return columns;
}

void write_text(const std::string& path, char separator, const Columns& columns) {
  std::ofstream out(path);
  out << fmt::format("session_id{0}item_id{0}timestamp\n", separator);
  for (size_t i = 0; i < columns.time.size(); ++i)
    out << fmt::format("{1}{0}{2}{0}{3}\n", separator, columns.session[i], columns.item[i], columns.time[i]);
}

std::shared_ptr<arrow::Array> numbers(const std::vector<int64_t>& values) {
  arrow::Int64Builder builder;
  PARQUET_THROW_NOT_OK(builder.AppendValues(values));
  return builder.Finish().ValueOrDie();
}

std::shared_ptr<arrow::Array> texts(const std::vector<int64_t>& values) {
  arrow::StringBuilder builder;
  for (int64_t value : values) PARQUET_THROW_NOT_OK(builder.Append(std::to_string(value)));
  return builder.Finish().ValueOrDie();
}

void write_parquet(const std::string& path, const std::vector<std::shared_ptr<arrow::Array>>& arrays) {
  const auto schema = arrow::schema({arrow::field("session_id", arrays[0]->type()), arrow::field("item_id", arrays[1]->type()),
                                     arrow::field("timestamp", arrays[2]->type())});
  const auto out = arrow::io::FileOutputStream::Open(path).ValueOrDie();
  const auto properties = parquet::WriterProperties::Builder().compression(parquet::Compression::SNAPPY)->build();
  PARQUET_THROW_NOT_OK(parquet::arrow::WriteTable(*arrow::Table::Make(schema, arrays), arrow::default_memory_pool(), out,
                                                  kRowGroup, properties));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    fmt::print(stderr, "usage: event_files FOLDER EVENTS\n");
    return 2;
  }
  const std::string folder = argv[1];
  const Columns columns = make_events(std::strtoull(argv[2], nullptr, 10));
  write_text(folder + "/events.csv", ',', columns);
  write_text(folder + "/events.tsv", '\t', columns);
  write_parquet(folder + "/events.parquet", {numbers(columns.session), numbers(columns.item), numbers(columns.time)});
  write_parquet(folder + "/text.parquet", {texts(columns.session), texts(columns.item), numbers(columns.time)});
}

#include "gru4rec/data/event_reader.h"

#include <arrow/api.h>
#include <arrow/csv/api.h>
#include <arrow/io/api.h>
#include <arrow/util/compression.h>
#include <fmt/ranges.h>
#include <parquet/arrow/reader.h>
#include <parquet/arrow/schema.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstring>
#include <deque>
#include <limits>
#include <memory>
#include <numeric>
#include <optional>
#include <set>
#include <span>
#include <type_traits>
#include <utility>

#include "gru4rec/base/error.h"
#include "gru4rec/base/nearest.h"
#include "gru4rec/base/text.h"

namespace gru4rec {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kFractionScale = 1'000'000;
constexpr std::string_view kEndings[] = {".inter", ".csv", ".tsv", ".txt", ".parquet"};

// The value of a Result, or a SurroundingsError that names the file.
template <typename T>
T value_of(arrow::Result<T> result, const fs::path& path) {
  if (result.ok()) return std::move(result).ValueUnsafe();
  throw SurroundingsError("cannot read {}: {}. Check the file and the disk.", path.string(), result.status().message());
}

// Memory of the Parquet reader, which makes a column of a batch longer page by page and cuts it to its length at last: other
// pools copy it each time. Here a block has room to grow from the start, of memory that it need not use, and stays as it is
// when it is to become smaller.
class GrowingBlocks : public arrow::ProxyMemoryPool {
 public:
  using arrow::MemoryPool::Allocate;
  using arrow::MemoryPool::Free;
  using arrow::MemoryPool::Reallocate;
  using arrow::ProxyMemoryPool::ProxyMemoryPool;

  arrow::Status Allocate(int64_t size, int64_t alignment, uint8_t** out) override {
    if (alignment > kHead) return arrow::Status::NotImplemented("blocks aligned to ", alignment, " bytes");
    const int64_t bytes = size < kLong ? size : std::max(size, kRoom);
    ARROW_RETURN_NOT_OK(arrow::ProxyMemoryPool::Allocate(kHead + bytes, kHead, out));
    *out += kHead;
    bytes_of(*out) = bytes;
    return arrow::Status::OK();
  }
  arrow::Status Reallocate(int64_t old_size, int64_t new_size, int64_t alignment, uint8_t** block) override {
    if (new_size <= bytes_of(*block)) return arrow::Status::OK();
    uint8_t* longer = nullptr;
    ARROW_RETURN_NOT_OK(Allocate(new_size, alignment, &longer));
    std::memcpy(longer, *block, static_cast<size_t>(old_size));
    Free(std::exchange(*block, longer), old_size, alignment);
    return arrow::Status::OK();
  }
  void Free(uint8_t* block, int64_t, int64_t) override {
    arrow::ProxyMemoryPool::Free(block - kHead, kHead + bytes_of(block), kHead);
  }

 private:
  static constexpr int64_t kHead = 64, kLong = 16 << 10, kRoom = 1 << 20;
  // How long a block is, which stands before it.
  static int64_t& bytes_of(uint8_t* block) { return *reinterpret_cast<int64_t*>(block - kHead); }
};

int64_t units_per_second(const arrow::TimestampArray& array) {
  static constexpr int64_t kPerSecond[] = {1, 1000, 1'000'000, 1'000'000'000};
  return kPerSecond[static_cast<const arrow::TimestampType&>(*array.type()).unit()];
}

// One column of a batch as text, whatever its type.
class TextColumn {
 public:
  explicit TextColumn(std::shared_ptr<arrow::Array> array) : array_(std::move(array)) {
    if (array_->type_id() == arrow::Type::DICTIONARY) {
      const auto& dictionary = static_cast<const arrow::DictionaryArray&>(*array_);
      values_ = std::make_unique<TextColumn>(dictionary.dictionary());
    }
  }

  const arrow::Array& array() const { return *array_; }

  // Empty for null. Valid until forget().
  std::string_view at(int64_t row) {
    if (array_->IsNull(row)) return {};
    switch (array_->type_id()) {
      case arrow::Type::STRING:
        return static_cast<const arrow::StringArray&>(*array_).GetView(row);
      case arrow::Type::LARGE_STRING:
        return static_cast<const arrow::LargeStringArray&>(*array_).GetView(row);
      case arrow::Type::INT8:
        return number<arrow::Int8Array>(row);
      case arrow::Type::INT16:
        return number<arrow::Int16Array>(row);
      case arrow::Type::INT32:
        return number<arrow::Int32Array>(row);
      case arrow::Type::INT64:
        return number<arrow::Int64Array>(row);
      case arrow::Type::UINT8:
        return number<arrow::UInt8Array>(row);
      case arrow::Type::UINT16:
        return number<arrow::UInt16Array>(row);
      case arrow::Type::UINT32:
        return number<arrow::UInt32Array>(row);
      case arrow::Type::UINT64:
        return number<arrow::UInt64Array>(row);
      case arrow::Type::FLOAT:
        return number<arrow::FloatArray>(row);
      case arrow::Type::DOUBLE:
        return number<arrow::DoubleArray>(row);
      case arrow::Type::TIMESTAMP:
        return seconds(static_cast<const arrow::TimestampArray&>(*array_), row);
      case arrow::Type::DICTIONARY:
        return values_->at(static_cast<const arrow::DictionaryArray&>(*array_).GetValueIndex(row));
      default:
        return {};
    }
  }

  void forget() {
    made_.clear();
    if (values_) values_->forget();
  }

  static bool readable(const arrow::DataType& type) {
    if (type.id() == arrow::Type::DICTIONARY) return readable(*static_cast<const arrow::DictionaryType&>(type).value_type());
    return arrow::is_integer(type.id()) || type.id() == arrow::Type::FLOAT || type.id() == arrow::Type::DOUBLE ||
           type.id() == arrow::Type::STRING || type.id() == arrow::Type::LARGE_STRING || type.id() == arrow::Type::TIMESTAMP;
  }

 private:
  template <typename Array>
  std::string_view number(int64_t row) {
    return made_.emplace_back(fmt::format("{}", static_cast<const Array&>(*array_).Value(row)));
  }
  // Seconds since the epoch, as text with up to six decimals.
  std::string_view seconds(const arrow::TimestampArray& array, int64_t row) {
    const int64_t per_second = units_per_second(array);
    const int64_t whole = array.Value(row) / per_second, rest = array.Value(row) % per_second;
    return made_.emplace_back(
        rest == 0 ? fmt::format("{}", whole)
                  : fmt::format("{:.6f}", static_cast<double>(array.Value(row)) / static_cast<double>(per_second)));
  }

  std::shared_ptr<arrow::Array> array_;
  std::unique_ptr<TextColumn> values_;
  std::deque<std::string> made_;  // of values that are no text
};

// A whole number, if the double at `row` is one that prints as int64_t would print it.
std::optional<int64_t> whole(const arrow::DoubleArray& array, int64_t row) {
  const double value = array.Value(row);
  if (!(std::abs(value) < 0x1p53) || value != std::floor(value) || (value == 0 && std::signbit(value))) return std::nullopt;
  return static_cast<int64_t>(value);
}
std::optional<int64_t> whole(const arrow::TimestampArray& array, int64_t row) {
  const int64_t value = array.Value(row), per_second = units_per_second(array);
  return value % per_second == 0 ? std::optional(value / per_second) : std::nullopt;
}
template <typename Integers>
std::optional<int64_t> whole(const Integers& array, int64_t row) {
  return static_cast<int64_t>(array.Value(row));
}

// Calls use(value) with the values of rows [first, last): whole numbers as int64_t where the column's type has them, all else
// as text, which is empty for null. Texts are valid until the next call for the same column.
template <typename Use>
void for_each_value(TextColumn& column, int64_t first, int64_t last, Use use) {
  column.forget();
  const arrow::Array& array = column.array();
  const bool complete = array.null_count() == 0;
  const auto each = [&](const auto& numbers) {
    for (int64_t row = first; row < last; ++row) {
      const auto number = complete || numbers.IsValid(row) ? whole(numbers, row) : std::nullopt;
      if (number) {
        use(*number);
      } else {
        use(column.at(row));
      }
    }
  };
  const auto each_text = [&](const auto& texts) {
    for (int64_t row = first; row < last; ++row) use(complete || texts.IsValid(row) ? texts.GetView(row) : std::string_view());
  };
  switch (array.type_id()) {
    case arrow::Type::INT8:
      return each(static_cast<const arrow::Int8Array&>(array));
    case arrow::Type::INT16:
      return each(static_cast<const arrow::Int16Array&>(array));
    case arrow::Type::INT32:
      return each(static_cast<const arrow::Int32Array&>(array));
    case arrow::Type::INT64:
      return each(static_cast<const arrow::Int64Array&>(array));
    case arrow::Type::UINT8:
      return each(static_cast<const arrow::UInt8Array&>(array));
    case arrow::Type::UINT16:
      return each(static_cast<const arrow::UInt16Array&>(array));
    case arrow::Type::UINT32:
      return each(static_cast<const arrow::UInt32Array&>(array));
    case arrow::Type::DOUBLE:
      return each(static_cast<const arrow::DoubleArray&>(array));
    case arrow::Type::TIMESTAMP:
      return each(static_cast<const arrow::TimestampArray&>(array));
    case arrow::Type::STRING:
      return each_text(static_cast<const arrow::StringArray&>(array));
    case arrow::Type::LARGE_STRING:
      return each_text(static_cast<const arrow::LargeStringArray&>(array));
    default:
      for (int64_t row = first; row < last; ++row) use(column.at(row));
  }
}

// The values of a column that has nothing but int64_t.
std::optional<std::span<const int64_t>> plain_numbers(const TextColumn& column) {
  const arrow::Array& array = column.array();
  if (array.type_id() != arrow::Type::INT64 || array.null_count() > 0) return std::nullopt;
  return std::span(static_cast<const arrow::Int64Array&>(array).raw_values(), static_cast<size_t>(array.length()));
}

using BlankRows = std::vector<uint64_t>;  // their numbers, rising

// Passes a text on and notes which of its lines are blank: the reader behind it skips them without a word.
class BlankLineWatch : public arrow::io::InputStream {
 public:
  BlankLineWatch(std::shared_ptr<arrow::io::InputStream> text, std::shared_ptr<BlankRows> blank_rows)
      : text_(std::move(text)), blank_rows_(std::move(blank_rows)) {}

  arrow::Status Close() override { return text_->Close(); }
  bool closed() const override { return text_->closed(); }
  arrow::Result<int64_t> Tell() const override { return text_->Tell(); }
  arrow::Result<int64_t> Read(int64_t bytes, void* out) override {
    auto count = text_->Read(bytes, out);
    if (count.ok()) watch({static_cast<const char*>(out), static_cast<size_t>(*count)});
    return count;
  }
  arrow::Result<std::shared_ptr<arrow::Buffer>> Read(int64_t bytes) override {
    auto buffer = text_->Read(bytes);
    if (buffer.ok()) watch({reinterpret_cast<const char*>((*buffer)->data()), static_cast<size_t>((*buffer)->size())});
    return buffer;
  }

 private:
  void watch(std::string_view text) {
    while (!text.empty()) {
      const size_t at = text.find('\n');
      const std::string_view line = text.substr(0, at);
      blank_ = blank_ && (line.empty() || line == "\r");
      if (at == std::string_view::npos) return;
      if (blank_) blank_rows_->push_back(row_);
      ++row_;
      blank_ = true;
      text.remove_prefix(at + 1);
    }
  }

  std::shared_ptr<arrow::io::InputStream> text_;
  std::shared_ptr<BlankRows> blank_rows_;
  uint64_t row_ = 1;   // the line that is being read
  bool blank_ = true;  // so far
};

// Appends parsed rows to the table and names those that cannot be.
//
// Numbers of rows are those an editor shows: the header of a text file is row 1, and blank lines, which are passed over, count.
class RowSink {
 public:
  RowSink(const fs::path& path, Part part, const EventFormat& format, uint64_t header_rows, EventTable& table)
      : blank_rows_(std::make_shared<BlankRows>()),
        path_(path),
        part_(part),
        format_(format),
        header_rows_(header_rows),
        table_(table) {}

  // The columns a batch must have, in order: session, item, time, then those of val_interval.
  static std::vector<std::string> columns(const EventFormat& format) {
    std::vector<std::string> names = {format.session_column, format.item_column, format.time_column};
    for (const auto& [column, interval] : format.val_interval) names.push_back(column);
    return names;
  }

  // One column after the other, each only up to the first row that a column before it could not be read in: what is reported is
  // the first bad row, and the first bad value in it.
  void add(const arrow::RecordBatch& batch, const std::vector<int>& indices) {
    Columns columns;
    for (int index : indices) columns.emplace_back(batch.column(index));
    int64_t rows = batch.num_rows();
    rows = add_ids(columns[0], rows, format_.session_column, table_.sessions[static_cast<size_t>(part_)], table_.session);
    rows = add_ids(columns[1], rows, format_.item_column, table_.items, table_.item);
    rows = add_times(columns[2], rows);
    rows = add_in_range(columns, rows);
    table_.part.append(static_cast<size_t>(rows), part_);
    rows_ += static_cast<uint64_t>(rows);
    if (fault_) fail(columns, rows);
  }
  void expect(size_t rows) { table_.reserve(table_.events() + rows); }
  uint64_t rows() const { return rows_; }
  const std::shared_ptr<BlankRows>& blank_rows() const { return blank_rows_; }

  // The number of the row that was added last.
  uint64_t row_number() const { return number_among_blanks(rows_ + header_rows_); }
  // The number of the count-th row that is not blank.
  uint64_t number_among_blanks(uint64_t count) const {
    for (uint64_t blank : *blank_rows_) count += blank <= count;
    return count;
  }

 private:
  using Columns = std::vector<TextColumn>;

  struct BadValue {
    std::string what;
  };

  // Calls use(value) for the values of rows [first, last). Returns where it ended: at `last`, or at the row of the value it
  // threw BadValue for, which is noted.
  template <typename Use>
  int64_t read(TextColumn& column, int64_t first, int64_t last, const std::string& name, Use use) {
    int64_t row = first;
    try {
      for_each_value(column, first, last, [&](auto value) {
        use(value);
        ++row;
      });
    } catch (const BadValue& bad) {
      fault_ = {name, bad.what};
    }
    return row;
  }

  // A few rows at a time, so that the places of their ids come into the cache side by side.
  int64_t add_ids(TextColumn& column, int64_t rows, const std::string& name, Interner& ids, Column<uint32_t>& codes) {
    constexpr int64_t kAtOnce = 128;
    std::array<Interner::Key, kAtOnce> keys;
    const size_t events = codes.size();
    codes.resize(events + static_cast<size_t>(rows));
    uint32_t* next = codes.data() + events;
    if (const auto numbers = plain_numbers(column)) {
      for (int64_t first = 0; first < rows; first += kAtOnce) {
        const auto some = numbers->subspan(static_cast<size_t>(first), static_cast<size_t>(std::min(rows - first, kAtOnce)));
        for (const int64_t number : some) ids.fetch(Interner::Key(number));
        for (const int64_t number : some) *next++ = ids.code(number);
      }
      return rows;
    }
    for (int64_t first = 0; first < rows; first += kAtOnce) {
      const int64_t last = std::min(rows, first + kAtOnce);
      size_t count = 0;
      const int64_t end = read(column, first, last, name, [&](auto value) {
        if constexpr (std::is_same_v<decltype(value), std::string_view>)
          if (value.empty()) throw BadValue{"is empty, wanted an id"};
        ids.fetch(*std::construct_at(&keys[count++], value));
      });
      for (size_t k = 0; k < count; ++k) *next++ = ids.code(keys[k]);
      if (end < last) return end;  // and nobody goes on with the table
    }
    return rows;
  }

  int64_t add_times(TextColumn& column, int64_t rows) {
    if (const auto numbers = plain_numbers(column); numbers && table_.time_scale == 1) {
      table_.time.append(numbers->first(static_cast<size_t>(rows)));
      return rows;
    }
    times_.clear();
    times_.reserve(static_cast<size_t>(rows));
    rows = read(column, 0, rows, format_.time_column, [&](auto value) { times_.push_back(parse_time(value)); });
    table_.time.append(times_);
    return rows;
  }

  int64_t add_in_range(Columns& columns, int64_t rows) {
    const size_t first = table_.in_range.size();
    table_.in_range.append(static_cast<size_t>(rows), true);
    size_t k = 3;
    for (const auto& [name, interval] : format_.val_interval) {
      size_t event = first;
      rows = read(columns[k++], 0, rows, name, [&](auto value) {
        if (!contained(parse_value(value), interval)) table_.in_range.set(event, false);
        ++event;
      });
    }
    return rows;
  }

  static double parse_double(std::string_view text) {
    double value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value))
      throw BadValue{fmt::format("is '{}', wanted a number", text)};
    return value;
  }
  // NaN, which no interval contains, for a missing value: RecBole drops such rows, too.
  static double parse_value(std::string_view text) {
    return text.empty() ? std::numeric_limits<double>::quiet_NaN() : parse_double(text);
  }
  static double parse_value(int64_t number) { return static_cast<double>(number); }

  // Whole numbers exactly; from the first one with a fraction on, all times, also those before it, are in millionths.
  int64_t parse_time(std::string_view text) {
    int64_t number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error == std::errc() && end == text.data() + text.size()) return parse_time(number);
    const double value = parse_double(text);
    if (value == std::floor(value) && std::abs(value) < 0x1p53) return parse_time(static_cast<int64_t>(value));
    if (table_.time_scale == 1) {
      for (size_t event = 0; event < table_.time.size(); ++event) table_.time.set(event, in_millionths(table_.time[event]));
      for (int64_t& time : times_) time = in_millionths(time);
      table_.time_scale = kFractionScale;
    }
    check_size(value);
    return std::llround(value * kFractionScale);
  }
  int64_t parse_time(int64_t number) const { return table_.time_scale == 1 ? number : in_millionths(number); }
  static int64_t in_millionths(int64_t number) {
    check_size(static_cast<double>(number));
    return number * kFractionScale;
  }
  static void check_size(double value) {
    if (std::abs(value) * kFractionScale >= 0x1p62)
      throw BadValue{"is too large, or an earlier one is, to be held in millionths, which the fractions in the file ask for"};
  }

  // Of the row that follows those that were added.
  [[noreturn]] void fail(Columns& columns, int64_t row) const {
    std::vector<std::string> content;
    for (TextColumn& column : columns) content.emplace_back(column.at(row).substr(0, 80));
    throw UserError("{}, row {}: column '{}' {}. The row has '{}': correct or remove it.", path_.string(),
                    number_among_blanks(rows_ + 1 + header_rows_), fault_->column, fault_->what, fmt::join(content, " | "));
  }

  std::shared_ptr<BlankRows> blank_rows_;
  const fs::path& path_;
  Part part_;
  const EventFormat& format_;
  uint64_t header_rows_;
  EventTable& table_;
  uint64_t rows_ = 0;
  std::vector<int64_t> times_;  // of the batch at hand
  struct Fault {
    std::string column, what;
  };
  std::optional<Fault> fault_;  // of the row after the last one that could be read
};

// Positions of the wanted columns among those there are.
std::vector<int> find_columns(const fs::path& path, const std::vector<std::string>& wanted,
                              const std::vector<std::string>& there) {
  std::vector<int> indices;
  for (const std::string& name : wanted) {
    if (std::count(there.begin(), there.end(), name) > 1)
      throw UserError("{} has more than one column '{}'. Rename all but the one to be read.", path.string(), name);
    const auto found = std::find(there.begin(), there.end(), name);
    if (found == there.end()) {
      const std::string near = nearest(name, there);
      throw UserError(
          "{} has no column '{}'; it has {}.{} Name the columns with SESSION_ID_FIELD or USER_ID_FIELD, ITEM_ID_FIELD and "
          "TIME_FIELD, and check field_separator.",
          path.string(), name, fmt::join(there, ", "), near.empty() ? "" : fmt::format(" Did you mean '{}'?", near));
    }
    indices.push_back(static_cast<int>(found - there.begin()));
  }
  return indices;
}

bool ends_with(const fs::path& path, std::string_view ending) {
  std::string name = lower(path.filename().string());
  if (name.ends_with(".gz")) name.resize(name.size() - 3);
  return name.ends_with(ending);
}

// The file, unpacked if its first bytes say gzip. `raw` tells how far the packed file was read.
std::shared_ptr<arrow::io::InputStream> open_text(const fs::path& path, std::shared_ptr<arrow::io::ReadableFile>& raw) {
  raw = value_of(arrow::io::ReadableFile::Open(path.string()), path);
  const auto magic = value_of(raw->Read(2), path);
  value_of(raw->Seek(0).ok() ? arrow::Result<bool>(true) : arrow::Result<bool>(arrow::Status::IOError("seek")), path);
  if (magic->size() < 2 || magic->data()[0] != 0x1f || magic->data()[1] != 0x8b) return raw;
  static const std::unique_ptr<arrow::util::Codec> gzip = value_of(arrow::util::Codec::Create(arrow::Compression::GZIP), path);
  return value_of(arrow::io::CompressedInputStream::Make(gzip.get(), raw), path);
}

std::vector<std::string> split(std::string_view line, char separator) {
  std::vector<std::string> fields;
  while (true) {
    const size_t at = line.find(separator);
    fields.emplace_back(line.substr(0, at));
    if (at == std::string_view::npos) return fields;
    line.remove_prefix(at + 1);
  }
}

// The names in the first line: without byte order mark and quotes, and, in .inter files, without RecBole's types.
std::vector<std::string> read_header(const fs::path& path, char separator, bool typed) {
  std::shared_ptr<arrow::io::ReadableFile> raw;
  const auto stream = open_text(path, raw);
  const auto start = value_of(stream->Read(1 << 16), path);
  std::string_view text(reinterpret_cast<const char*>(start->data()), static_cast<size_t>(start->size()));
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);
  std::string_view line = text.substr(0, text.find('\n'));
  if (line.ends_with('\r')) line.remove_suffix(1);
  if (line.empty()) throw UserError("{} has no header: its first line must name the columns. Add one.", path.string());
  std::vector<std::string> names = split(line, separator);
  for (std::string& name : names) {
    if (name.size() >= 2 && name.front() == '"' && name.back() == '"') name = name.substr(1, name.size() - 2);
    if (typed) name = name.substr(0, name.find(':'));
  }
  return names;
}

void read_text(const fs::path& path, const EventFormat& format, RowSink& sink, const ReadProgress& progress) {
  const bool csv = ends_with(path, ".csv");
  const char separator = csv && format.separator == '\t' ? ',' : format.separator;
  const std::vector<std::string> header = read_header(path, separator, ends_with(path, ".inter"));
  std::vector<int> indices = find_columns(path, RowSink::columns(format), header);

  auto read = arrow::csv::ReadOptions::Defaults();
  read.use_threads = false;  // rows are numbered only when read one after the other
  read.column_names = header;
  read.skip_rows = 1;
  auto parse = arrow::csv::ParseOptions::Defaults();
  parse.delimiter = separator;
  parse.quoting = csv;
  parse.newlines_in_values = csv;
  std::string bad_row;
  parse.invalid_row_handler = [&](const arrow::csv::InvalidRow& row) {
    bad_row = fmt::format("{}, row {}: {} fields, wanted {}: '{}'. Correct or remove the row.", path.string(),
                          sink.number_among_blanks(static_cast<uint64_t>(row.number)), row.actual_columns, row.expected_columns,
                          row.text.substr(0, 200));
    return arrow::csv::InvalidRowResult::Error;
  };
  auto convert = arrow::csv::ConvertOptions::Defaults();
  convert.strings_can_be_null = false;
  convert.check_utf8 = false;
  for (int& index : indices) {
    const std::string& name = header[static_cast<size_t>(index)];
    const auto there = std::find(convert.include_columns.begin(), convert.include_columns.end(), name);
    index = static_cast<int>(there - convert.include_columns.begin());
    if (there == convert.include_columns.end()) convert.include_columns.push_back(name);
    convert.column_types[name] = arrow::utf8();
  }

  std::shared_ptr<arrow::io::ReadableFile> raw;
  const auto stream = std::make_shared<BlankLineWatch>(open_text(path, raw), sink.blank_rows());
  const double bytes = static_cast<double>(std::max<uintmax_t>(1, fs::file_size(path)));
  const auto opened = arrow::csv::StreamingReader::Make(arrow::io::default_io_context(), stream, read, parse, convert);
  if (!opened.ok() && bad_row.empty()) {
    for (const char* header_alone : {"Empty CSV", "Could not skip initial"})
      if (opened.status().message().find(header_alone) != std::string::npos) return;
    throw UserError("cannot read {}: {}. Check that it is text of the kind its name says.", path.string(),
                    opened.status().message());
  }
  if (!bad_row.empty()) throw UserError(bad_row);
  const auto reader = *opened;
  while (true) {
    std::shared_ptr<arrow::RecordBatch> batch;
    const arrow::Status status = reader->ReadNext(&batch);
    if (!bad_row.empty()) throw UserError(bad_row);
    if (!status.ok())
      throw UserError("cannot read {} after row {}: {}. Check that the file is complete.", path.string(), sink.row_number(),
                      status.message());
    if (!batch) return;
    sink.add(*batch, indices);
    if (progress) progress(sink.rows(), static_cast<double>(raw->Tell().ValueOr(0)) / bytes);
  }
}

void read_parquet(const fs::path& path, const EventFormat& format, RowSink& sink, const ReadProgress& progress) {
  const auto file = value_of(arrow::io::ReadableFile::Open(path.string()), path);
  GrowingBlocks pool(arrow::default_memory_pool());
  parquet::arrow::FileReaderBuilder builder;
  if (const auto status = builder.Open(file, parquet::ReaderProperties(&pool)); !status.ok())
    throw UserError("cannot read {}: {}. Check that it is a Parquet file.", path.string(), status.message());
  auto opened = builder.memory_pool(&pool)->Build();
  if (!opened.ok())
    throw UserError("cannot read {}: {}. Check that it is a Parquet file.", path.string(), opened.status().message());
  const auto reader = std::move(*opened);
  std::shared_ptr<arrow::Schema> schema;
  if (const auto status = reader->GetSchema(&schema); !status.ok())
    throw UserError("cannot read {}: {}.", path.string(), status.message());
  std::set<int> leaves;  // columns of the file that hold the wanted ones
  for (int index : find_columns(path, RowSink::columns(format), schema->field_names())) {
    if (!TextColumn::readable(*schema->field(index)->type()))
      throw UserError("{}: column '{}' is of type {}, wanted numbers or text. Write it as one of these.", path.string(),
                      schema->field(index)->name(), schema->field(index)->type()->ToString());
    leaves.insert(reader->manifest().schema_fields[static_cast<size_t>(index)].column_index);
  }
  std::vector<int> row_groups(static_cast<size_t>(reader->num_row_groups()));
  std::iota(row_groups.begin(), row_groups.end(), 0);
  const auto batches = value_of(reader->GetRecordBatchReader(row_groups, {leaves.begin(), leaves.end()}), path);
  const std::vector<int> indices = find_columns(path, RowSink::columns(format), batches->schema()->field_names());
  const int64_t rows = reader->parquet_reader()->metadata()->num_rows();
  sink.expect(static_cast<size_t>(rows));
  while (true) {
    const auto batch = value_of(batches->Next(), path);
    if (!batch) return;
    sink.add(*batch, indices);
    if (progress) progress(sink.rows(), static_cast<double>(sink.rows()) / static_cast<double>(rows));
  }
}

}  // namespace

void read_events(const fs::path& path, Part part, const EventFormat& format, EventTable& table, const ReadProgress& progress) {
  if (!fs::is_regular_file(path))
    throw UserError("there is no file {}. Check data_path, dataset and the *_file options.", path.string());
  if (std::none_of(std::begin(kEndings), std::end(kEndings), [&](std::string_view ending) { return ends_with(path, ending); }))
    throw UserError(
        "cannot tell the format of {} from its name; wanted one of {} (text also with .gz behind it). Rename the file.",
        path.string(), fmt::join(kEndings, " "));
  const bool parquet = ends_with(path, ".parquet");
  RowSink sink(path, part, format, parquet ? 0 : 1, table);
  if (parquet)
    read_parquet(path, format, sink, progress);
  else
    read_text(path, format, sink, progress);
}

}  // namespace gru4rec

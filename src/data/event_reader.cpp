#include "gru4rec/data/event_reader.h"

#include <arrow/api.h>
#include <arrow/csv/api.h>
#include <arrow/io/api.h>
#include <arrow/util/compression.h>
#include <fmt/ranges.h>
#include <parquet/arrow/reader.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "gru4rec/base/error.h"
#include "gru4rec/base/nearest.h"

namespace gru4rec {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kFractionScale = 1'000'000;

// The value of a Result, or a SurroundingsError that names the file.
template <typename T>
T value_of(arrow::Result<T> result, const fs::path& path) {
  if (result.ok()) return std::move(result).ValueUnsafe();
  throw SurroundingsError("cannot read {}: {}. Check the file and the disk.", path.string(), result.status().message());
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

  // Empty for null. Valid until the next call.
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

  static bool readable(const arrow::DataType& type) {
    if (type.id() == arrow::Type::DICTIONARY) return readable(*static_cast<const arrow::DictionaryType&>(type).value_type());
    return arrow::is_integer(type.id()) || type.id() == arrow::Type::FLOAT || type.id() == arrow::Type::DOUBLE ||
           type.id() == arrow::Type::STRING || type.id() == arrow::Type::LARGE_STRING || type.id() == arrow::Type::TIMESTAMP;
  }

 private:
  template <typename Array>
  std::string_view number(int64_t row) {
    buffer_ = fmt::format("{}", static_cast<const Array&>(*array_).Value(row));
    return buffer_;
  }
  // Seconds since the epoch, as text with up to six decimals.
  std::string_view seconds(const arrow::TimestampArray& array, int64_t row) {
    static constexpr int64_t kPerSecond[] = {1, 1000, 1'000'000, 1'000'000'000};
    const int64_t per_second = kPerSecond[static_cast<const arrow::TimestampType&>(*array.type()).unit()];
    const int64_t whole = array.Value(row) / per_second, rest = array.Value(row) % per_second;
    buffer_ = rest == 0 ? fmt::format("{}", whole)
                        : fmt::format("{:.6f}", static_cast<double>(array.Value(row)) / static_cast<double>(per_second));
    return buffer_;
  }

  std::shared_ptr<arrow::Array> array_;
  std::unique_ptr<TextColumn> values_;
  std::string buffer_;
};

// Appends parsed rows to the table and names those that cannot be.
class RowSink {
 public:
  RowSink(const fs::path& path, Part part, const EventFormat& format, EventTable& table)
      : path_(path), part_(part), format_(format), table_(table) {
    for (const auto& [column, interval] : format.val_interval) intervals_.push_back(interval);
  }

  // The columns a batch must have, in order: session, item, time, then those of val_interval.
  static std::vector<std::string> columns(const EventFormat& format) {
    std::vector<std::string> names = {format.session_column, format.item_column, format.time_column};
    for (const auto& [column, interval] : format.val_interval) names.push_back(column);
    return names;
  }

  void add(const arrow::RecordBatch& batch, const std::vector<int>& indices) {
    std::vector<TextColumn> columns;
    for (int index : indices) columns.emplace_back(batch.column(index));
    for (int64_t i = 0; i < batch.num_rows(); ++i) {
      ++rows_;
      add_row(columns, i);
    }
  }
  uint64_t rows() const { return rows_; }

 private:
  void add_row(std::vector<TextColumn>& columns, int64_t i) {
    const std::string_view session = columns[0].at(i);
    if (session.empty()) fail(format_.session_column, "is empty, wanted an id");
    const uint32_t session_code = table_.sessions[static_cast<size_t>(part_)].code(session);
    const std::string_view item = columns[1].at(i);
    if (item.empty()) fail(format_.item_column, "is empty, wanted an id");
    const uint32_t item_code = table_.items.code(item);
    const int64_t time = parse_time(columns[2].at(i));
    bool in_range = true;
    for (size_t k = 0; k < intervals_.size(); ++k) in_range &= intervals_[k].contains(parse_value(columns[3 + k].at(i), k));
    table_.session.push_back(session_code);
    table_.item.push_back(item_code);
    table_.time.push_back(time);
    table_.part.push_back(part_);
    table_.in_range.push_back(in_range);
  }

  double parse_double(std::string_view text, const std::string& column) const {
    double value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value))
      fail(column, fmt::format("is '{}', wanted a number", text));
    return value;
  }
  double parse_value(std::string_view text, size_t k) const {
    return parse_double(text, std::next(format_.val_interval.begin(), static_cast<std::ptrdiff_t>(k))->first);
  }

  // Whole numbers exactly; from the first one with a fraction on, all times are held in millionths.
  int64_t parse_time(std::string_view text) {
    int64_t whole = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), whole);
    if (error == std::errc() && end == text.data() + text.size()) return scaled(static_cast<double>(whole), whole);
    const double value = parse_double(text, format_.time_column);
    if (value == std::floor(value) && std::abs(value) < 0x1p53) return scaled(value, static_cast<int64_t>(value));
    if (table_.time_scale == 1) {
      for (int64_t& time : table_.time) time = checked(static_cast<double>(time) * kFractionScale, time * kFractionScale);
      table_.time_scale = kFractionScale;
    }
    return checked(value * kFractionScale, std::llround(value * kFractionScale));
  }
  int64_t scaled(double value, int64_t whole) const {
    if (table_.time_scale == 1) return whole;
    return checked(value * kFractionScale, static_cast<int64_t>(static_cast<uint64_t>(whole) * kFractionScale));
  }
  int64_t checked(double size, int64_t value) const {
    if (std::abs(size) >= 0x1p62)
      fail(format_.time_column, "is too large to be held in millionths, which the fractions in the file ask for");
    return value;
  }

  [[noreturn]] void fail(const std::string& column, const std::string& what) const {
    throw UserError("{}, row {}: column '{}' {}. Correct or remove the row.", path_.string(), rows_ + 1, column, what);
  }

  const fs::path& path_;
  Part part_;
  const EventFormat& format_;
  EventTable& table_;
  std::vector<Interval> intervals_;
  uint64_t rows_ = 0;
};

// Positions of the wanted columns among those there are.
std::vector<int> find_columns(const fs::path& path, const std::vector<std::string>& wanted,
                              const std::vector<std::string>& there) {
  std::vector<int> indices;
  for (const std::string& name : wanted) {
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
  std::string name = path.filename().string();
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
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
  const bool comma = ends_with(path, ".csv");
  const char separator = comma ? ',' : format.separator;
  const std::vector<std::string> header = read_header(path, separator, ends_with(path, ".inter"));
  const std::vector<int> indices = find_columns(path, RowSink::columns(format), header);

  auto read = arrow::csv::ReadOptions::Defaults();
  read.use_threads = false;  // rows are numbered only when read one after the other
  read.column_names = header;
  read.skip_rows = 1;
  auto parse = arrow::csv::ParseOptions::Defaults();
  parse.delimiter = separator;
  parse.quoting = comma;
  std::string bad_row;
  parse.invalid_row_handler = [&](const arrow::csv::InvalidRow& row) {
    bad_row = fmt::format("{}, row {}: {} fields, wanted {}: '{}'. Correct or remove the row.", path.string(),
                          row.number >= 0 ? row.number : static_cast<int64_t>(sink.rows()) + 2, row.actual_columns,
                          row.expected_columns, row.text.substr(0, 200));
    return arrow::csv::InvalidRowResult::Error;
  };
  auto convert = arrow::csv::ConvertOptions::Defaults();
  convert.strings_can_be_null = false;
  convert.check_utf8 = false;
  for (const std::string& name : header) convert.column_types[name] = arrow::utf8();

  std::shared_ptr<arrow::io::ReadableFile> raw;
  const auto stream = open_text(path, raw);
  const double bytes = static_cast<double>(std::max<uintmax_t>(1, fs::file_size(path)));
  const auto opened = arrow::csv::StreamingReader::Make(arrow::io::default_io_context(), stream, read, parse, convert);
  if (!opened.ok() && bad_row.empty()) {
    if (opened.status().message().find("Empty CSV") != std::string::npos) return;  // a header alone
    throw UserError("cannot read {}: {}. Check that it is text of the kind its name says.", path.string(),
                    opened.status().message());
  }
  if (!bad_row.empty()) throw UserError(bad_row);
  const auto reader = *opened;
  while (true) {
    std::shared_ptr<arrow::RecordBatch> batch;
    const arrow::Status status = reader->ReadNext(&batch);
    if (!bad_row.empty()) throw UserError(bad_row);
    if (!status.ok()) throw UserError("cannot read {} after row {}: {}.", path.string(), sink.rows() + 1, status.message());
    if (!batch) return;
    sink.add(*batch, indices);
    if (progress) progress(sink.rows(), static_cast<double>(raw->Tell().ValueOr(0)) / bytes);
  }
}

void read_parquet(const fs::path& path, const EventFormat& format, RowSink& sink, const ReadProgress& progress) {
  const auto file = value_of(arrow::io::ReadableFile::Open(path.string()), path);
  auto opened = parquet::arrow::OpenFile(file, arrow::default_memory_pool());
  if (!opened.ok())
    throw UserError("cannot read {}: {}. Check that it is a Parquet file.", path.string(), opened.status().message());
  const auto reader = std::move(*opened);
  std::shared_ptr<arrow::Schema> schema;
  if (const auto status = reader->GetSchema(&schema); !status.ok())
    throw UserError("cannot read {}: {}.", path.string(), status.message());
  const std::vector<int> indices = find_columns(path, RowSink::columns(format), schema->field_names());
  for (int index : indices)
    if (!TextColumn::readable(*schema->field(index)->type()))
      throw UserError("{}: column '{}' is of type {}, wanted numbers or text. Write it as one of these.", path.string(),
                      schema->field(index)->name(), schema->field(index)->type()->ToString());
  const auto batches = value_of(reader->GetRecordBatchReader(), path);
  const auto rows = static_cast<double>(std::max<int64_t>(1, reader->parquet_reader()->metadata()->num_rows()));
  while (true) {
    const auto batch = value_of(batches->Next(), path);
    if (!batch) return;
    sink.add(*batch, indices);
    if (progress) progress(sink.rows(), static_cast<double>(sink.rows()) / rows);
  }
}

}  // namespace

void read_events(const fs::path& path, Part part, const EventFormat& format, EventTable& table, const ReadProgress& progress) {
  if (!fs::is_regular_file(path))
    throw UserError("there is no file {}. Check data_path, dataset and the *_file options.", path.string());
  RowSink sink(path, part, format, table);
  if (ends_with(path, ".parquet"))
    read_parquet(path, format, sink, progress);
  else
    read_text(path, format, sink, progress);
}

}  // namespace gru4rec

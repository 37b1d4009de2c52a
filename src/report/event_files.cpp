#include "gru4rec/report/event_files.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <iterator>
#include <optional>
#include <protozero/pbf_message.hpp>
#include <protozero/pbf_writer.hpp>
#include <string_view>

#include "gru4rec/base/atomic_file.h"
#include "gru4rec/base/host_name.h"

namespace gru4rec {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = "events.out.tfevents.";
constexpr size_t kHead = sizeof(uint64_t) + sizeof(uint32_t), kFoot = sizeof(uint32_t);  // around the data of a record

// Fields of the messages, by their numbers.
enum class Event : protozero::pbf_tag_type { wall_time = 1, step = 2, file_version = 3, summary = 5 };
enum class Summary : protozero::pbf_tag_type { value = 1 };
enum class Value : protozero::pbf_tag_type { tag = 1, simple_value = 2 };
template <typename Field>
constexpr protozero::pbf_tag_type number(Field field) {
  return static_cast<protozero::pbf_tag_type>(field);
}

constexpr std::array<uint32_t, 256> crc_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78 : 0);
    table[byte] = crc;
  }
  return table;
}

uint32_t masked_crc(std::span<const char> bytes) {
  const uint32_t crc = crc32c(bytes);
  return (crc >> 15 | crc << 17) + 0xa282ead8;
}

template <typename T>
std::string bytes_of(T value) {
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}
template <typename T>
T value_at(std::string_view bytes, size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

std::string record_of(const std::string& event) {
  const std::string length = bytes_of<uint64_t>(event.size());
  return length + bytes_of(masked_crc(length)) + event + bytes_of(masked_crc(event));
}

std::string version_event() {
  std::string bytes;
  protozero::pbf_writer event(bytes);
  event.add_double(number(Event::wall_time), seconds_since_1970());
  event.add_string(number(Event::file_version), "brain.Event:2");
  return bytes;
}

std::string scalar_event(int64_t step, std::span<const Scalar> scalars, double time) {
  std::string bytes;
  protozero::pbf_writer event(bytes);
  event.add_double(number(Event::wall_time), time);
  event.add_int64(number(Event::step), step);
  protozero::pbf_writer summary(event, number(Event::summary));
  for (const Scalar& scalar : scalars) {
    protozero::pbf_writer value(summary, number(Summary::value));
    value.add_string(number(Value::tag), scalar.tag);
    value.add_float(number(Value::simple_value), static_cast<float>(scalar.value));
  }
  return bytes;
}

// The data of the first record, which is whole and undamaged; nothing if it is not.
std::optional<std::string_view> first_record(std::string_view bytes) {
  if (bytes.size() < kHead) return std::nullopt;
  const auto length = value_at<uint64_t>(bytes, 0);
  if (value_at<uint32_t>(bytes, sizeof length) != masked_crc(bytes.substr(0, sizeof length))) return std::nullopt;
  if (bytes.size() - kHead < kFoot || length > bytes.size() - kHead - kFoot) return std::nullopt;
  const std::string_view data = bytes.substr(kHead, length);
  if (value_at<uint32_t>(bytes, kHead + length) != masked_crc(data)) return std::nullopt;
  return data;
}

struct Content {
  int64_t step = 0;
  std::vector<std::string> tags;
};
Content content_of(std::string_view bytes) {
  Content content;
  for (protozero::pbf_message<Event> event({bytes.data(), bytes.size()}); event.next();) {
    if (event.tag() == Event::step) {
      content.step = event.get_int64();
    } else if (event.tag() == Event::summary) {
      for (protozero::pbf_message<Summary> summary(event.get_message()); summary.next(Summary::value);)
        for (protozero::pbf_message<Value> value(summary.get_message()); value.next();)
          value.tag() == Value::tag ? content.tags.push_back(value.get_string()) : value.skip();
    } else {
      event.skip();
    }
  }
  return content;
}

void cut_file(const fs::path& file, const std::function<bool(int64_t, const std::string&)>& keep) {
  std::ifstream in(file, std::ios::binary);
  const std::string all{std::istreambuf_iterator<char>(in), {}};
  if (!in && !in.eof()) throw_io_error("read", file, errno);
  std::string kept;
  bool scalars = false;
  std::string_view rest = all;
  while (const auto data = first_record(rest)) {
    const size_t size = kHead + data->size() + kFoot;
    const Content content = content_of(*data);
    const bool stays = std::ranges::all_of(content.tags, [&](const std::string& tag) { return keep(content.step, tag); });
    if (stays) kept += rest.substr(0, size);
    scalars = scalars || (stays && !content.tags.empty());
    rest.remove_prefix(size);
  }
  if (!scalars)
    fs::remove(file);
  else if (kept.size() != all.size())
    write_file_atomically(file, kept);
}

}  // namespace

double seconds_since_1970() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

uint32_t crc32c(std::span<const char> bytes) {
  static constexpr std::array<uint32_t, 256> kTable = crc_table();
  uint32_t crc = ~uint32_t{0};
  for (const char byte : bytes) crc = crc >> 8 ^ kTable[(crc ^ static_cast<unsigned char>(byte)) & 0xff];
  return ~crc;
}

void EventFiles::open() {
  std::error_code error;
  fs::create_directories(folder_, error);
  if (error) throw_io_error("make", folder_, error.value());
  // The names of a run's files are in the order in which they were begun.
  const auto seconds = static_cast<int64_t>(seconds_since_1970());
  for (int i = 0; path_.empty() || fs::exists(path_); ++i)
    path_ = folder_ / fmt::format("{}{}.{}.{}.{}", kPrefix, seconds, host_name(), getpid(), i);
  out_.open(path_, std::ios::binary | std::ios::app);
  out_ << record_of(version_event());
}

void EventFiles::add(int64_t step, std::span<const Scalar> scalars, double time) {
  if (path_.empty()) open();
  out_ << record_of(scalar_event(step, scalars, time));
  if (!out_) throw_io_error("write", path_, errno);
}

void EventFiles::flush() {
  if (path_.empty()) return;
  out_ << std::flush;
  if (!out_) throw_io_error("write", path_, errno);
}

void EventFiles::cut(const std::function<bool(int64_t step, const std::string& tag)>& keep) const {
  if (!fs::is_directory(folder_)) return;
  for (const fs::directory_entry& file : fs::directory_iterator(folder_))
    if (file.path().filename().string().starts_with(kPrefix)) cut_file(file.path(), keep);
}

}  // namespace gru4rec

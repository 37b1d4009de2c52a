#include "gru4rec/data/interner.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <optional>
#include <utility>

#include "gru4rec/base/hash.h"

namespace gru4rec {
namespace {

// The number that prints as this text.
std::optional<int64_t> number_printed_as(std::string_view text) {
  const size_t digits = text.starts_with('-') ? 1 : 0;
  if (text.substr(digits).starts_with('0') && text != "0") return std::nullopt;
  int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size() ? std::optional(number) : std::nullopt;
}

}  // namespace

Interner::Key::Key(std::string_view text) {
  if (const auto number = number_printed_as(text)) {
    id_ = *number;
  } else {
    id_ = static_cast<int64_t>(hash_bytes(text.data(), text.size()));
    is_number_ = false;
    text_ = text;
  }
}

std::string Interner::text(uint32_t code) const {
  return is_number_[code] ? std::to_string(ids_[code]) : texts_[static_cast<size_t>(ids_[code])];
}

// The next code, for an id that has none.
uint32_t Interner::add(const Key& key) {
  const auto code = static_cast<uint32_t>(size());
  ids_.push_back(key.is_number_ ? key.id_ : static_cast<int64_t>(texts_.size()));
  is_number_.push_back(key.is_number_);
  if (!key.is_number_) texts_.emplace_back(key.text_);
  return code;
}

uint32_t Interner::code_beyond(const Key& key) {
  if (key.is_number_ && size() >= next_look_) {
    look_for_window();
    if (in_window(key)) return code(key);
  }
  for (size_t at = home(key.id_); !places_.empty(); ++at) {
    const Place& place = places_[at & (places_.size() - 1)];
    if (place.code == kFree) break;
    if (place.id != key.id_ || place.is_number != key.is_number_) continue;
    if (key.is_number_ || texts_[static_cast<size_t>(ids_[place.code])] == key.text_) return place.code;
  }
  const uint32_t code = add(key);
  free_place(key.id_) = {key.id_, code, key.is_number_};
  return code;
}

// Where a new id goes, which is taken from now on.
Interner::Place& Interner::free_place(int64_t id) {
  if (2 * (taken_ + 1) > places_.size()) deal_places(std::max<size_t>(64, 2 * places_.size()));
  ++taken_;
  size_t at = home(id);
  while (places_[at & (places_.size() - 1)].code != kFree) ++at;
  return places_[at & (places_.size() - 1)];
}

// The range that nine tenths of the numbers lie in, by a sample, and as much again behind it, where it is not much longer than
// they are many.
void Interner::look_for_window() {
  constexpr size_t kSample = 1024, kLongest = 4;  // times the ids
  next_look_ = size() + size() / 2;
  std::vector<int64_t> sample;
  for (size_t i = 0; i < kSample; ++i)
    if (const size_t code = i * size() / kSample; is_number_[code]) sample.push_back(ids_[code]);
  if (sample.size() < kSample / 2) return;
  std::sort(sample.begin(), sample.end());
  const size_t rest = sample.size() / 20;
  const auto first = static_cast<uint64_t>(sample[rest]), last = static_cast<uint64_t>(sample[sample.size() - 1 - rest]);
  const uint64_t length = last - first + 1;
  if (length > kLongest * size()) return;
  const uint64_t former_first = std::exchange(window_first_, first - length / 8);
  const size_t former_size = window_.size();
  window_.assign(2 * length, kFree);
  deal_places(places_.size());
  for (uint32_t code = 0; code < size(); ++code) {
    if (!is_number_[code]) continue;
    const int64_t number = ids_[code];
    if (place_in_window(number) < window_.size())
      window_[place_in_window(number)] = code;
    else if (static_cast<uint64_t>(number) - former_first < former_size)
      free_place(number) = {number, code, true};
  }
}

// Moves those that the window does not have into so many places.
void Interner::deal_places(size_t places) {
  const std::vector<Place> former = std::exchange(places_, std::vector<Place>(places));
  taken_ = 0;
  for (const Place& place : former)
    if (place.code != kFree && !(place.is_number && place_in_window(place.id) < window_.size())) free_place(place.id) = place;
}

}  // namespace gru4rec

#include "gru4rec/data/event_table.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <utility>

#include "gru4rec/base/hash.h"
#include "gru4rec/base/random.h"

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

uint32_t Interner::code(std::string_view text) {
  if (const auto number = number_printed_as(text)) return code(*number);
  Place& place = find_or_take(hash_bytes(text.data(), text.size()), false, text);
  if (place.code == ids_.size()) ids_.emplace_back(std::string(text));
  return place.code;
}

uint32_t Interner::code(int64_t number) {
  Place& place = find_or_take(mix64(static_cast<uint64_t>(number)), true, {});
  if (place.code == ids_.size()) ids_.emplace_back(number);
  return place.code;
}

void Interner::expect(std::string_view text) const {
  if (const auto number = number_printed_as(text)) return expect(*number);
  fetch(hash_bytes(text.data(), text.size()));
}

void Interner::expect(int64_t number) const { fetch(mix64(static_cast<uint64_t>(number))); }

void Interner::fetch(uint64_t hash) const {
  if (!places_.empty()) __builtin_prefetch(&places_[hash & (places_.size() - 1)]);
}

std::string Interner::text(uint32_t code) const {
  const auto* number = std::get_if<int64_t>(&ids_[code]);
  return number ? std::to_string(*number) : std::get<std::string>(ids_[code]);
}

// The place of an id, with its code; the next code if it is new. mix64 is a bijection: of numbers, equal hashes say it all.
Interner::Place& Interner::find_or_take(uint64_t hash, bool is_number, std::string_view text) {
  if (2 * (ids_.size() + 1) > places_.size()) make_room();
  for (size_t at = hash;; ++at) {
    Place& place = places_[at & (places_.size() - 1)];
    if (place.code == kFree) return place = {hash, static_cast<uint32_t>(ids_.size()), is_number};
    if (place.hash == hash && place.is_number == is_number && (is_number || std::get<std::string>(ids_[place.code]) == text))
      return place;
  }
}

void Interner::make_room() {
  const std::vector<Place> former = std::exchange(places_, std::vector<Place>(std::max<size_t>(64, 2 * places_.size())));
  for (const Place& place : former) {
    if (place.code == kFree) continue;
    size_t at = place.hash;
    while (places_[at & (places_.size() - 1)].code != kFree) ++at;
    places_[at & (places_.size() - 1)] = place;
  }
}

void EventTable::drop(size_t first, const std::vector<bool>& goes) {
  const auto compact = [&](auto& column) {
    size_t kept = first;
    for (size_t i = first; i < column.size(); ++i)
      if (!goes[i - first]) column[kept++] = column[i];
    column.resize(kept);
  };
  compact(session), compact(item), compact(time), compact(part), compact(in_range);
}

void EventTable::reserve(size_t events) {
  session.reserve(events);
  item.reserve(events);
  time.reserve(events);
  part.reserve(events);
  in_range.reserve(events);
}

}  // namespace gru4rec

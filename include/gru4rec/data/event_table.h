// Raw events as columns, in the order of their files. Ids are codes of interned texts.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace gru4rec {

// Texts numbered 0, 1, 2 … by first appearance; each is kept once. Most ids are whole numbers: a text that is just what an
// int64_t prints as is kept as that number, and a number is the text it prints as.
//
//   ids.code("7") == ids.code(7);      ids.text(ids.code(7)) == "7";      ids.code("07") != ids.code(7);
//
// A table of open addresses with places for at least twice the texts, of 16 bytes each: finding a number touches one cache
// line. Local; one thread.
class Interner {
 public:
  uint32_t code(std::string_view text);
  uint32_t code(int64_t number);
  // Fetches into the cache what code() will look at.
  void expect(std::string_view text) const;
  void expect(int64_t number) const;
  std::string text(uint32_t code) const;
  size_t size() const { return ids_.size(); }

 private:
  static constexpr uint32_t kFree = UINT32_MAX;
  struct Place {
    uint64_t hash = 0;
    uint32_t code = kFree;
    bool is_number = false;
  };

  Place& find_or_take(uint64_t hash, bool is_number, std::string_view text);
  void fetch(uint64_t hash) const;
  void make_room();

  std::vector<Place> places_;                           // their number is a power of two
  std::deque<std::variant<int64_t, std::string>> ids_;  // [code]
};

// Which file, and so which part of the data, an event came from.
enum class Part : uint8_t { whole, train, valid, test };
constexpr size_t kParts = 4;

struct EventTable {
  std::vector<uint32_t> session;  // [events] code in sessions[part]
  std::vector<uint32_t> item;     // [events] code in items
  std::vector<int64_t> time;      // [events] in 1/time_scale of the units of the file
  std::vector<Part> part;         // [events]
  std::vector<uint8_t> in_range;  // [events] whether val_interval keeps it
  // [events that were read back from a store, which come first] whether it goes on with the session of the event before it,
  // however much time lies between them
  std::vector<uint8_t> goes_on;
  Interner sessions[kParts];  // the same id in two files names two sessions
  Interner items;
  int64_t time_scale = 1;  // 1, or 1,000,000 once a time with a fraction was read

  size_t events() const { return item.size(); }
  // Drops the events from `first` on that `goes` names, [events - first]; those that stay keep their order.
  void drop(size_t first, const std::vector<bool>& goes);
  void reserve(size_t events);
};

}  // namespace gru4rec

// Raw events as columns, in the order of their files. Ids are codes of interned texts.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace gru4rec {

// Texts numbered 0, 1, 2 … by first appearance; each is kept once. Local; one thread.
class Interner {
 public:
  uint32_t code(std::string_view text);
  const std::string& text(uint32_t code) const { return texts_[code]; }
  size_t size() const { return texts_.size(); }

 private:
  std::deque<std::string> texts_;  // never moves a text
  std::unordered_map<std::string_view, uint32_t> codes_;
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
  Interner sessions[kParts];      // the same id in two files names two sessions
  Interner items;
  int64_t time_scale = 1;  // 1, or 1,000,000 once a time with a fraction was read

  size_t events() const { return item.size(); }
};

}  // namespace gru4rec

// Raw events as columns, in the order of their files. Ids are codes of interned texts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "gru4rec/base/column.h"
#include "gru4rec/data/columns.h"
#include "gru4rec/data/interner.h"

namespace gru4rec {

// Which file, and so which part of the data, an event came from.
enum class Part : uint8_t { whole, train, valid, test };
constexpr size_t kParts = 4;

struct EventTable {
  Column<uint32_t> session;      // [events] code in sessions[part]
  Column<uint32_t> item;         // [events] code in items
  NearNumbers time;              // [events] in 1/time_scale of the units of the file
  UniformColumn<Part> part;      // [events]
  UniformColumn<bool> in_range;  // [events] whether val_interval keeps it
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
  // Gives back the memory of the columns; the ids and their codes stay.
  void forget_events();
};

}  // namespace gru4rec

#include "gru4rec/data/event_table.h"

#include <type_traits>

namespace gru4rec {

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

void EventTable::forget_events() {
  const auto give_back = [](auto& column) { std::remove_reference_t<decltype(column)>().swap(column); };  // clear() would not
  give_back(session), give_back(item), give_back(time), give_back(part), give_back(in_range), give_back(goes_on);
}

}  // namespace gru4rec

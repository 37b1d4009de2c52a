#include "gru4rec/data/event_table.h"

#include <type_traits>

namespace gru4rec {

void EventTable::drop(size_t first, const std::vector<bool>& goes) {
  size_t kept = first;
  for (size_t i = first; i < events(); ++i) {
    if (goes[i - first]) continue;
    session[kept] = session[i];
    item[kept] = item[i];
    time.set(kept, time[i]);
    part.set(kept, part[i]);
    in_range.set(kept++, in_range[i]);
  }
  session.resize(kept), item.resize(kept);
  time.shrink(kept), part.shrink(kept), in_range.shrink(kept);
}

void EventTable::reserve(size_t events) {
  session.reserve(events);
  item.reserve(events);
  time.reserve(events);
}

void EventTable::forget_events() {
  const auto give_back = [](auto& column) { column = std::remove_reference_t<decltype(column)>(); };  // clear() would not
  give_back(session), give_back(item), give_back(time), give_back(part), give_back(in_range), give_back(goes_on);
}

}  // namespace gru4rec

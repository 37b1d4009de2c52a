#include "gru4rec/data/row_set.h"

#include <algorithm>

#include "gru4rec/base/error.h"

namespace gru4rec {

RowSet::RowSet(int64_t table_rows) : place_(static_cast<size_t>(table_rows), kAbsent) {}

void RowSet::clear() {
  for (const int64_t id : ids_) place_[static_cast<size_t>(id)] = kAbsent;
  ids_.clear();
}

void RowSet::add(std::span<const int64_t> ids) {
  for (const int64_t id : ids) {
    if (id < 0 || id >= static_cast<int64_t>(place_.size()))
      throw BugError("row {} is not one of the {} of the item table", id, place_.size());
    if (place_[static_cast<size_t>(id)] != kAbsent) continue;
    place_[static_cast<size_t>(id)] = kUnplaced;
    ids_.push_back(id);
  }
}

void RowSet::close() {
  std::sort(ids_.begin(), ids_.end());
  for (size_t i = 0; i < ids_.size(); ++i) place_[static_cast<size_t>(ids_[i])] = static_cast<int32_t>(i);
}

int64_t RowSet::place_of(int64_t id) const {
  const bool known = id >= 0 && id < static_cast<int64_t>(place_.size()) && place_[static_cast<size_t>(id)] >= 0;
  if (!known) throw BugError("row {} is not in the set of {} rows that this step can move", id, ids_.size());
  return place_[static_cast<size_t>(id)];
}

int64_t RowSet::first_place_from(int64_t id) const { return std::lower_bound(ids_.begin(), ids_.end(), id) - ids_.begin(); }

}  // namespace gru4rec

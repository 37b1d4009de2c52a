#include "gru4rec/data/row_set.h"

#include <algorithm>
#include <bit>
#include <functional>

#include "gru4rec/base/error.h"

namespace gru4rec {
namespace {

constexpr size_t kMarksOfAWord = 64;

}  // namespace

RowSet::RowSet(int64_t table_rows)
    : marks_((static_cast<size_t>(table_rows) + kMarksOfAWord - 1) / kMarksOfAWord),
      place_(static_cast<size_t>(table_rows), kAbsent) {}

void RowSet::clear() {
  for (const int64_t id : ids_) place_[static_cast<size_t>(id)] = kAbsent;
  ids_.clear();
  std::ranges::fill(marks_, 0);
}

void RowSet::add(std::span<const int64_t> ids) {
  for (const int64_t id : ids) {
    if (id < 0 || id >= static_cast<int64_t>(place_.size()))
      throw BugError("row {} is not one of the {} of the item table", id, place_.size());
    marks_[static_cast<size_t>(id) / kMarksOfAWord] |= uint64_t{1} << (static_cast<size_t>(id) % kMarksOfAWord);
  }
}

void RowSet::add_marks(std::span<const uint64_t> marks) {
  if (marks.size() != marks_.size())
    throw BugError("{} words of marks came for a table of {} rows, which has {}", marks.size(), place_.size(), marks_.size());
  std::ranges::transform(marks_, marks, marks_.begin(), std::bit_or());
}

void RowSet::close() {
  ids_.clear();
  for (size_t word = 0; word < marks_.size(); ++word) {
    for (uint64_t left = marks_[word]; left != 0; left &= left - 1) {
      const size_t id = word * kMarksOfAWord + static_cast<size_t>(std::countr_zero(left));
      place_[id] = static_cast<int32_t>(ids_.size());
      ids_.push_back(static_cast<int64_t>(id));
    }
  }
}

int64_t RowSet::place_of(int64_t id) const {
  const bool known = id >= 0 && id < static_cast<int64_t>(place_.size()) && place_[static_cast<size_t>(id)] >= 0;
  if (!known) throw BugError("row {} is not in the set of {} rows that this step can move", id, ids_.size());
  return place_[static_cast<size_t>(id)];
}

int64_t RowSet::first_place_from(int64_t id) const { return std::lower_bound(ids_.begin(), ids_.end(), id) - ids_.begin(); }

}  // namespace gru4rec

// A set of rows of the item table: those that a global batch can move. Rows of a gradient stand in it in rising order of ids.
//
//   rows.clear();
//   rows.add(batch.items);
//   rows.close();
//   rows.place_of(batch.items[0]);
//
// Memory: 4 bytes a row of the table, and 8 a row of the set, which are kept: a steady step allocates nothing. Local; one
// thread.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace gru4rec {

class RowSet {
 public:
  // table_rows: ids are 0 … table_rows - 1.
  explicit RowSet(int64_t table_rows);

  void clear();
  // Ids in any order, any number of times. BugError for one outside the table.
  void add(std::span<const int64_t> ids);
  void add(int64_t id) { add(std::span<const int64_t>(&id, 1)); }
  // Gives the rows their places; after the last add().
  void close();

  int64_t size() const { return static_cast<int64_t>(ids_.size()); }
  // Each once; rising after close(), before that in the order in which they came.
  std::span<const int64_t> ids() const { return ids_; }
  // After close(): the place of a row in ids(). BugError for one that is not in the set.
  int64_t place_of(int64_t id) const;
  // After close(): the place of the first row from `id` on, which need not be in the set.
  int64_t first_place_from(int64_t id) const;

 private:
  static constexpr int32_t kAbsent = -1, kUnplaced = -2;
  std::vector<int64_t> ids_;
  std::vector<int32_t> place_;  // by id
};

}  // namespace gru4rec

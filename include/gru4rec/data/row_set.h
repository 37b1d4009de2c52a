// A set of rows of the item table: those that a global batch can move. Rows of a gradient stand in it in rising order of ids.
//
//   rows.clear();
//   rows.add(batch.items);
//   rows.close();
//   rows.place_of(batch.items[0]);
//
// Memory: 4 bytes and a bit a row of the table, and 8 bytes a row of the set, which are kept: a steady step allocates nothing.
// Local; one thread.
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
  // The rows of another set of as many table rows, by its marks().
  void add_marks(std::span<const uint64_t> marks);
  // Gives the rows their places; after the last add().
  void close();

  // A bit for each row of the table, that of row id in marks()[id / 64]; what was added is in them at once.
  std::span<const uint64_t> marks() const { return marks_; }

  // After close(): how many rows there are.
  int64_t size() const { return static_cast<int64_t>(ids_.size()); }
  // After close(): each once, rising.
  std::span<const int64_t> ids() const { return ids_; }
  // After close(): the place of a row in ids(). BugError for one that is not in the set.
  int64_t place_of(int64_t id) const;
  // After close(): the place of the first row from `id` on, which need not be in the set.
  int64_t first_place_from(int64_t id) const;

 private:
  static constexpr int32_t kAbsent = -1;
  std::vector<uint64_t> marks_;
  std::vector<int64_t> ids_;
  std::vector<int32_t> place_;  // by id
};

}  // namespace gru4rec

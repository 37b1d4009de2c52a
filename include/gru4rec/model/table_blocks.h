// Tables (one row an item) are handled in fixed blocks of 4,096 rows. Every sum over the catalogue is taken block by block and
// the blocks are combined in block order, also when all of them are local. So the bits do not depend on who owns which block.
#pragma once

#include <algorithm>
#include <cstdint>

namespace gru4rec {

constexpr int64_t kTableBlockRows = 4096;

struct BlockRange {  // blocks [first, last)
  int64_t first;
  int64_t last;
};

struct RowRange {  // rows [first, last)
  int64_t first;
  int64_t last;
  int64_t size() const { return last - first; }
};

constexpr int64_t block_count(int64_t rows) { return (rows + kTableBlockRows - 1) / kTableBlockRows; }

// Rows of queries whose scores against a whole table are held at once, where they are: 16 MiB, or a few rows.
constexpr int64_t score_rows_at_once(int64_t table_rows) {
  return std::clamp<int64_t>((int64_t{1} << 22) / table_rows, 16, 1024);
}

constexpr RowRange block_rows(int64_t block, int64_t rows) {
  return {block * kTableBlockRows, std::min(rows, (block + 1) * kTableBlockRows)};
}

}  // namespace gru4rec

// Softmax over the whole catalogue with cross entropy, fused with the output product: loss, gradient of the queries and
// gradient of the table, without ever holding a [targets, items] matrix.
//
// Rows of queries are handled in chunks, the items in tiles of 256 rows whose scores stay in cache between the product that
// makes them, their exponentials and the two products that use those. Within a chunk each table block (model/table_blocks.h)
// gives (max, sum of exp, score of the target); blocks are combined in block order by whoever holds their statistics; then each
// block adds its part to the gradients. An owner of some blocks needs from the others only those three numbers per target and
// block, and the block gradients of the queries: so a catalogue divided over ranks has the bits of one that is not.
//
// Two schedules, by the size of the catalogue. Stored: the exponentials of a chunk are kept for its gradients, 6·N·V·E
// operations. Recomputed: where so few rows would fit that the products were slow, they are made again, 8·N·V·E operations.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "gru4rec/base/options.h"
#include "gru4rec/model/table_blocks.h"

namespace gru4rec {

// What one block contributes to the softmax of a chunk. fp32.
struct BlockStatistics {
  at::Tensor max;      // [rows] the largest score, or what takes its place: no sum of exponentials is above e^16 with it
  at::Tensor sum_exp;  // [rows] Σ exp(score - max) over the block
  at::Tensor target;   // [rows] score of the target if the block holds it, else 0
};

// How the rows of queries are cut, and whether their exponentials are kept. A chunk alone decides the bits: with equal chunks
// both schedules give the same.
struct SoftmaxSchedule {
  int64_t chunk_rows;
  bool stored;
};
// By the catalogue, and by the precision, as exponentials are kept in bf16 where the products are.
SoftmaxSchedule softmax_schedule(int64_t table_rows, Precision precision);
// The last chunks of `targets` that are held at once where the first rows of the table's gradient are wanted early.
int64_t chunks_together(const SoftmaxSchedule& schedule, int64_t targets);
// Bytes that are held at once besides the arguments, for all owners together, but for what ends of tiles and maxima that change
// within a block add. `chunks` are held at once.
int64_t softmax_buffer_bytes(int64_t table_rows, int64_t embedding_size, Precision precision, int64_t chunks = 1);

struct SoftmaxOptions {
  bool score_padding = true;              // row 0 of the table, the padding row, is a class
  SoftmaxSchedule schedule;               // softmax_schedule() of the table, or another for tests
  Precision precision = Precision::fp32;  // or bf16: of the products; scores, sums and gradients are fp32
};

// Called as a gradient of the table grows: its first `rows` rows are final.
using RowsDone = std::function<void(int64_t rows)>;

class TileProducts;

// The block loop of one owner for one chunk of queries. Local. Tensors are fp32, all on one device.
class SoftmaxOwner {
 public:
  // table   [items + 1, E]; row 0 is the padding row
  // number  of this owner: its buffers are those of the owner that had this number on this thread before
  SoftmaxOwner(const at::Tensor& table, BlockRange blocks, const SoftmaxOptions& options, size_t number);

  // queries [rows, E]; labels [rows] table rows, int64. One entry a block, in block order; remembers what gradient() needs.
  // rows_soon: all products with the items are left to gradient(), so that the first rows of the table's gradient are final
  // early. Else some are made here, while exponentials are in cache. The bits are the same.
  // wants_table: gradient() will be asked for that of the table.
  std::vector<BlockStatistics> statistics(const at::Tensor& queries, const at::Tensor& labels, bool wants_table,
                                          bool rows_soon = false);

  // After statistics() of the same chunk, for each owned block in order. log_sum_exp [rows] over *all* blocks; weights [rows]
  // of the targets, fp32. Adds the block's part to grad_table (same shape as table; undefined: none is wanted) and returns that
  // of dL/dqueries, [rows, E].
  at::Tensor gradient(int64_t block, const at::Tensor& log_sum_exp, const at::Tensor& weights, at::Tensor& grad_table);

  BlockRange blocks() const { return blocks_; }
  RowRange rows_of(int64_t block) const;

 private:
  std::vector<RowRange> tiles_of(int64_t block) const;
  at::Tensor items(const RowRange& tile) const;
  at::Tensor kept(size_t number, const RowRange& tile) const;  // where the exponentials of the owner's tile `number` are
  at::Tensor in_cache(const RowRange& tile) const;  // for one tile's, which all tiles and owners of this thread use in turn

  at::Tensor table_;
  BlockRange blocks_;
  SoftmaxOptions options_;
  size_t number_;
  size_t tile_count_ = 0;
  at::Tensor queries_, labels_;
  std::shared_ptr<TileProducts> products_;  // of queries_
  std::vector<at::Tensor> tile_max_;        // [rows], by owned tile, of stored exponentials
  // [rows, E] of stored exponentials, by the tiles that share a maximum: exponentials · items, made while a tile is in cache.
  std::vector<at::Tensor> item_products_;
  bool multiplied_ = false;                  // statistics() made item_products_
  size_t next_tile_ = 0, next_product_ = 0;  // of gradient()
};

// (max, sum of exp, target) of several parts of the catalogue together, added in their order.
BlockStatistics combined(const std::vector<BlockStatistics>& parts);

struct SoftmaxLoss {
  double sum = 0;           // Σ weight · -log softmax(target)
  at::Tensor grad_queries;  // [targets, E] gradient of the sum
};

// Σ_i weight_i · CE(queries_i · tableᵀ, label_i). queries [targets, E], labels int64 [targets], weights fp32 [targets]. Adds to
// grad_table [items + 1, E], if it is defined.
// `owners` are the first blocks of several pretended owners, rising from 0: for tests, and for the day the catalogue is divided
// over ranks; equal to one owner with ==. `done`, if there is one, is called after each block of the last chunk. Some
// of the last chunks (chunks_together) then have their gradients made together, block by block, so that it is called for the
// first time after little more than a third of their arithmetic; for that their exponentials are held.
SoftmaxLoss softmax_cross_entropy(const at::Tensor& queries, const at::Tensor& table, const at::Tensor& labels,
                                  const at::Tensor& weights, const SoftmaxOptions& options, at::Tensor& grad_table,
                                  const std::vector<int64_t>& owners = {0}, const RowsDone& done = {});

}  // namespace gru4rec

#include "gru4rec/model/full_softmax.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/maximum.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <map>

#include "gru4rec/base/heap.h"
#include "gru4rec/model/device.h"
#include "gru4rec/model/loss_total.h"
#include "gru4rec/model/row_kernels.h"
#include "gru4rec/model/table_rows.h"
#include "gru4rec/model/tensor_views.h"
#include "tile_products.h"

namespace gru4rec {

using at::Tensor;

namespace {

constexpr int64_t kTileRows = 256;
constexpr int64_t kStoredBytes = int64_t{64} << 20;
constexpr int64_t kFewestRows = 256;  // of a chunk: fewer would fetch each tile too often
constexpr int64_t kMostRows = 1024;
constexpr int64_t kMostTogether = 4;                  // chunks
constexpr int64_t kBytesInCaches = int64_t{8} << 20;  // of the exponentials of an owner's tiles

// Memory that outlives a step: given back to the system and faulted in again, it would cost as much as much of the arithmetic.
// At least `values`, the same for the same owner and thread.
Tensor exponentials_buffer(size_t owner, int64_t values, at::ScalarType type, at::Device device) {
  thread_local std::map<size_t, Tensor> buffers;
  Tensor& all = buffers[owner];
  if (!all.defined() || all.numel() < values || all.device() != device || all.scalar_type() != type) {
    all = at::empty({values}, at::TensorOptions(type).device(device));
    if (device.is_cpu()) want_huge_pages(all.data_ptr(), all.nbytes());
  }
  return all;
}

// What is subtracted for the targets among the owned rows: weight · item from the gradient of the query, and the other way
// round.
struct TargetGradients {
  const Tensor &queries, &table, &labels, &weights;
  RowRange owned;
  void subtract(Tensor& grad_query, Tensor& grad_table) const {
    uses_tensor_kernels(queries) ? subtract_tensors(grad_query, grad_table) : subtract_rows(grad_query, grad_table);
  }

 private:
  void subtract_tensors(Tensor& grad_query, Tensor& grad_table) const {
    const Tensor is_owned = labels.ge(owned.first).logical_and_(labels.lt(owned.last));
    const Tensor weight = at::where(is_owned, weights, 0.0).unsqueeze(1);
    grad_query.addcmul_(table.index_select(0, labels), weight, -1);
    if (grad_table.defined()) add_rows(queries * weight.neg(), labels, grad_table);
  }
  void subtract_rows(Tensor& grad_query, Tensor& grad_table) const {
    const int64_t rows = queries.size(0), size = queries.size(1);
    const int64_t* label = labels.const_data_ptr<int64_t>();
    const float* weight = weights.const_data_ptr<float>();
    const float *items = table.const_data_ptr<float>(), *query = queries.const_data_ptr<float>();
    float *out = grad_query.data_ptr<float>(), *item_grads = grad_table.defined() ? grad_table.data_ptr<float>() : nullptr;
    constexpr int64_t kRowsAhead = 4;
    const auto is_owned = [&](int64_t i) { return label[i] >= owned.first && label[i] < owned.last; };
    for (int64_t i = 0; i < rows; ++i) {
      if (i + kRowsAhead < rows && is_owned(i + kRowsAhead)) {
        fetch(items + label[i + kRowsAhead] * size, size);
        if (item_grads) fetch(item_grads + label[i + kRowsAhead] * size, size);
      }
      if (!is_owned(i)) continue;
      add_scaled(-weight[i], items + label[i] * size, out + i * size, size);
      if (item_grads) add_scaled(-weight[i], query + i * size, item_grads + label[i] * size, size);
    }
  }
};

bool have_one_maximum(const std::vector<BlockStatistics>& parts) {
  return std::ranges::all_of(parts, [&](const BlockStatistics& part) { return part.max.is_same(parts.front().max); });
}

// A chunk of queries with its statistics.
struct Chunk {
  std::vector<SoftmaxOwner> owners;
  Tensor log_sum_exp, weights, grad_queries;
};

// Each block of all chunks before the next block. Every element has its terms in the order of the chunks, as if one chunk came
// after the other.
void add_gradients(std::vector<Chunk>& chunks, Tensor& grad_table, const RowsDone& done) {
  for (size_t owner = 0; owner < chunks.front().owners.size(); ++owner) {
    const BlockRange blocks = chunks.front().owners[owner].blocks();
    for (int64_t block = blocks.first; block < blocks.last; ++block) {
      for (Chunk& chunk : chunks)
        chunk.grad_queries.add_(chunk.owners[owner].gradient(block, chunk.log_sum_exp, chunk.weights, grad_table));
      if (done) done(chunks.front().owners[owner].rows_of(block).last);
    }
  }
}

}  // namespace

SoftmaxSchedule softmax_schedule(int64_t table_rows, Precision precision) {
  const int64_t rows = kStoredBytes / (precision == Precision::bf16 ? 2 : 4) / table_rows;
  if (rows < kFewestRows) return {kMostRows, /*stored=*/false};
  return {std::min(rows, kMostRows), /*stored=*/true};
}

int64_t chunks_together(const SoftmaxSchedule& schedule, int64_t targets) {
  if (!schedule.stored) return 1;
  return std::clamp<int64_t>((targets + schedule.chunk_rows - 1) / schedule.chunk_rows, 1, kMostTogether);
}

int64_t softmax_buffer_bytes(int64_t table_rows, int64_t embedding_size, Precision precision, int64_t chunks) {
  const SoftmaxSchedule schedule = softmax_schedule(table_rows, precision);
  const int64_t kept = schedule.stored ? table_rows : kTileRows, width = precision == Precision::bf16 ? 2 : 4;
  const int64_t products = 1 + (schedule.stored && precision == Precision::bf16 ? block_count(table_rows) : 0);
  const int64_t in_cache = schedule.stored && precision == Precision::bf16 ? kTileRows : 0;
  return chunks * schedule.chunk_rows * (width * kept + 4 * (1 + products) * embedding_size) +
         schedule.chunk_rows * width * in_cache;
}

SoftmaxOwner::SoftmaxOwner(const Tensor& table, BlockRange blocks, const SoftmaxOptions& options, size_t number)
    : table_(table), blocks_(blocks), options_(options), number_(number) {
  for (int64_t block = blocks.first; block < blocks.last; ++block) tile_count_ += tiles_of(block).size();
}

RowRange SoftmaxOwner::rows_of(int64_t block) const {
  RowRange rows = block_rows(block, table_.size(0));
  if (block == 0 && !options_.score_padding) rows.first = 1;
  return rows;
}

std::vector<RowRange> SoftmaxOwner::tiles_of(int64_t block) const {
  const RowRange rows = rows_of(block);
  std::vector<RowRange> tiles;
  for (int64_t first = rows.first; first < rows.last; first += kTileRows)
    tiles.push_back({first, std::min(first + kTileRows, rows.last)});
  return tiles;
}

Tensor SoftmaxOwner::items(const RowRange& tile) const { return rows_at(table_, tile.first, tile.size()); }

Tensor SoftmaxOwner::kept(size_t number, const RowRange& tile) const {
  const int64_t values = products_->kept_values(kTileRows);
  const auto tiles = static_cast<int64_t>(options_.schedule.stored ? tile_count_ : 1);
  const Tensor all = exponentials_buffer(number_, tiles * values, products_->kept_type(), queries_.device());
  return view_at(all, options_.schedule.stored ? static_cast<int64_t>(number) * values : 0,
                 {products_->kept_values(tile.size())});
}

Tensor SoftmaxOwner::in_cache(const RowRange& tile) const {
  constexpr size_t kOfAllOwners = SIZE_MAX;
  const Tensor all =
      exponentials_buffer(kOfAllOwners, products_->kept_values(kTileRows), products_->kept_type(), queries_.device());
  return view_at(all, 0, {products_->kept_values(tile.size())});
}

std::vector<BlockStatistics> SoftmaxOwner::statistics(const Tensor& queries, const Tensor& labels, bool wants_table,
                                                      bool rows_soon) {
  queries_ = queries;
  labels_ = labels;
  products_ = tile_products(queries, options_.precision);
  multiplied_ = options_.schedule.stored && products_->shares_maxima() && !rows_soon;
  tile_max_.clear();
  item_products_.clear();
  next_tile_ = next_product_ = 0;
  const int64_t kept_bytes = static_cast<int64_t>(tile_count_) * products_->kept_values(kTileRows) *
                             static_cast<int64_t>(c10::elementSize(products_->kept_type()));
  const bool far = kept_bytes > kBytesInCaches;
  size_t number = 0;
  std::vector<BlockStatistics> blocks;
  for (int64_t block = blocks_.first; block < blocks_.last; ++block) {
    std::vector<BlockStatistics> tiles;
    for (const RowRange& tile : tiles_of(block)) {
      const Tensor near = tiles.empty() ? Tensor() : tiles.back().max;
      const Tensor place = multiplied_ && !wants_table ? Tensor() : kept(number++, tile);
      const Tensor exponentials = multiplied_ ? in_cache(tile) : place;
      const LaidOut laid_out = multiplied_ ? LaidOut{place, far} : LaidOut{};
      tiles.push_back(products_->exponentials(items(tile), labels, tile.first, near, exponentials, laid_out));
      if (!options_.schedule.stored) continue;
      tile_max_.push_back(tiles.back().max);
      if (!multiplied_) continue;
      const bool same = tiles.back().max.is_same(near);
      if (!same) item_products_.push_back(at::empty_like(queries));
      products_->multiply_items(items(tile), exponentials, same, item_products_.back());
    }
    blocks.push_back(combined(tiles));
  }
  return blocks;
}

// The gradient of the scores is diag(factor) · exp(score - max) - diag(weights) · one-hot(label). The one-hot part goes to
// single rows, in fp32. Tiles with one maximum have one factor, which their products with the items get together.
Tensor SoftmaxOwner::gradient(int64_t block, const Tensor& log_sum_exp, const Tensor& weights, Tensor& grad_table) {
  Tensor product = multiplied_ ? Tensor() : at::empty_like(queries_);
  Tensor grad_query, max, factor;
  const auto add_product = [&] {
    const Tensor of_row = factor.unsqueeze(1);
    grad_query = grad_query.defined() ? grad_query.addcmul_(product, of_row) : at::mul(product, of_row);
  };
  for (const RowRange& tile : tiles_of(block)) {
    const Tensor exponentials = multiplied_ && !grad_table.defined() ? Tensor() : kept(next_tile_, tile);
    const Tensor max_before = max;
    max = options_.schedule.stored
              ? tile_max_[next_tile_]
              : products_->exponentials(items(tile), labels_, tile.first, max_before, exponentials, {}).max;
    ++next_tile_;
    const bool same = max.is_same(max_before);
    if (!same) {
      if (factor.defined()) add_product();
      factor = (max - log_sum_exp).exp_().mul_(weights);
      if (multiplied_) product = item_products_[next_product_++];
    }
    if (!multiplied_) products_->multiply_items(items(tile), exponentials, same, product);
    if (grad_table.defined())
      products_->add_item_gradients(exponentials, multiplied_, factor, same, rows_at(grad_table, tile.first, tile.size()));
  }
  add_product();
  TargetGradients{queries_, table_, labels_, weights, rows_of(block)}.subtract(grad_query, grad_table);
  return grad_query;
}

BlockStatistics combined(const std::vector<BlockStatistics>& parts) {
  if (parts.size() == 1) return parts.front();
  Tensor max = parts.front().max;
  for (size_t i = 1; i < parts.size(); ++i)
    if (!parts[i].max.is_same(parts[i - 1].max)) max = at::maximum(max, parts[i].max);
  BlockStatistics all{max, at::zeros_like(max), at::zeros_like(max)};
  if (!uses_tensor_kernels(max) && have_one_maximum(parts)) {
    for (const BlockStatistics& part : parts) {
      add_to(all.sum_exp, part.sum_exp);
      add_to(all.target, part.target);
    }
    return all;
  }
  Tensor factor;
  for (size_t i = 0; i < parts.size(); ++i) {
    if (i == 0 || !parts[i].max.is_same(parts[i - 1].max)) factor = (parts[i].max - max).exp_();
    all.sum_exp.addcmul_(parts[i].sum_exp, factor);
    all.target.add_(parts[i].target);  // zero in all parts but one
  }
  return all;
}

SoftmaxLoss softmax_cross_entropy(const Tensor& queries, const Tensor& table, const Tensor& labels, const Tensor& weights,
                                  const SoftmaxOptions& options, Tensor& grad_table, const std::vector<int64_t>& owners,
                                  const RowsDone& done) {
  const int64_t blocks = block_count(table.size(0)), targets = queries.size(0), chunk_rows = options.schedule.chunk_rows;
  const int64_t together = done ? chunks_together(options.schedule, targets) : 1;
  const int64_t last_chunks = (targets - 1) / chunk_rows - together + 1;  // the number of the first of them

  LossTotal total;
  SoftmaxLoss loss;
  loss.grad_queries = at::zeros_like(queries);
  std::vector<Chunk> chunks;  // whose gradients are still to be made
  for (int64_t first = 0; first < targets; first += chunk_rows) {
    const int64_t rows = std::min(chunk_rows, targets - first);
    const bool last = first + rows == targets, held = done && first / chunk_rows >= last_chunks;
    Chunk chunk{{}, {}, rows_at(weights, first, rows), rows_at(loss.grad_queries, first, rows)};
    std::vector<BlockStatistics> statistics;
    for (size_t i = 0; i < owners.size(); ++i) {
      const BlockRange own{owners[i], i + 1 < owners.size() ? owners[i + 1] : blocks};
      chunk.owners.emplace_back(table, own, options, chunks.size() * owners.size() + i);
      for (BlockStatistics& block : chunk.owners.back().statistics(rows_at(queries, first, rows), rows_at(labels, first, rows),
                                                                   grad_table.defined(), held))
        statistics.push_back(block);
    }
    const BlockStatistics all = combined(statistics);
    chunk.log_sum_exp = all.sum_exp.log().add_(all.max);
    total.add((chunk.log_sum_exp - all.target).mul_(chunk.weights));
    chunks.push_back(std::move(chunk));
    if (held && !last) continue;
    add_gradients(chunks, grad_table, last ? done : RowsDone());
    chunks.clear();
  }
  loss.sum = total.value();
  return loss;
}

}  // namespace gru4rec

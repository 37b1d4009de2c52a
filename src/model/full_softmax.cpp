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
#include "gru4rec/model/table_rows.h"
#include "tile_products.h"

namespace gru4rec {

using at::Tensor;

namespace {

constexpr int64_t kTileRows = 256;
constexpr int64_t kStoredBytes = int64_t{64} << 20;
constexpr int64_t kFewestRows = 256;  // of a chunk: fewer would fetch each tile too often
constexpr int64_t kMostRows = 1024;

// Memory that outlives a step: given back to the system and faulted in again, it would cost as much as much of the arithmetic.
// The same one for the same owner and thread.
Tensor exponentials_buffer(size_t owner, int64_t values, at::ScalarType type, at::Device device) {
  thread_local std::map<size_t, Tensor> buffers;
  Tensor& all = buffers[owner];
  if (!all.defined() || all.numel() < values || all.device() != device || all.scalar_type() != type) {
    all = at::empty({values}, at::TensorOptions(type).device(device));
    if (device.is_cpu()) want_huge_pages(all.data_ptr(), all.nbytes());
  }
  return all.narrow(0, 0, values);
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
    for (int64_t i = 0; i < rows; ++i) {
      if (label[i] < owned.first || label[i] >= owned.last) continue;
      float* item_grad = grad_table.defined() ? grad_table.data_ptr<float>() + label[i] * size : nullptr;
      float* out = grad_query.data_ptr<float>() + i * size;
      const float* item = table.const_data_ptr<float>() + label[i] * size;
      const float* query = queries.const_data_ptr<float>() + i * size;
      for (int64_t e = 0; e < size; ++e) out[e] -= weight[i] * item[e];
      for (int64_t e = 0; item_grad && e < size; ++e) item_grad[e] -= weight[i] * query[e];
    }
  }
};

}  // namespace

SoftmaxSchedule softmax_schedule(int64_t table_rows, Precision precision) {
  const int64_t rows = kStoredBytes / (precision == Precision::bf16 ? 2 : 4) / table_rows;
  if (rows < kFewestRows) return {kMostRows, /*stored=*/false};
  return {std::min(rows, kMostRows), /*stored=*/true};
}

int64_t softmax_buffer_bytes(int64_t table_rows, int64_t embedding_size, Precision precision) {
  const SoftmaxSchedule schedule = softmax_schedule(table_rows, precision);
  const int64_t kept = schedule.stored ? table_rows : kTileRows, width = precision == Precision::bf16 ? 2 : 4;
  const int64_t products = 1 + (schedule.stored && precision == Precision::bf16 ? block_count(table_rows) : 0);
  return schedule.chunk_rows * (width * kept + 4 * (1 + products) * embedding_size);
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

Tensor SoftmaxOwner::kept(size_t number, const RowRange& tile) const {
  const int64_t values = products_->kept_values(kTileRows);
  const auto tiles = static_cast<int64_t>(options_.schedule.stored ? tile_count_ : 1);
  const Tensor all = exponentials_buffer(number_, tiles * values, products_->kept_type(), queries_.device());
  return all.narrow(0, options_.schedule.stored ? static_cast<int64_t>(number) * values : 0,
                    products_->kept_values(tile.size()));
}

std::vector<BlockStatistics> SoftmaxOwner::statistics(const Tensor& queries, const Tensor& labels, bool rows_soon) {
  queries_ = queries;
  labels_ = labels;
  products_ = tile_products(queries, options_.precision);
  multiplied_ = options_.schedule.stored && products_->shares_maxima() && !rows_soon;
  tile_max_.clear();
  item_products_.clear();
  size_t number = 0;
  std::vector<BlockStatistics> blocks;
  for (int64_t block = blocks_.first; block < blocks_.last; ++block) {
    std::vector<BlockStatistics> tiles;
    for (const RowRange& tile : tiles_of(block)) {
      const Tensor near = tiles.empty() ? Tensor() : tiles.back().max;
      const Tensor exponentials = kept(number++, tile);
      tiles.push_back(products_->exponentials(items(tile), labels, tile.first, near, exponentials));
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
std::vector<Tensor> SoftmaxOwner::gradient(const Tensor& log_sum_exp, const Tensor& weights, Tensor& grad_table,
                                           const RowsDone& done) {
  std::vector<Tensor> grad_queries;
  Tensor product = multiplied_ ? Tensor() : at::empty_like(queries_);
  auto next_product = item_products_.begin();
  size_t number = 0;
  for (int64_t block = blocks_.first; block < blocks_.last; ++block) {
    Tensor grad_query, max, factor;
    const auto add_product = [&] {
      const Tensor of_row = factor.unsqueeze(1);
      grad_query = grad_query.defined() ? grad_query.addcmul_(product, of_row) : at::mul(product, of_row);
    };
    for (const RowRange& tile : tiles_of(block)) {
      const Tensor exponentials = kept(number, tile);
      const Tensor max_before = max;
      max = options_.schedule.stored ? tile_max_[number]
                                     : products_->exponentials(items(tile), labels_, tile.first, max_before, exponentials).max;
      ++number;
      const bool same = max.is_same(max_before);
      if (!same) {
        if (factor.defined()) add_product();
        factor = (max - log_sum_exp).exp_().mul_(weights);
        if (multiplied_) product = *next_product++;
      }
      if (!multiplied_) products_->multiply_items(items(tile), exponentials, same, product);
      if (grad_table.defined())
        products_->add_item_gradients(exponentials, factor, same, grad_table.narrow(0, tile.first, tile.size()));
    }
    add_product();
    TargetGradients{queries_, table_, labels_, weights, rows_of(block)}.subtract(grad_query, grad_table);
    grad_queries.push_back(grad_query);
    if (done) done(rows_of(block).last);
  }
  return grad_queries;
}

BlockStatistics combined(const std::vector<BlockStatistics>& parts) {
  Tensor max = parts.front().max;
  for (size_t i = 1; i < parts.size(); ++i)
    if (!parts[i].max.is_same(parts[i - 1].max)) max = at::maximum(max, parts[i].max);
  BlockStatistics all{max, at::zeros_like(max), at::zeros_like(max)};
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
  const int64_t blocks = block_count(table.size(0));
  std::vector<SoftmaxOwner> parts;
  for (size_t i = 0; i < owners.size(); ++i)
    parts.emplace_back(table, BlockRange{owners[i], i + 1 < owners.size() ? owners[i + 1] : blocks}, options, i);

  const RowsDone not_yet;
  LossTotal total;
  SoftmaxLoss loss;
  loss.grad_queries = at::empty_like(queries);
  for (int64_t first = 0; first < queries.size(0); first += options.schedule.chunk_rows) {
    const int64_t rows = std::min(options.schedule.chunk_rows, queries.size(0) - first);
    const Tensor chunk_queries = queries.narrow(0, first, rows);
    const Tensor chunk_labels = labels.narrow(0, first, rows);
    const Tensor chunk_weights = weights.narrow(0, first, rows);
    const RowsDone& final_rows = first + rows == queries.size(0) ? done : not_yet;
    std::vector<BlockStatistics> statistics;
    for (SoftmaxOwner& part : parts)
      for (BlockStatistics& block : part.statistics(chunk_queries, chunk_labels, bool(final_rows))) statistics.push_back(block);
    const BlockStatistics all = combined(statistics);
    const Tensor log_sum_exp = all.sum_exp.log().add_(all.max);
    total.add((log_sum_exp - all.target).mul_(chunk_weights));

    Tensor grad_queries = loss.grad_queries.narrow(0, first, rows).zero_();
    for (SoftmaxOwner& part : parts)
      for (const Tensor& grad : part.gradient(log_sum_exp, chunk_weights, grad_table, final_rows)) grad_queries.add_(grad);
  }
  loss.sum = total.value();
  return loss;
}

}  // namespace gru4rec

#include "gru4rec/model/full_softmax.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/maximum.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>

#include "gru4rec/model/row_kernels.h"

namespace gru4rec {

using at::Tensor;

SoftmaxOwner::SoftmaxOwner(const Tensor& table, BlockRange blocks, bool score_padding)
    : table_(table), blocks_(blocks), score_padding_(score_padding) {}

RowRange SoftmaxOwner::rows_of(int64_t block) const {
  RowRange rows = block_rows(block, table_.size(0));
  if (block == 0 && !score_padding_) rows.first = 1;
  return rows;
}

std::vector<BlockStatistics> SoftmaxOwner::statistics(const Tensor& queries, const Tensor& labels) {
  queries_ = queries;
  labels_ = labels;
  statistics_.clear();
  exp_scores_.resize(blocks_.last - blocks_.first);
  const int64_t* label = labels.const_data_ptr<int64_t>();
  for (int64_t block = blocks_.first; block < blocks_.last; ++block) {
    const RowRange rows = rows_of(block);
    Tensor& scores = exp_scores_[block - blocks_.first];
    if (!scores.defined() || scores.size(0) != queries.size(0))
      scores = at::empty({queries.size(0), rows.size()}, queries.options());
    at::mm_out(scores, queries, table_.narrow(0, rows.first, rows.size()).t());
    BlockStatistics statistics;
    statistics.target = at::zeros({queries.size(0)}, queries.options());
    float* target = statistics.target.data_ptr<float>();
    float* score = scores.data_ptr<float>();
    for (int64_t i = 0; i < queries.size(0); ++i)
      if (label[i] >= rows.first && label[i] < rows.last) target[i] = score[i * rows.size() + label[i] - rows.first];
    statistics.max = at::empty({queries.size(0)}, queries.options());
    statistics.sum_exp = at::empty({queries.size(0)}, queries.options());
    exp_rows(score, queries.size(0), rows.size(), statistics.max.data_ptr<float>(), statistics.sum_exp.data_ptr<float>());
    statistics_.push_back(statistics);
  }
  return statistics_;
}

// The gradient of the scores is diag(factor) · exp(score - max) - diag(weights) · one-hot(label). The factors go to the queries
// and the one-hot part to single rows, so that the matrix itself is only read.
std::vector<Tensor> SoftmaxOwner::gradient(const Tensor& log_sum_exp, const Tensor& weights, Tensor& grad_table) {
  std::vector<Tensor> grad_queries;
  const int64_t* label = labels_.const_data_ptr<int64_t>();
  const float* weight = weights.const_data_ptr<float>();
  const int64_t size = queries_.size(1);
  for (int64_t block = blocks_.first; block < blocks_.last; ++block) {
    const RowRange rows = rows_of(block);
    const Tensor& exp_scores = exp_scores_[block - blocks_.first];
    const Tensor factor = (statistics_[block - blocks_.first].max - log_sum_exp).exp_().mul_(weights).unsqueeze(1);
    Tensor grad_query = at::mm(exp_scores, table_.narrow(0, rows.first, rows.size())).mul_(factor);
    if (grad_table.defined()) grad_table.narrow(0, rows.first, rows.size()).addmm_(exp_scores.t(), queries_.mul(factor));
    for (int64_t i = 0; i < queries_.size(0); ++i) {
      if (label[i] < rows.first || label[i] >= rows.last) continue;
      float* item_grad = grad_table.defined() ? grad_table.data_ptr<float>() + label[i] * size : nullptr;
      float* out = grad_query.data_ptr<float>() + i * size;
      const float* item = table_.const_data_ptr<float>() + label[i] * size;
      const float* query = queries_.const_data_ptr<float>() + i * size;
      for (int64_t e = 0; e < size; ++e) out[e] -= weight[i] * item[e];
      for (int64_t e = 0; item_grad && e < size; ++e) item_grad[e] -= weight[i] * query[e];
    }
    grad_queries.push_back(grad_query);
  }
  return grad_queries;
}

Tensor combine_log_sum_exp(const std::vector<BlockStatistics>& blocks) {
  Tensor max = blocks.front().max;
  for (const BlockStatistics& block : blocks) max = at::maximum(max, block.max);
  Tensor sum = at::zeros_like(max);
  for (const BlockStatistics& block : blocks) sum.add_(block.sum_exp * (block.max - max).exp_());
  return sum.log_().add_(max);
}

Tensor combine_target(const std::vector<BlockStatistics>& blocks) {
  Tensor target = at::zeros_like(blocks.front().target);
  for (const BlockStatistics& block : blocks) target.add_(block.target);  // zero in all blocks but one
  return target;
}

int64_t softmax_chunk_rows(int64_t table_rows) {
  constexpr int64_t kScores = int64_t{1} << 22;  // 16 MiB of fp32
  return std::clamp<int64_t>(kScores / table_rows, 16, 1024);
}

SoftmaxLoss softmax_cross_entropy(const Tensor& queries, const Tensor& table, const Tensor& labels, const Tensor& weights,
                                  bool score_padding, Tensor& grad_table, const std::vector<int64_t>& owners) {
  const int64_t blocks = block_count(table.size(0));
  std::vector<SoftmaxOwner> parts;
  for (size_t i = 0; i < owners.size(); ++i)
    parts.emplace_back(table, BlockRange{owners[i], i + 1 < owners.size() ? owners[i + 1] : blocks}, score_padding);

  SoftmaxLoss loss;
  loss.grad_queries = at::empty_like(queries);
  const int64_t chunk = softmax_chunk_rows(table.size(0));
  for (int64_t first = 0; first < queries.size(0); first += chunk) {
    const int64_t rows = std::min(chunk, queries.size(0) - first);
    const Tensor chunk_queries = queries.narrow(0, first, rows);
    const Tensor chunk_labels = labels.narrow(0, first, rows);
    const Tensor chunk_weights = weights.narrow(0, first, rows);
    std::vector<BlockStatistics> statistics;
    for (SoftmaxOwner& part : parts)
      for (BlockStatistics& block : part.statistics(chunk_queries, chunk_labels)) statistics.push_back(block);
    const Tensor log_sum_exp = combine_log_sum_exp(statistics);
    const Tensor losses = (log_sum_exp - combine_target(statistics)).mul_(chunk_weights);
    const float* value = losses.const_data_ptr<float>();
    for (int64_t i = 0; i < rows; ++i) loss.sum += value[i];

    Tensor grad_queries = loss.grad_queries.narrow(0, first, rows).zero_();
    for (SoftmaxOwner& part : parts)
      for (const Tensor& grad : part.gradient(log_sum_exp, chunk_weights, grad_table)) grad_queries.add_(grad);
  }
  return loss;
}

SoftmaxLoss softmax_cross_entropy(const Tensor& queries, const Tensor& table, const Tensor& labels, const Tensor& weights,
                                  bool score_padding, Tensor& grad_table) {
  return softmax_cross_entropy(queries, table, labels, weights, score_padding, grad_table, {0});
}

}  // namespace gru4rec

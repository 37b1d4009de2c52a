#include "gru4rec/model/sampled_losses.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/log.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <limits>

#include "gru4rec/model/loss_total.h"
#include "gru4rec/model/products.h"
#include "gru4rec/model/table_rows.h"
#include "gru4rec/model/unit_rows.h"

namespace gru4rec {
namespace {

using at::Tensor;

Tensor row_dots(const Tensor& a, const Tensor& b) { return (a * b).sum(1, /*keepdim=*/true); }

void add_rows_if_wanted(const Tensor& rows, const Tensor& ids, Tensor& grad_table) {
  if (grad_table.defined()) add_rows(rows, ids, grad_table);
}

// Loss and its derivatives by the scores of some targets: target [rows, 1], shared negatives [rows, S].
struct ScoreLoss {
  Tensor loss;         // [rows, 1]
  Tensor by_target;    // [rows, 1]
  Tensor by_negative;  // [rows, S]
};

// The items of a loss on shared negatives: their numbers, and the vectors that scores are products with.
struct Compared {
  Tensor labels, targets;           // [targets], [targets, E]
  Tensor negatives, negative_rows;  // [S], [S, E]
  bool constant;                    // no gradient is wanted
};

// Σ weight · loss and its gradients by those vectors.
struct VectorLoss {
  double sum = 0;
  Tensor grad_queries;    // [targets, E]
  Tensor grad_targets;    // [targets, E]
  Tensor grad_negatives;  // [S, E]
};

// The part that losses on shared negatives have in common: scores in chunks, and from their derivatives the gradients.
// `of_scores(target, negative, is_target)` gives a ScoreLoss; is_target [rows, S] marks negatives that are the target.
template <typename OfScores>
VectorLoss shared_negatives_loss(const Tensor& queries, const Compared& items, const Tensor& weights, Precision precision,
                                 OfScores&& of_scores) {
  LossTotal total;
  VectorLoss result{0, at::empty_like(queries), at::empty_like(queries), at::zeros_like(items.negative_rows)};
  const int64_t chunk = std::clamp<int64_t>(kScoresAtOnce / std::max<int64_t>(1, items.negatives.size(0)), 16, 1024);
  for (int64_t first = 0; first < queries.size(0); first += chunk) {
    const int64_t rows = std::min(chunk, queries.size(0) - first);
    const Tensor query = queries.narrow(0, first, rows), label = items.labels.narrow(0, first, rows);
    const Tensor weight = weights.narrow(0, first, rows).unsqueeze(1);
    const Tensor target = items.targets.narrow(0, first, rows);
    const ScoreLoss part = of_scores(row_dots(query, target), product(query, items.negative_rows.t(), precision),
                                     label.unsqueeze(1).eq(items.negatives.unsqueeze(0)));
    total += LossTotal(part.loss * weight);
    const Tensor by_target = part.by_target * weight, by_negative = part.by_negative * weight;
    Tensor grad_query = result.grad_queries.narrow(0, first, rows);
    grad_query.copy_(product(by_negative, items.negative_rows, precision).addcmul_(target, by_target));
    if (items.constant) continue;
    result.grad_targets.narrow(0, first, rows).copy_(query * by_target);
    add_product(result.grad_negatives, by_negative.t(), query, precision);
  }
  result.sum = total.value();
  return result;
}

// With dot products for scores.
template <typename OfScores>
SoftmaxLoss over_shared_negatives(const Tensor& queries, const Tensor& table, const Tensor& labels, const Tensor& negatives,
                                  const Tensor& weights, Precision precision, Tensor& grad_table, OfScores&& of_scores) {
  const Compared items{labels, table.index_select(0, labels), negatives, table.index_select(0, negatives),
                       !grad_table.defined()};
  const VectorLoss loss = shared_negatives_loss(queries, items, weights, precision, of_scores);
  add_rows_if_wanted(loss.grad_targets, labels, grad_table);
  add_rows_if_wanted(loss.grad_negatives, negatives, grad_table);
  return {loss.sum, loss.grad_queries};
}

}  // namespace

SoftmaxLoss bpr_loss(const Tensor& queries, const Tensor& table, const Tensor& labels, const Tensor& negatives,
                     const Tensor& weights, Tensor& grad_table) {
  constexpr double kGamma = 1e-10;
  const int64_t each = negatives.size(1);
  const Tensor item = table.index_select(0, labels);
  const Tensor target = row_dots(queries, item);
  LossTotal total;
  SoftmaxLoss result;
  result.grad_queries = at::zeros_like(queries);
  Tensor by_target = at::zeros_like(target);
  for (int64_t j = 0; j < each; ++j) {
    const Tensor ids = negatives.select(1, j).contiguous();
    const Tensor other = table.index_select(0, ids);
    const Tensor won = at::sigmoid(target - row_dots(queries, other));  // [targets, 1]
    const Tensor weight = weights.unsqueeze(1) / static_cast<double>(each);
    total += LossTotal(at::log(won + kGamma).neg_() * weight);
    const Tensor by_difference = won * (1 - won) / (won + kGamma) * -weight;
    by_target.add_(by_difference);
    result.grad_queries.addcmul_(other, by_difference, -1);
    add_rows_if_wanted(queries * by_difference.neg(), ids, grad_table);
  }
  result.grad_queries.addcmul_(item, by_target);
  add_rows_if_wanted(queries * by_target, labels, grad_table);
  result.sum = total.value();
  return result;
}

SoftmaxLoss sampled_softmax_loss(const Tensor& queries, const Tensor& table, const Tensor& labels, const Tensor& negatives,
                                 const Tensor& correction, const Tensor& weights, Tensor& grad_table, Precision precision) {
  constexpr float kNever = -std::numeric_limits<float>::infinity();
  return over_shared_negatives(
      queries, table, labels, negatives, weights, precision, grad_table,
      [&](const Tensor& target, const Tensor& negative, const Tensor& is_target) {
        const Tensor scores = at::cat({target, (negative - correction).masked_fill_(is_target, kNever)}, 1);
        const Tensor probability = at::softmax(scores, 1);
        const Tensor of_target = probability.narrow(1, 0, 1);
        const Tensor loss = scores.logsumexp(1, /*keepdim=*/true) - target;
        return ScoreLoss{loss, of_target - 1, probability.narrow(1, 1, negative.size(1))};
      });
}

SoftmaxLoss bpr_max_loss(const Tensor& queries, const Tensor& table, const Tensor& labels, const Tensor& negatives,
                         double regularisation, const Tensor& weights, Tensor& grad_table, Precision precision) {
  constexpr double kTiny = 1e-24;
  constexpr float kLowest = -std::numeric_limits<float>::max();
  return over_shared_negatives(queries, table, labels, negatives, weights, precision, grad_table,
                               [&](const Tensor& target, const Tensor& negative, const Tensor& is_target) {
                                 const Tensor share =
                                     at::softmax(negative.masked_fill(is_target, kLowest), 1).masked_fill_(is_target, 0);  // w
                                 const Tensor won = at::sigmoid(target - negative);  // σ(r - s)
                                 const Tensor kept = (share * won).sum(1, true);
                                 const Tensor inverse = (kept + kTiny).reciprocal();
                                 const Tensor square = negative * negative;
                                 const Tensor penalty = (share * square).sum(1, true);
                                 const Tensor slope = share * won * (1 - won);
                                 const Tensor loss = at::log(kept + kTiny).neg_() + regularisation * penalty;
                                 const Tensor by_negative = inverse.neg() * (share * (won - kept) - slope) +
                                                            regularisation * share * (square - penalty + 2 * negative);
                                 return ScoreLoss{loss, inverse.neg() * slope.sum(1, true), by_negative};
                               });
}

SoftmaxLoss cosine_embedding_loss(const Tensor& queries, const Tensor& table, const Tensor& labels, const Tensor& weights) {
  const UnitRows query(queries), item(table.index_select(0, labels));
  const Tensor weight = weights.unsqueeze(1);
  const LossTotal total((1 - row_dots(query.unit, item.unit)) * weight);
  return {total.value(), query.gradient(item.unit * -weight)};
}

SoftmaxLoss cosine_ranking_loss(const Tensor& queries, const Tensor& table, const Tensor& labels, const Tensor& negatives,
                                double margin, const Tensor& weights, Tensor& grad_table, Precision precision) {
  const UnitRows query(queries), target(table.index_select(0, labels)), negative(table.index_select(0, negatives));
  const Compared items{labels, target.unit, negatives, negative.unit, !grad_table.defined()};
  const VectorLoss loss = shared_negatives_loss(
      query.unit, items, weights, precision,
      [margin](const Tensor& of_target, const Tensor& of_negative, const Tensor& is_target) {
        const Tensor missing = (of_negative - of_target + margin).clamp_min_(0).masked_fill_(is_target, 0);
        const Tensor counted = is_target.logical_not().sum(1, /*keepdim=*/true).clamp_min_(1);
        const Tensor by_negative = missing.gt(0).div(counted);
        return ScoreLoss{missing.sum(1, true).div_(counted), by_negative.sum(1, true).neg_(), by_negative};
      });
  if (grad_table.defined()) {
    add_rows_if_wanted(target.gradient(loss.grad_targets), labels, grad_table);
    add_rows_if_wanted(negative.gradient(loss.grad_negatives), negatives, grad_table);
  }
  return {loss.sum, query.gradient(loss.grad_queries)};
}

}  // namespace gru4rec

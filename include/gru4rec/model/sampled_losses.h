// Losses that compare a target with some other items, or with none, instead of all of them. Each adds up Σ weight · loss over
// its targets, adds the gradient of that sum to grad_table [items + 1, E] unless that is undefined, and returns it for the
// queries. With r the score of the target and s_j those of its negatives:
//
//   BPR               mean_j -log(1e-10 + σ(r - s_j))            Rendle et al. 2009; the constant is RecBole's (BPRLoss)
//   sampled softmax   -log( e^r / (e^r + Σ_j e^(s_j - c_j)) )    c_j = log(S · P(j)), the logQ correction of the negatives
//   (Bengio
//                     and Senécal 2008): then the sum is that of all items on average. Without it, c = 0.
//   BPR-max           -log Σ_j w_j σ(r - s_j) + λ Σ_j w_j s_j²    w = softmax(s); Hidasi and Karatzoglou 2018, equations 10 and
//   12
//   cosine embedding  1 - r                                      Tan, Xu and Liu 2016, section 3.4; r is the cosine
//   cosine ranking    mean_j max(0, margin - r + s_j)            r and s_j are cosines
//
// In those with S negatives all targets of a step share them; one that is the target itself counts for nothing. Nothing larger
// than targets × negatives of a chunk is held. Local; fp32, all on one device; sums in a fixed order. `precision` is that of
// the products with shared negatives, fp32 or bf16.
#pragma once

#include <ATen/core/Tensor.h>

#include "gru4rec/model/full_softmax.h"

namespace gru4rec {

// Scores that losses on shared negatives hold at once, about; at least 16 rows of them.
inline constexpr int64_t kScoresAtOnce = int64_t{1} << 20;

// negatives int64 [targets, J], none of them the target.
SoftmaxLoss bpr_loss(const at::Tensor& queries, const at::Tensor& table, const at::Tensor& labels, const at::Tensor& negatives,
                     const at::Tensor& weights, at::Tensor& grad_table);

// negatives int64 [S]; correction fp32 [S], the c_j.
SoftmaxLoss sampled_softmax_loss(const at::Tensor& queries, const at::Tensor& table, const at::Tensor& labels,
                                 const at::Tensor& negatives, const at::Tensor& correction, const at::Tensor& weights,
                                 at::Tensor& grad_table, Precision precision = Precision::fp32);

// negatives int64 [S]; `regularisation` is λ.
SoftmaxLoss bpr_max_loss(const at::Tensor& queries, const at::Tensor& table, const at::Tensor& labels,
                         const at::Tensor& negatives, double regularisation, const at::Tensor& weights, at::Tensor& grad_table,
                         Precision precision = Precision::fp32);

// For a table that is constant: with one that moves the loss is least when all items are alike. Queries and items of any
// length.
SoftmaxLoss cosine_embedding_loss(const at::Tensor& queries, const at::Tensor& table, const at::Tensor& labels,
                                  const at::Tensor& weights);

// negatives int64 [S]; 0 for a target that is all of them. Queries and items of any length.
SoftmaxLoss cosine_ranking_loss(const at::Tensor& queries, const at::Tensor& table, const at::Tensor& labels,
                                const at::Tensor& negatives, double margin, const at::Tensor& weights, at::Tensor& grad_table,
                                Precision precision = Precision::fp32);

}  // namespace gru4rec

// Losses that compare a target with some other items instead of all of them. Each adds up Σ weight · loss over its targets,
// adds the gradient of that sum to grad_table [items + 1, E], and returns it for the queries. With r the score of the target
// and s_j those of its negatives:
//
//   BPR               mean_j -log(1e-10 + σ(r - s_j))            Rendle et al. 2009; the constant is RecBole's (BPRLoss)
//   sampled softmax   -log( e^r / (e^r + Σ_j e^(s_j - c_j)) )    c_j = log(S · P(j)), the logQ correction of the negatives
//   (Bengio
//                     and Senécal 2008): then the sum is that of all items on average. Without it, c = 0.
//   BPR-max           -log Σ_j w_j σ(r - s_j) + λ Σ_j w_j s_j²    w = softmax(s); Hidasi and Karatzoglou 2018, equations 10 and
//   12
//
// In the last two all targets of a step share the negatives; one that is the target itself counts for nothing. Nothing larger
// than targets × negatives of a chunk is held. Local; fp32 on the CPU; sums in a fixed order.
#pragma once

#include <ATen/core/Tensor.h>

#include "gru4rec/model/full_softmax.h"

namespace gru4rec {

// Scores that the last two hold at once, about; at least 16 rows of them.
inline constexpr int64_t kScoresAtOnce = int64_t{1} << 20;

// negatives int64 [targets, J], none of them the target.
SoftmaxLoss bpr_loss(const at::Tensor& queries, const at::Tensor& table, const at::Tensor& labels, const at::Tensor& negatives,
                     const at::Tensor& weights, at::Tensor& grad_table);

// negatives int64 [S]; correction fp32 [S], the c_j.
SoftmaxLoss sampled_softmax_loss(const at::Tensor& queries, const at::Tensor& table, const at::Tensor& labels,
                                 const at::Tensor& negatives, const at::Tensor& correction, const at::Tensor& weights,
                                 at::Tensor& grad_table);

// negatives int64 [S]; `regularisation` is λ.
SoftmaxLoss bpr_max_loss(const at::Tensor& queries, const at::Tensor& table, const at::Tensor& labels,
                         const at::Tensor& negatives, double regularisation, const at::Tensor& weights, at::Tensor& grad_table);

}  // namespace gru4rec

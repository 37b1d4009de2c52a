// The optimizers of RecBole's `learner`, as torch.optim computes them, with `weight_decay` and `clip_grad_norm`, in one pass
// over the flat buffers. It is also where the gradient is divided, once, by the global count, and where the two parts of the
// table's gradient meet. With g the mean gradient, clipped, and (but for adamw) plus weight_decay · w:
//
//   adam     m += (1-β₁)(g-m); v = β₂v + (1-β₂)g²; w -= η m̂ / (√v̂ + ε)     Kingma and Ba 2015
//   adamw    w *= 1 - η · weight_decay; then as adam without it             Loshchilov and Hutter 2019
//   adagrad  v += g²; w -= η g / (√v + 1e-10)                               Duchi, Hazan, Singer 2011
//   rmsprop  v = 0.99 v + 0.01 g²; w -= η g / (√v + ε)                      Tieleman and Hinton 2012
//   sgd      w -= η g
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "gru4rec/base/options.h"
#include "gru4rec/model/parameters.h"

namespace gru4rec {

struct OptimizerOptions {
  Learner learner = Learner::adam;
  double learning_rate = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0.0;
  double clip_norm = 0.0;       // 0: off
  double clip_norm_type = 2.0;  // p of the norm; infinity for the largest absolute value
  bool freeze_table = false;    // the item table stays as it is, whatever its gradient
};

// Local; one thread.
class Optimizer {
 public:
  Optimizer(const ParameterLayout& layout, const OptimizerOptions& options);

  // One update. gradient_sum [layout.gradient_floats(freeze_table)] is the sum over `count` targets; `step` counts from 1;
  // `rate_factor` × options.learning_rate is the step size η (train/schedule.h).
  void step(std::span<float> parameters, std::span<float> gradient_sum, int64_t count, int64_t step, double rate_factor = 1.0);

  // Norm of the mean gradient before clipping, as last seen by step(); 0 unless clipping is on.
  double gradient_norm() const { return gradient_norm_; }

  // m and v, flat, in the layout of the parameters; zero where the learner has none.
  std::span<float> first_moment() { return first_; }
  std::span<float> second_moment() { return second_; }
  std::span<const float> first_moment() const { return first_; }
  std::span<const float> second_moment() const { return second_; }

 private:
  ParameterLayout layout_;
  OptimizerOptions options_;
  std::vector<float> first_, second_;
  double gradient_norm_ = 0;
};

// (Σ |scale · g|^p)^(1/p), the total norm of torch.nn.utils.clip_grad_norm_; summed in double in pieces of 4,096 in order.
double gradient_norm(std::span<const float> gradient, double scale, double p);

}  // namespace gru4rec

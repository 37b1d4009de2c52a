// Adam (Kingma and Ba 2015) as torch.optim.Adam computes it, with RecBole's `weight_decay` (L2, added to the gradient) and
// `clip_grad_norm`, in one pass over the flat buffers. It is also where the gradient is divided, once, by the global count, and
// where the two parts of the table's gradient meet.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "gru4rec/model/parameters.h"

namespace gru4rec {

struct AdamOptions {
  double learning_rate = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0.0;
  double clip_norm = 0.0;       // 0: off
  double clip_norm_type = 2.0;  // p of the norm; infinity for the largest absolute value
};

// Local; one thread.
class Adam {
 public:
  Adam(const ParameterLayout& layout, const AdamOptions& options);

  // One update. gradient_sum [layout.gradient_floats()] is the sum over `count` targets; `step` counts from 1.
  void step(std::span<float> parameters, std::span<float> gradient_sum, int64_t count, int64_t step);

  // Norm of the mean gradient before clipping, as last seen by step(); 0 unless clipping is on.
  double gradient_norm() const { return gradient_norm_; }

  // Flat, in the layout of the parameters.
  std::span<float> first_moment() { return first_; }
  std::span<float> second_moment() { return second_; }
  std::span<const float> first_moment() const { return first_; }
  std::span<const float> second_moment() const { return second_; }

 private:
  ParameterLayout layout_;
  AdamOptions options_;
  std::vector<float> first_, second_;
  double gradient_norm_ = 0;
};

// (Σ |scale · g|^p)^(1/p), the total norm of torch.nn.utils.clip_grad_norm_; summed in double in pieces of 4,096 in order.
double gradient_norm(std::span<const float> gradient, double scale, double p);

}  // namespace gru4rec

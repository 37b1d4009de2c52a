// The optimizers of RecBole's `learner`, as torch.optim computes them, with `weight_decay`, `clip_grad_norm` and `ema_decay`,
// in one pass over the flat buffers (train/update_kernels.h). It is also where the gradient is divided, once, by the global
// count, and where the two parts of the table's gradient meet. With g the mean gradient, clipped, and (but for adamw) plus
// weight_decay · w:
//
//   adam     m += (1-β₁)(g-m); v = β₂v + (1-β₂)g²; w -= η m̂ / (√v̂ + ε)     Kingma and Ba 2015
//   adamw    w *= 1 - η · weight_decay; then as adam without it             Loshchilov and Hutter 2019
//   adagrad  v += g²; w -= η g / (√v + 1e-10)                               Duchi, Hazan, Singer 2011
//   rmsprop  v = 0.99 v + 0.01 g²; w -= η g / (√v + ε)                      Tieleman and Hinton 2012
//   sgd      w -= η g
//
// sparse_adam is adam for the dense parameters and for the rows of the table that have a gradient; other rows and their moments
// stay as they are, which is another result than adam's, whose moments fade and move on. (As torch.optim.SparseAdam, but for
// where ε is added.) For all other learners a row without a gradient is one whose gradient is zero.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "gru4rec/base/options.h"
#include "gru4rec/comm/ordered_sum.h"
#include "gru4rec/data/row_set.h"
#include "gru4rec/model/parameters.h"
#include "gru4rec/train/update_kernels.h"

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
  double ema_decay = 0.0;       // of the moving average, where step() is given one
};

// The parameters that have a gradient, dealt to ranks that each add and update a slice: as much work for all, in whole lines of
// 64 bytes, and of the table, whose gradient is twice as long where that of the inputs has all rows, in whole rows. Local.
Slices slices_of_update(const ParameterLayout& layout, bool frozen_table, bool input_by_rows, int ranks);

// Local; one thread.
class Optimizer {
 public:
  Optimizer(const ParameterLayout& layout, const OptimizerOptions& options);

  // One update. gradient_sum [layout.gradient_floats(freeze_table)] is the sum over `count` targets; `step` counts from 1;
  // `rate_factor` × options.learning_rate is the step size η (train/schedule.h).
  // `rows`: gradient_sum is one by rows, [layout.gradient_floats_by_rows(rows)]; the update has the bits of one with all rows,
  // but for sparse_adam. `average`: of the parameters, follows them (train/weight_average.h). `only`: the floats of the
  // parameter buffer that are updated, of the table whole rows, with the bits they have in a whole update; no more of the
  // gradient is looked at. BugError with clipping.
  void step(std::span<float> parameters, std::span<const float> gradient_sum, int64_t count, int64_t step,
            double rate_factor = 1.0, const GradientRows& rows = {}, std::span<float> average = {},
            std::optional<FloatRange> only = {});

  // Norm of the mean gradient before clipping, as last seen by step(); 0 unless clipping is on.
  double gradient_norm() const { return gradient_norm_; }

  // m and v, flat, in the layout of the parameters; zero where the learner has none.
  std::span<float> first_moment() { return first_; }
  std::span<float> second_moment() { return second_; }
  std::span<const float> first_moment() const { return first_; }
  std::span<const float> second_moment() const { return second_; }

 private:
  UpdateRule rule_of(int64_t count, int64_t step, double rate_factor) const;

  ParameterLayout layout_;
  OptimizerOptions options_;
  std::vector<float> first_, second_;
  double gradient_norm_ = 0;
};

// The gradient of the table as it lies in a gradient buffer: two parts to be added.
struct TableGradient {
  TableGradient(const ParameterLayout& layout, std::span<const float> gradient_sum, const GradientRows& rows);

  // Calls visit(first row, rows, output part, input part) for stretches of neighbouring rows of [first, last), in order; a part
  // that does not have them is nullptr. The output part has all rows or those that the input part has.
  template <typename Visit>
  void each_stretch(int64_t first, int64_t last, const Visit& visit) const;

  const float* output;
  const float* input;
  int64_t row_floats;
  GradientRows rows;
};

template <typename Visit>
void TableGradient::each_stretch(int64_t first, int64_t last, const Visit& visit) const {
  if (!rows.input()) {
    if (first < last) visit(first, last - first, output + first * row_floats, input + first * row_floats);
    return;
  }
  const auto output_of = [&](int64_t row, size_t place) {
    return output + (rows.output() ? static_cast<int64_t>(place) : row) * row_floats;
  };
  const std::span<const int64_t> ids = rows.input()->ids();
  auto place = static_cast<size_t>(rows.input()->first_place_from(first));
  while (first < last) {
    const int64_t known = place < ids.size() ? std::min(ids[place], last) : last;
    if (first < known)
      visit(first, known - first, rows.output() ? nullptr : output_of(first, place), static_cast<const float*>(nullptr));
    first = known;
    const size_t begin = place;
    while (first < last && place < ids.size() && ids[place] == first) ++first, ++place;
    if (place > begin) visit(known, first - known, output_of(known, begin), input + static_cast<int64_t>(begin) * row_floats);
  }
}

// Norm of the mean gradient of all parameters, both parts of the table added; scale is 1 / count. The bits are the same by
// rows.
double gradient_norm(const ParameterLayout& layout, std::span<const float> gradient_sum, const GradientRows& rows,
                     bool frozen_table, double scale, double p);
double table_gradient_norm(const ParameterLayout& layout, std::span<const float> gradient_sum, const GradientRows& rows,
                           double scale, double p);

// (Σ |scale · g|^p)^(1/p), the total norm of torch.nn.utils.clip_grad_norm_; summed in double in pieces of 4,096 in order.
double gradient_norm(std::span<const float> gradient, double scale, double p);

}  // namespace gru4rec

// The loops of an optimizer's pass (train/optimizer.h), for each instruction set. All is single IEEE operations on one element,
// so that every set gives the same bits. Local.
#pragma once

#include <cstddef>
#include <vector>

#include "gru4rec/base/options.h"

namespace gru4rec {

// What one update does to each element: w the weight, g its mean gradient, m and v its moments.
struct UpdateRule {
  Learner learner = Learner::adam;
  float divisor = 1, clip = 1;  // g = sum / divisor · clip + decay · w
  float decay = 0;
  float kept = 1;  // w is multiplied by it first; 1 for all but adamw
  float step_size = 0, root_correction2 = 1;
  float beta2 = 0, rest1 = 0, rest2 = 0, epsilon = 0;
  float average_rest = 0;  // average += average_rest · (w - average)
};

// A stretch of the flat buffers, of `size` elements.
struct UpdateRange {
  float* __restrict weight;
  float* __restrict first;
  float* __restrict second;
  float* __restrict average;         // nullptr: there is none
  const float* __restrict gradient;  // the sum over targets; nullptr: zero
  const float* __restrict other;     // added to `gradient`; nullptr: zero
  size_t size;
};

struct UpdateKernels {
  const char* name;
  // Updates, then moves the average. The gradient is zero where there is none.
  void (*update)(const UpdateRule& rule, const UpdateRange& range);
  // Moves the average only.
  void (*average)(const UpdateRule& rule, const UpdateRange& range);
};
// Those that this processor has, the one that is used first.
const std::vector<UpdateKernels>& update_kernels();

}  // namespace gru4rec

// The exponential moving average of the weights over updates, which is evaluated in their place (ema_decay); Polyak and
// Juditsky 1992 for why an average, Tan and Le 2019 for one with decay.
#pragma once

#include <cstdint>
#include <span>

namespace gru4rec {

// One update of the average, which began as a copy of the weights; `step` counts updates of the weights from 1. Local.
//
//   average += (1 - d) (weights - average),    d = min(decay, (1 + step) / (10 + step))
//
// The second term of the minimum is that of tf.train.ExponentialMovingAverage (num_updates): the average forgets the initial
// weights in the first steps, however long its memory is later.
// The optimizer does this in its own pass (train/optimizer.h).
void update_average(std::span<float> average, std::span<const float> weights, double decay, int64_t step);

// 1 - d of that step.
float average_rest(double decay, int64_t step);

}  // namespace gru4rec

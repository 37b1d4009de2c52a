#include "gru4rec/train/weight_average.h"

#include <algorithm>

namespace gru4rec {

float average_rest(double decay, int64_t step) {
  const auto t = static_cast<double>(step);
  return static_cast<float>(1.0 - std::min(decay, (1.0 + t) / (10.0 + t)));
}

void update_average(std::span<float> average, std::span<const float> weights, double decay, int64_t step) {
  const float rest = average_rest(decay, step);
  float* __restrict a = average.data();
  const float* __restrict w = weights.data();
  for (size_t i = 0; i < average.size(); ++i) a[i] += rest * (w[i] - a[i]);
}

}  // namespace gru4rec

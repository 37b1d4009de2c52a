#include "gru4rec/train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace gru4rec {

double rate_factor(Schedule schedule, int64_t warmup_steps, double progress, int64_t step) {
  double factor = 1.0;
  if (schedule == Schedule::cosine) factor = 0.5 * (1.0 + std::cos(std::numbers::pi * progress));
  if (step < warmup_steps) factor *= static_cast<double>(step + 1) / static_cast<double>(warmup_steps);
  return static_cast<float>(factor);
}

bool falls_on_plateau(int64_t stalled, int64_t patience) { return stalled > patience && stalled % (patience + 1) == 0; }

}  // namespace gru4rec

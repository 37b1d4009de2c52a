// The learning rate over a run.
#pragma once

#include <cstdint>

#include "gru4rec/base/options.h"

namespace gru4rec {

// What learning_rate is multiplied by in an update: a pure function of how much is done, so that a resumed run goes on with the
// same rates. `progress` is the share of all epochs done before the update, in [0, 1); `step` counts updates from 0. Local.
//
//   warm-up   min(1, (step + 1) / warmup_steps)
//   cosine    (1 + cos(π · progress)) / 2        Loshchilov and Hutter 2017, equation 5, without restarts
//
// The two are multiplied. Rounded to float, so that libraries whose cosines differ in the last bit agree.
double rate_factor(Schedule schedule, int64_t warmup_steps, double progress, int64_t step);

// Whether schedule plateau lowers the rate after an evaluation, `stalled` evaluations after the best one: whenever more than
// `patience` in a row were not better, counted anew after each fall, as in torch.optim.lr_scheduler.ReduceLROnPlateau. What is
// better is what early stopping says (train/early_stopping.h). Local.
bool falls_on_plateau(int64_t stalled, int64_t patience);

}  // namespace gru4rec

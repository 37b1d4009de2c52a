// Everything that changes during training. A value that changes from step to step and is not in here is a bug: k steps, save, k
// steps equal restore, k steps, with ==. Parameters, their average and moments live in the models and the optimizer; a
// checkpoint takes all.
#pragma once

#include <cstdint>

#include "gru4rec/eval/metrics.h"
#include "gru4rec/train/early_stopping.h"

namespace gru4rec {

struct TrainState {
  uint64_t epoch = 0;  // of the next batch, from 0
  uint64_t batch = 0;  // the next global batch of that epoch
  int64_t step = 0;    // updates done
  // Of the epoch in progress.
  double epoch_loss = 0;
  int64_t epoch_targets = 0;
  // Of all evaluations so far.
  BestSoFar best;
  RankHistogram best_histogram;  // on valid
  double plateau_rate = 1;       // what schedule plateau has made of learning_rate, which it multiplies
};

}  // namespace gru4rec

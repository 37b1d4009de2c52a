// A training command without its world: what train and tune share.
#pragma once

#include "gru4rec/base/options.h"
#include "gru4rec/comm/communicator.h"
#include "gru4rec/data/store.h"
#include "gru4rec/train/stop_signal.h"
#include "gru4rec/train/trainer.h"

namespace gru4rec {

// Collective. Trains all stages of `options` (train/stages.h), from where their folders are, and writes what a run leaves.
// Returns the last stage's outcome; with a stop_signal all is saved, and the same call goes on.
Outcome train_stages(const Options& options, const Store& store, Communicator& comm, const StopFlag& stop);

}  // namespace gru4rec

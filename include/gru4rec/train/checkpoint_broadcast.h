// From rank 0, which read a checkpoint, to all others.
#pragma once

#include "gru4rec/comm/communicator.h"
#include "gru4rec/train/checkpoint.h"

namespace gru4rec {

// Collective. `info`, parameters, moments and average (null without one, on all ranks alike) of rank 0 arrive on all ranks;
// what `info` says of provenance stays where it is, but for train_seconds.
void broadcast_checkpoint(Communicator& comm, CheckpointInfo& info, Gru4Rec& model, Optimizer& optimizer, Gru4Rec* average);

}  // namespace gru4rec

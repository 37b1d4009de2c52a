// From rank 0, which read a checkpoint, to all others.
#pragma once

#include "gru4rec/comm/communicator.h"
#include "gru4rec/train/checkpoint.h"

namespace gru4rec {

// Collective. `info`, parameters and moments of rank 0 arrive on all ranks; what `info` says of provenance stays where it is,
// but for train_seconds.
void broadcast_checkpoint(Communicator& comm, CheckpointInfo& info, Gru4Rec& model, Optimizer& optimizer);

}  // namespace gru4rec

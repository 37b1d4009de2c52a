// Ranks as threads of one process, for tests under plain ctest, for sanitizers and for debuggers.
#pragma once

#include <functional>

#include "gru4rec/comm/communicator.h"

namespace gru4rec {

// Runs `body` on `ranks` threads, each with a communicator of its own, and returns when all have ended. A rank that throws, or
// that returns while others wait for it, ends the others' waits with an error. Rethrows the first failure in time, of the
// same kind, with its rank in front ("rank 2 of 4: …") and the other ranks' own failures, if any, behind.
//
//   run_ranks(3, [](Communicator& comm) { comm.barrier(); });
void run_ranks(int ranks, const CommOptions& options, const std::function<void(Communicator&)>& body);
void run_ranks(int ranks, const std::function<void(Communicator&)>& body);

}  // namespace gru4rec

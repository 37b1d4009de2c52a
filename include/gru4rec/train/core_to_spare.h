// Whether there is a processor for one more thread of each rank.
#pragma once

#include <sched.h>

#include <vector>

#include "gru4rec/comm/communicator.h"

namespace gru4rec {

// Collective. By rank, the cores it may use; none: not known.
std::vector<cpu_set_t> cores_of_ranks(Communicator& comm);

// Whether the cores that rank `rank` may use suffice for one more thread of each rank that may use one of them. `cores` as
// cores_of_ranks() gives them. Local.
bool core_to_spare(const std::vector<RankInfo>& ranks, const std::vector<cpu_set_t>& cores, int rank, int threads);
// Collective. The same of this rank.
bool core_to_spare(Communicator& comm, int threads);

}  // namespace gru4rec

#include "gru4rec/train/core_to_spare.h"

#include <cstddef>

namespace gru4rec {

std::vector<cpu_set_t> cores_of_ranks(Communicator& comm) {
  cpu_set_t cores;
  if (sched_getaffinity(0, sizeof cores, &cores) != 0) CPU_ZERO(&cores);  // a kernel for more than cpu_set_t can name
  return comm.all_gather(cores);
}

bool core_to_spare(const std::vector<RankInfo>& ranks, const std::vector<cpu_set_t>& cores, int rank, int threads) {
  const auto own = static_cast<std::size_t>(rank);
  int sharing = 0;
  for (std::size_t other = 0; other < ranks.size(); ++other) {
    cpu_set_t both;
    CPU_AND(&both, &cores[own], &cores[other]);
    if (ranks[other].host == ranks[own].host && CPU_COUNT(&both) > 0) ++sharing;
  }
  return sharing > 0 && CPU_COUNT(&cores[own]) >= sharing * (threads + 1);
}

bool core_to_spare(Communicator& comm, int threads) {
  return core_to_spare(comm.ranks(), cores_of_ranks(comm), comm.rank(), threads);
}

}  // namespace gru4rec

#include "gru4rec/train/core_to_spare.h"

#include <algorithm>
#include <cstddef>

namespace gru4rec {

bool core_to_spare(const std::vector<RankInfo>& ranks, const std::vector<cpu_set_t>& cores, int rank, int threads) {
  const auto own = static_cast<std::size_t>(rank);
  cpu_set_t of_host = cores[own];
  int of_the_host = 0, of_these_cores = 0;
  for (std::size_t other = 0; other < ranks.size(); ++other) {
    if (ranks[other].host != ranks[own].host) continue;
    cpu_set_t both;
    CPU_AND(&both, &cores[own], &cores[other]);
    CPU_OR(&of_host, &of_host, &cores[other]);
    ++of_the_host;
    if (CPU_COUNT(&both) > 0) ++of_these_cores;
  }
  // A rank's own cores may be full of others while the host has free ones, and the reverse.
  return CPU_COUNT(&cores[own]) >= std::max(1, of_these_cores) * (threads + 1) &&
         CPU_COUNT(&of_host) >= of_the_host * (threads + 1);
}

bool core_to_spare(Communicator& comm, int threads) {
  cpu_set_t cores;
  if (sched_getaffinity(0, sizeof cores, &cores) != 0) CPU_ZERO(&cores);  // a kernel for more than cpu_set_t can name
  return core_to_spare(comm.ranks(), comm.all_gather(cores), comm.rank(), threads);
}

}  // namespace gru4rec

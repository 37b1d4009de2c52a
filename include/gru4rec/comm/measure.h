// What ranks cost each other: clocks, latency, bandwidth, and the ordered sum, timed over a communicator as training uses it.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "gru4rec/comm/communicator.h"

namespace gru4rec {

// Collective. Seconds that each rank's clock is ahead of rank 0's, by rank; exact to half of the shortest of some round trips.
std::vector<double> clock_offsets(Communicator& comm);

// Messages of one size between two ranks.
struct PairTime {
  int first;
  int second;
  double seconds;  // one way: half of the shortest round trip
};
// Collective. The pairs are timed one after the other, while all others wait. Up to eight ranks every pair, beyond that each
// rank with the next and with the one half of the ranks away. `bytes` is at least 8. In rank order; equal on all ranks.
std::vector<PairTime> time_pairs(Communicator& comm, std::size_t bytes);

// Collective. The shortest of some ordered sums of a vector of `floats`, one replica a rank: seconds of its slowest rank, equal
// on all. Throws SurroundingsError if the sum is wrong.
double time_ordered_sum(Communicator& comm, std::size_t floats);

}  // namespace gru4rec

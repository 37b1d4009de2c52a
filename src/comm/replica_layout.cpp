#include "gru4rec/comm/replica_layout.h"

#include <algorithm>

#include "gru4rec/base/error.h"

namespace gru4rec {

ReplicaLayout::ReplicaLayout(int replicas, int ranks) : replicas_(replicas), ranks_(ranks) {
  if (ranks < 1) throw BugError("a layout for {} ranks; wanted at least one", ranks);
  if (replicas < 1) throw UserError("replicas is {}; it must be at least 1. Leave it out to get one a rank.", replicas);
  if (ranks > replicas)
    throw UserError(
        "{} ranks for {} replicas: each rank must run at least one. Start at most {} ranks (mpirun -np {}), or begin a new run "
        "with --replicas {} or more; a checkpoint keeps its number of replicas.",
        ranks, replicas, replicas, replicas, ranks);
}

ReplicaLayout::Block ReplicaLayout::replicas_of(int rank) const {
  if (rank < 0 || rank >= ranks_) throw BugError("rank {} of a layout of {} ranks", rank, ranks_);
  const int share = replicas_ / ranks_, larger = replicas_ % ranks_;
  const int first = rank * share + std::min(rank, larger);
  return {first, first + share + (rank < larger ? 1 : 0)};
}

int ReplicaLayout::owner(int replica) const {
  if (replica < 0 || replica >= replicas_) throw BugError("replica {} of a layout of {} replicas", replica, replicas_);
  const int share = replicas_ / ranks_, larger = replicas_ % ranks_;
  const int in_larger = larger * (share + 1);
  return replica < in_larger ? replica / (share + 1) : larger + (replica - in_larger) / share;
}

}  // namespace gru4rec

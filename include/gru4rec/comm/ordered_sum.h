// The ordered sum: one global gradient, with the same bits on any number of ranks.
//
// Floating-point addition is not associative, so the order of a sum is part of its result. Ours is one fixed balanced binary
// tree over the replica index, whoever owns the replicas: the node over replicas [first, last) has as left child the first
// bit_ceil(n) / 2 of its n replicas and as right child the rest. (A power of two is halved; seven replicas are
// ((0 1) (2 3)) ((4 5) 6).) No MPI or NCCL arithmetic takes part.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "gru4rec/comm/communicator.h"
#include "gru4rec/comm/replica_layout.h"
#include "gru4rec/comm/shared_floats.h"
#include "gru4rec/comm/sum_memory.h"

namespace gru4rec {

// The tree ------------------------------------------------------------------------------------------------------------------
// A node: the replicas [first, last). All functions here are Local and pure.
struct TreeNode {
  int first;
  int last;
  int size() const { return last - first; }
  bool leaf() const { return size() == 1; }
  TreeNode left() const;
  TreeNode right() const;
  bool operator==(const TreeNode&) const = default;
};

// The largest nodes of the tree over `replicas` that lie within [first, last), from left to right. They cover it.
std::vector<TreeNode> maximal_subtrees(int replicas, int first, int last);

// For each replica of [first, last): how many times the two newest partial sums are added once that replica's is there, so
// that after the last one exactly the maximal subtrees are left.
std::vector<int> merges_after(int replicas, int first, int last);

// Gradient buffers a rank with these replicas needs: the greatest number of partial sums that are alive at once, the one being
// written included. With n = last - first: at most ⌈log2 n⌉ + 1 if the block is one node of the tree (always so when
// replicas and ranks are powers of two), and at most 2⌊log2 n⌋ + 1 otherwise; 1 for n = 1.
int sum_buffers(int replicas, int first, int last);

// The sum of one value a replica, in the tree's order.
template <typename T>
T tree_sum(std::span<const T> values) {
  if (values.empty()) return T{};
  if (values.size() == 1) return values.front();
  const auto left = static_cast<std::size_t>(TreeNode{0, static_cast<int>(values.size())}.left().size());
  return tree_sum(values.first(left)) + tree_sum(values.subspan(left));
}

// Slices --------------------------------------------------------------------------------------------------------------------
// The floats [first, last) of a flat vector.
struct FloatRange {
  std::size_t first;
  std::size_t last;
  std::size_t size() const { return last - first; }
  bool operator==(const FloatRange&) const = default;
};

// A part of a flat vector, dealt to ranks in their order: rank r has the floats [bounds[r], bounds[r + 1]).
struct Slices {
  std::vector<std::size_t> bounds;
  FloatRange of(int rank) const {
    const auto r = static_cast<std::size_t>(rank);
    return {bounds[r], bounds[r + 1]};
  }
};

// Whole lines of 64 bytes from where the part begins, as evenly as whole lines allow; the last slice ends with the part. Local.
Slices even_slices(FloatRange part, int ranks);

// Collective. Of each part of `values` every rank has its own slice, and gets those of the others. `parts` are equal on all.
// `near`: ranks whose `values` this one reads where they are; no rank may write its slices again before all have met
// another time (in an exchange of gradients, a barrier).
void gather_slices(Communicator& comm, std::span<float> values, std::span<const Slices> parts, const NearMemory& near = {});

// The sum of gradients ------------------------------------------------------------------------------------------------------
// Sums a flat vector of floats over replicas. A rank writes the gradients of its replicas one after the other into the
// buffers handed out here, which are added as soon as the tree allows; then ranks exchange slices of the partial sums, each
// adds one slice in the tree's order in fp32, and all gather the slices. Ranks of one host do not send each other partial sums:
// each reads them where the other has them.
//
// Owns its vectors: sum_buffers() vectors, in the memory it is given, or, with W > 1 ranks whose processors add, in memory that
// ranks of a host share (comm/shared_floats.h); plus, with W > 1 ranks, one slice of length/W for each partial sum that is sent
// here, or as much as this rank's slices in reduce_scatter() are. Allocated at first, slices with the first sum, and again
// where lengths or slices grow. Buffers start at 64-byte boundaries. One thread, but for sums in parts.
//
//   OrderedSum sum(layout, comm.rank(), parameters.size());
//   for (int replica : layout.replicas_of(comm.rank())) {
//     std::span<float> gradient = sum.begin(replica);   // zeros; backward adds into it
//     …
//     sum.end(replica);
//   }
//   std::span<float> total = sum.reduce(comm);
class OrderedSum {
 public:
  // `memory` lives longer. Of a GPU, it wants a communicator that carries_device_memory() where there is more than one rank.
  OrderedSum(const ReplicaLayout& layout, int rank, std::size_t length, SumMemory& memory = host_memory());

  // Local. The buffer for the gradient of `replica`, filled with zeros. Replicas come in order, each ended before the next. It
  // also starts the next step: the former total is gone.
  std::span<float> begin(int replica);
  // Local. The gradient is complete; adds what the tree allows.
  void end(int replica);
  // Collective. The sum over all replicas, equal on all ranks bit for bit; valid, and writable, until the next begin().
  std::span<float> reduce(Communicator& comm);
  // Collective. The same for this rank's slice of each part alone; what lies beside them in total() is no sum. `parts`, which
  // do not overlap, are equal on all ranks; no bit depends on how they are dealt. All ranks meet between it and the next
  // begin() (in gather_slices(), a barrier): until then others may be reading what this one has added.
  // `heard`: whether every rank has had a message from every other one that was sent when that had ended its last replica;
  // then ranks that all read each other's memory need not ask for it.
  enum class Heard { no, yes };
  void reduce_scatter(Communicator& comm, std::span<const Slices> parts, Heard heard = Heard::no);
  // In parts, which change no bit: what a second thread sums while this one goes on with the last replica (comm/sum_thread.h).
  //
  // Local, between begin() and end() of this rank's last replica: the floats [first, last) of its gradient are final, and no
  // longer its own. Each call begins where the one before it in this step ended.
  void settle(std::size_t first, std::size_t last);
  // Collective. Sums the floats [first, last), of replicas that have ended or settled them. One call at a time; another thread
  // may be between begin() and end().
  void reduce(Communicator& comm, std::size_t first, std::size_t last);
  // Local. What reduce() returned, or, in parts, is when each float has been summed.
  std::span<float> total() { return buffer(0); }

  // Collective. The same sum but for rounding: adds what this rank has, and leaves the rest to comm.add_natively().
  std::span<float> reduce_natively(Communicator& comm);

  // Local, between reduce() and the next step's begin(); equal on all ranks. The sum is of the first `length` floats from now
  // on; where that is more than ever before, the buffers are other ones afterwards. No bits of an element depend on it.
  void set_length(std::size_t length);
  std::size_t length() const { return length_; }
  int buffers() const { return buffers_; }
  // Local. The k-th buffer, which begin() hands out again and again: for those who keep views of the gradient.
  std::span<float> buffer(int k) { return {buffers_start_ + static_cast<std::size_t>(k) * stride_, length_}; }
  // Local. The ranks whose partial sums this one reads where they are; none before a sum, and when buffers have grown.
  const NearMemory& near() const { return near_; }

 private:
  struct Release {
    SumMemory* owner;
    void operator()(float* memory) const { owner->release(memory); }
  };
  using Floats = std::unique_ptr<float[], Release>;
  struct Partial {
    TreeNode node;
    int owner;
    std::size_t number;             // among those of its owner: which of its buffers it is in
    const float* theirs = nullptr;  // the buffers of its owner, if that is another rank that this one reads
    // Of the part that is being summed:
    const float* slice = nullptr;  // this rank's slice
    float* room = nullptr;         // the same, if this rank may write there
    const float* sum = nullptr;    // of the piece that is being added
  };
  struct Addition {
    std::size_t into;  // partials_[into] += partials_[from]
    std::size_t from;
  };

  static constexpr std::size_t kSlack = 64;  // memory grows by a part of this more, not to grow in each of many steps

  void reserve(std::size_t length);
  Floats allocate(std::size_t floats) { return {memory_.allocate(floats), Release{&memory_}}; }
  void merge(FloatRange part);
  void plan_exchange();
  float* place_slices(FloatRange mine, float* arrival);
  std::size_t plan_additions(TreeNode node);
  void check_world(const Communicator& comm) const;
  void meet(Communicator& comm);
  void make_room_for_slices(std::span<const Slices> parts);
  void exchange_slices(Communicator& comm, std::span<const Slices> parts);
  void add_slices(FloatRange mine);
  void sum_slices(Communicator& comm, std::span<const Slices> parts, Heard heard);

  SumMemory& memory_;
  ReplicaLayout layout_;
  int rank_;
  ReplicaLayout::Block own_;
  std::size_t length_;
  std::size_t stride_ = 0;   // floats from one buffer to the next; at least the greatest length, in whole lines
  std::vector<int> merges_;  // by own replica
  int buffers_;
  Floats pool_{nullptr, {}};  // the buffers, in one of the two
  SharedFloats shared_;
  float* buffers_start_ = nullptr;
  NearMemory near_;            // by rank: its shared_
  bool met_ = false;           // near_ says so
  Floats inbox_{nullptr, {}};  // our slices of the partial sums that are sent to us
  std::size_t inbox_floats_ = 0;
  std::vector<Partial> partials_;  // of all ranks, in replica order
  std::vector<Addition> additions_;
  std::vector<float> scratch_;    // a piece for each partial
  std::size_t own_partials_ = 0;  // of this rank, when its last replica has ended
  int next_;                      // replica that begin() expects
  int depth_ = 0;                 // partial sums that are complete
  bool open_ = false;             // between begin() and end()
  FloatRange settled_ = {0, 0};   // of the replica that is open
};

// Small values --------------------------------------------------------------------------------------------------------------
// Collective. One value a replica, in replica order, on every rank; `mine` are those of this rank's replicas.
template <typename T>
std::vector<T> gather_by_replica(Communicator& comm, const ReplicaLayout& layout, std::span<const T> mine) {
  std::vector<std::size_t> counts;
  for (int rank = 0; rank < layout.ranks(); ++rank) counts.push_back(static_cast<std::size_t>(layout.replicas_of(rank).size()));
  std::vector<T> all(static_cast<std::size_t>(layout.replicas()));
  comm.all_gather_v(mine, std::span<const std::size_t>(counts), std::span<T>(all));
  return all;
}

// Collective. Adds integers over the ranks, in place; exact, so without an order. For histograms and counts.
void add_over_ranks(Communicator& comm, std::span<int64_t> values);

}  // namespace gru4rec

#include "gru4rec/comm/ordered_sum.h"

#include <algorithm>
#include <bit>

#include "gru4rec/base/error.h"
#include "gru4rec/base/hash.h"

namespace gru4rec {
namespace {

constexpr std::size_t kLine = 16;  // floats in 64 bytes: what buffers and slices are aligned to

std::size_t round_up(std::size_t floats) { return (floats + kLine - 1) / kLine * kLine; }

// Calls visit for the maximal subtrees of `node` within [first, last), from left to right.
template <typename Visit>
void visit_maximal(TreeNode node, int first, int last, const Visit& visit) {
  if (node.last <= first || node.first >= last) return;
  if (node.first >= first && node.last <= last) {
    visit(node);
    return;
  }
  visit_maximal(node.left(), first, last, visit);
  visit_maximal(node.right(), first, last, visit);
}

// Each inner node of a subtree is one addition, possible once its last replica is there.
void count_merges(TreeNode node, int first, std::vector<int>& merges) {
  if (node.leaf()) return;
  ++merges[static_cast<std::size_t>(node.last - 1 - first)];
  count_merges(node.left(), first, merges);
  count_merges(node.right(), first, merges);
}

// The messages of an exchange of slices. A rank whose memory this one reads gets a few bytes instead: what was written here
// before they are sent is there to read when they have come, and what was to be read before has been.
class SliceMessages {
 public:
  SliceMessages(Communicator& comm, std::span<const Slices> parts, const NearMemory& near)
      : comm_(comm), near_(near), marks_(static_cast<std::size_t>(comm.size())) {
    std::vector<std::size_t> bounds;
    for (const Slices& part : parts) bounds.insert(bounds.end(), part.bounds.begin(), part.bounds.end());
    own_ = hash_bytes(bounds.data(), bounds.size() * sizeof(std::size_t));
    for (const int peer : comm.others()) {
      if (!near.of(peer)) continue;
      send(peer, std::as_bytes(std::span(&own_, 1)));
      receive(peer, std::as_writable_bytes(std::span(&mark(peer), 1)));
    }
  }

  void send(int peer, std::span<const std::byte> bytes) { out_.push_back({peer, bytes}); }
  void receive(int peer, std::span<std::byte> bytes) { in_.push_back({peer, bytes}); }

  void exchange(const char* primitive) {
    if (near_.ranks() == comm_.size() - 1)
      comm_.all_gather(primitive, std::span<const uint64_t>(&own_, 1), std::span<uint64_t>(marks_));
    else
      comm_.transfer(primitive, out_, in_);
    for (const int peer : comm_.others())
      if (near_.of(peer) && mark(peer) != own_)
        throw BugError("{}: rank {} has slices of other sizes than rank {}; both must pass the same sizes", primitive, peer,
                       comm_.rank());
  }

 private:
  uint64_t& mark(int rank) { return marks_[static_cast<std::size_t>(rank)]; }

  Communicator& comm_;
  const NearMemory& near_;
  uint64_t own_;                 // mark of the slices that this rank has in mind
  std::vector<uint64_t> marks_;  // by rank
  std::vector<Outgoing> out_;
  std::vector<Incoming> in_;
};

}  // namespace

TreeNode TreeNode::left() const { return {first, first + static_cast<int>(std::bit_ceil(static_cast<unsigned>(size())) / 2)}; }

TreeNode TreeNode::right() const { return {left().last, last}; }

std::vector<TreeNode> maximal_subtrees(int replicas, int first, int last) {
  std::vector<TreeNode> nodes;
  visit_maximal({0, replicas}, first, last, [&](TreeNode node) { nodes.push_back(node); });
  return nodes;
}

std::vector<int> merges_after(int replicas, int first, int last) {
  std::vector<int> merges(static_cast<std::size_t>(last - first), 0);
  for (const TreeNode node : maximal_subtrees(replicas, first, last)) count_merges(node, first, merges);
  return merges;
}

int sum_buffers(int replicas, int first, int last) {
  int depth = 0, most = 0;
  for (const int merges : merges_after(replicas, first, last)) {
    most = std::max(most, ++depth);
    depth -= merges;
  }
  return most;
}

Slices even_slices(FloatRange part, int ranks) {
  const std::size_t lines = round_up(part.size()) / kLine, all = static_cast<std::size_t>(ranks);
  Slices slices;
  for (std::size_t rank = 0; rank <= all; ++rank)
    slices.bounds.push_back(part.first + std::min(part.size(), lines * rank / all * kLine));
  return slices;
}

void gather_slices(Communicator& comm, std::span<float> values, std::span<const Slices> parts, const NearMemory& near) {
  SliceMessages messages(comm, parts, near);
  const auto slice = [&](const Slices& part, int rank) {
    const FloatRange floats = part.of(rank);
    return values.subspan(floats.first, floats.size());
  };
  for (const Slices& part : parts)
    for (const int peer : comm.others()) {
      if (near.of(peer)) continue;
      messages.send(peer, std::as_bytes(slice(part, comm.rank())));
      messages.receive(peer, std::as_writable_bytes(slice(part, peer)));
    }
  messages.exchange("gather of slices");
  for (const Slices& part : parts)
    for (const int peer : comm.others())
      if (near.of(peer)) std::copy_n(near.of(peer) + part.of(peer).first, part.of(peer).size(), slice(part, peer).begin());
}

OrderedSum::OrderedSum(const ReplicaLayout& layout, int rank, std::size_t length, SumMemory& memory)
    : memory_(memory),
      layout_(layout),
      rank_(rank),
      own_(layout.replicas_of(rank)),
      length_(length),
      merges_(merges_after(layout.replicas(), own_.first, own_.last)),
      buffers_(sum_buffers(layout.replicas(), own_.first, own_.last)),
      next_(own_.first) {
  if (layout_.ranks() > 1) plan_exchange();
  reserve(length);
}

void OrderedSum::reserve(std::size_t length) {
  stride_ = round_up(length);
  pool_.reset();  // before the new ones, not beside them
  shared_ = SharedFloats();
  near_ = NearMemory();
  met_ = false;
  const std::size_t floats = static_cast<std::size_t>(buffers_) * stride_;
  if (layout_.ranks() > 1 && memory_.of_host()) {
    shared_ = SharedFloats(floats);
    buffers_start_ = shared_.data();
  } else {
    pool_ = allocate(floats);
    buffers_start_ = pool_.get();
  }
}

// Collective, with memory that was not exchanged from before.
void OrderedSum::meet(Communicator& comm) {
  if (met_) return;
  near_ = shared_.map_others(comm);
  for (Partial& partial : partials_) partial.theirs = near_.of(partial.owner);
  if (near_.ranks() > 0) scratch_.resize(partials_.size() * memory_.piece());
  met_ = true;
  const Slices whole = even_slices({0, stride_}, layout_.ranks());
  make_room_for_slices({&whole, 1});
}

void OrderedSum::plan_exchange() {
  for (int rank = 0; rank < layout_.ranks(); ++rank) {
    const auto block = layout_.replicas_of(rank);
    std::size_t number = 0;
    for (const TreeNode node : maximal_subtrees(layout_.replicas(), block.first, block.last)) {
      partials_.push_back({.node = node, .owner = rank, .number = number++});
      if (rank == rank_) ++own_partials_;
    }
  }
  plan_additions({0, layout_.replicas()});
}

void OrderedSum::make_room_for_slices(std::span<const Slices> parts) {
  const auto sent = static_cast<std::size_t>(
      std::ranges::count_if(partials_, [&](const Partial& partial) { return partial.owner != rank_ && !partial.theirs; }));
  std::size_t floats = 0;
  for (const Slices& part : parts) floats += sent * round_up(part.of(rank_).size());
  if (floats <= inbox_floats_) return;
  inbox_.reset();  // before the new one, not beside it
  inbox_floats_ = 0;
  inbox_ = allocate(floats + floats / kSlack);
  inbox_floats_ = floats + floats / kSlack;
}

// Where this rank's slice of each partial sum is; those that are sent from `arrival` on, up to what is returned.
float* OrderedSum::place_slices(FloatRange mine, float* arrival) {
  for (Partial& partial : partials_) {
    const std::size_t place = partial.number * stride_ + mine.first;
    if (partial.theirs) {
      partial.slice = partial.theirs + place;
    } else if (partial.owner == rank_) {
      partial.slice = partial.room = buffers_start_ + place;
    } else {
      partial.slice = partial.room = arrival;
      arrival += round_up(mine.size());
    }
  }
  return arrival;
}

void OrderedSum::set_length(std::size_t length) {
  if (open_ || (next_ != own_.first && next_ != own_.last))
    throw BugError("OrderedSum::set_length on rank {} in the middle of a step, before replica {} is added", rank_, next_);
  if (length > stride_) reserve(length + length / kSlack);
  length_ = length;
}

// Appends the additions below `node` in an order that respects the tree; the sum is then in the partial returned.
std::size_t OrderedSum::plan_additions(TreeNode node) {
  for (std::size_t i = 0; i < partials_.size(); ++i)
    if (partials_[i].node == node) return i;
  const std::size_t left = plan_additions(node.left());
  const std::size_t right = plan_additions(node.right());
  additions_.push_back({left, right});
  return left;
}

std::span<float> OrderedSum::begin(int replica) {
  if (!open_ && next_ == own_.last && replica == own_.first) {  // the next step
    next_ = own_.first;
    depth_ = 0;
  }
  if (open_ || replica != next_)
    throw BugError("OrderedSum::begin({}) on rank {}: wanted replica {} after end(), replicas come in order", replica, rank_,
                   next_);
  open_ = true;
  settled_ = {0, 0};
  const std::span<float> gradient = buffer(depth_);
  memory_.zero(gradient);
  return gradient;
}

void OrderedSum::end(int replica) {
  if (!open_ || replica != next_) throw BugError("OrderedSum::end({}) on rank {} without its begin()", replica, rank_);
  merge({0, settled_.first});
  merge({settled_.last, length_});
  open_ = false;
  depth_ += 1 - merges_[static_cast<std::size_t>(replica - own_.first)];
  ++next_;
}

void OrderedSum::settle(std::size_t first, std::size_t last) {
  const bool follows = settled_.last == 0 || settled_.last == first;
  if (!open_ || next_ + 1 != own_.last || first > last || last > length_ || !follows)
    throw BugError("OrderedSum::settle({}, {}) on rank {}: wanted the next part of the {} floats of the last replica", first,
                   last, rank_, length_);
  if (settled_.last == 0) settled_.first = first;
  settled_.last = last;
  merge({first, last});
}

// Adds what the tree allows when the replica that is open is there.
void OrderedSum::merge(FloatRange part) {
  const int merges = merges_[static_cast<std::size_t>(next_ - own_.first)];
  for (std::size_t at = part.first, count = 0; at < part.last; at += count) {
    count = std::min(memory_.piece(), part.last - at);
    for (int k = 0; k < merges; ++k) {
      float* left = buffer(depth_ - 1 - k).data() + at;
      memory_.add(left, left, buffer(depth_ - k).data() + at, count);
    }
  }
}

void OrderedSum::check_world(const Communicator& comm) const {
  if (open_ || next_ != own_.last) throw BugError("OrderedSum::reduce on rank {}: replica {} is not added yet", rank_, next_);
  if (comm.size() != layout_.ranks() || comm.rank() != rank_)
    throw BugError("OrderedSum::reduce: made for rank {} of {}, called by rank {} of {}", rank_, layout_.ranks(), comm.rank(),
                   comm.size());
}

std::span<float> OrderedSum::reduce(Communicator& comm) {
  check_world(comm);
  reduce(comm, 0, length_);
  return total();
}

void OrderedSum::reduce(Communicator& comm, std::size_t first, std::size_t last) {
  if (layout_.ranks() == 1) return;
  const Slices part = even_slices({first, last}, layout_.ranks());
  sum_slices(comm, {&part, 1}, Heard::no);
  gather_slices(comm, buffer(0), {&part, 1});
}

void OrderedSum::reduce_scatter(Communicator& comm, std::span<const Slices> parts, Heard heard) {
  check_world(comm);
  if (layout_.ranks() > 1) sum_slices(comm, parts, heard);
}

// The total of this rank's slices.
void OrderedSum::sum_slices(Communicator& comm, std::span<const Slices> parts, Heard heard) {
  meet(comm);
  make_room_for_slices(parts);
  memory_.wait();
  if (heard == Heard::no || near_.ranks() < comm.size() - 1) exchange_slices(comm, parts);
  float* arrival = inbox_.get();
  for (const Slices& part : parts) {
    arrival = place_slices(part.of(rank_), arrival);
    add_slices(part.of(rank_));
  }
  memory_.wait();
}

std::span<float> OrderedSum::reduce_natively(Communicator& comm) {
  check_world(comm);
  float* sum = buffer(0).data();
  for (int k = 1; k < depth_; ++k) memory_.add(sum, sum, buffer(k).data(), length_);
  memory_.wait();
  comm.add_natively(buffer(0));
  return buffer(0);
}

// When it returns, this rank's slices of the others' partial sums are here, or where they can be read.
void OrderedSum::exchange_slices(Communicator& comm, std::span<const Slices> parts) {
  SliceMessages messages(comm, parts, near_);
  float* arrival = inbox_.get();
  for (const Slices& part : parts) {
    for (const int peer : comm.others()) {
      if (near_.of(peer)) continue;
      const FloatRange theirs = part.of(peer);
      for (int own = 0; own < static_cast<int>(own_partials_); ++own)
        messages.send(peer, std::as_bytes(buffer(own).subspan(theirs.first, theirs.size())));
    }
    const FloatRange mine = part.of(rank_);
    arrival = place_slices(mine, arrival);
    for (const Partial& partial : partials_)
      if (partial.owner != rank_ && !partial.theirs)
        messages.receive(partial.owner, std::as_writable_bytes(std::span(partial.room, mine.size())));
  }
  messages.exchange("ordered sum, exchange");
}

// A sum grows in the place of its left operand, or, where that is another rank's, in a piece of scratch memory; the last one is
// the total.
void OrderedSum::add_slices(FloatRange mine) {
  float* total = buffer(0).data() + mine.first;
  const std::size_t piece = memory_.piece();
  for (std::size_t at = 0, count = 0; at < mine.size(); at += count) {
    count = std::min(piece, mine.size() - at);
    for (Partial& partial : partials_) partial.sum = partial.slice + at;
    for (const Addition& addition : additions_) {
      Partial& into = partials_[addition.into];
      float* to = into.theirs ? scratch_.data() + addition.into * piece : into.room + at;
      if (&addition == &additions_.back()) to = total + at;
      memory_.add(to, into.sum, partials_[addition.from].sum, count);
      into.sum = to;
    }
  }
}

void add_over_ranks(Communicator& comm, std::span<int64_t> values) {
  const std::vector<std::size_t> counts(static_cast<std::size_t>(comm.size()), values.size());
  std::vector<int64_t> all(values.size() * counts.size());
  comm.all_gather_v(std::span<const int64_t>(values), std::span<const std::size_t>(counts), std::span<int64_t>(all));
  std::fill(values.begin(), values.end(), 0);
  for (std::size_t i = 0; i < all.size(); ++i) values[i % values.size()] += all[i];
}

}  // namespace gru4rec

#include "gru4rec/data/plan.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <numeric>
#include <optional>
#include <span>

#include "gru4rec/base/error.h"
#include "gru4rec/base/random.h"

namespace gru4rec {
namespace {

constexpr uint64_t kShapesAtOnce = 1 << 16;

// Fisher and Yates (1938) with draws keyed by position: the same permutation for the same stream.
template <typename T>
void shuffle(std::vector<T>& values, const Stream& stream) {
  for (uint64_t i = values.size(); i > 1; --i) std::swap(values[i - 1], values[stream.below(i, i)]);
}

// Which of `parts` equal parts of `total` targets has the `before`-th.
uint64_t part_of(uint64_t before, uint64_t total, uint64_t parts) {
  return before * parts / total;  // a window has about 2^20 targets, deal() passes twice as many: no overflow below 2^43 parts
}

// Changes the bound between two shares so that the share on its left, and all before it, have as nearly as possible the targets
// they should: one segment near the bound changes sides, or two change places, or nothing is better. `surplus`: R times the
// targets they have too many. `left` and `right`: the segments nearest to the bound, from the bound on.
void even_out(std::span<const Segment> segments, std::span<const size_t> left, std::span<const size_t> right, int64_t surplus,
              uint32_t bound, uint32_t replicas, std::vector<uint32_t>& owners) {
  const auto targets = [&](size_t place) { return static_cast<int64_t>(segments[place].targets()) * replicas; };
  int64_t best = std::abs(surplus);
  std::optional<size_t> leaves, comes;
  const auto consider = [&](std::optional<size_t> from_left, std::optional<size_t> from_right) {
    const int64_t rest = std::abs(surplus - (from_left ? targets(*from_left) : 0) + (from_right ? targets(*from_right) : 0));
    if (rest >= best) return;
    best = rest;
    leaves = from_left;
    comes = from_right;
  };
  for (const size_t l : left) consider(l, std::nullopt);
  for (const size_t r : right) consider(std::nullopt, r);
  for (const size_t l : left)
    for (const size_t r : right) consider(l, r);
  if (leaves) owners[*leaves] = bound;
  if (comes) owners[*comes] = bound - 1;
}

// The replica of each segment of a batch: ranges of equal numbers of targets, to within half a segment at each bound, which are
// evened out. Each bound looks at its half of the shares on either side, so that none depends on another.
std::vector<uint32_t> deal(std::span<const Segment> segments, uint32_t replicas) {
  constexpr size_t kReach = 16;
  uint64_t total = 0;
  for (const Segment& segment : segments) total += segment.targets();
  std::vector<uint32_t> owners;
  std::vector<size_t> first(replicas + 1, segments.size());  // segment of each share
  std::vector<uint64_t> before_share(replicas + 1, total);   // targets
  uint64_t before = 0;
  for (size_t i = 0; i < segments.size(); ++i) {
    const uint64_t targets = segments[i].targets();
    const auto owner = static_cast<uint32_t>(part_of(2 * before + targets, 2 * total, replicas));  // of its middle
    for (uint32_t share = owners.empty() ? 0 : owners.back() + 1; share <= owner; ++share) {
      first[share] = i;
      before_share[share] = before;
    }
    owners.push_back(owner);
    before += targets;
  }
  for (uint32_t bound = 1; bound < replicas; ++bound) {
    std::vector<size_t> left, right;
    const size_t here = first[bound];
    for (size_t i = 0; i < std::min(kReach, (here - first[bound - 1] + 1) / 2); ++i) left.push_back(here - 1 - i);
    for (size_t i = 0; i < std::min(kReach, (first[bound + 1] - here) / 2); ++i) right.push_back(here + i);
    const auto surplus = static_cast<int64_t>(before_share[bound] * replicas) - static_cast<int64_t>(total * bound);
    even_out(segments, left, right, surplus, bound, replicas, owners);
  }
  return owners;
}

}  // namespace

EpochPlan::EpochPlan(const Store& store, const PlanOptions& options) : store_(store), options_(options) {
  if (options_.recent_fraction < 1.0) find_recent();
  build_blocks();
  if (targets_ == 0)
    throw UserError(
        "the store of dataset '{}' has no training target: no session has two events in its training part. "
        "Ingest more data, or lower min_session_length and the filters.",
        store.info().dataset);
}

// Of the sessions with training targets, the ⌈fraction · n⌉ whose last training event is the latest; of equal times the later
// session in the store.
void EpochPlan::find_recent() {
  constexpr uint64_t kSessionsAtOnce = 4096;
  struct End {
    int64_t time;
    uint64_t session;
    auto operator<=>(const End&) const = default;
  };
  std::vector<End> ends;
  std::vector<int64_t> times;
  for (uint64_t first = 0; first < store_.info().sessions; first += kSessionsAtOnce) {
    const auto shapes = store_.shapes(first, std::min(kSessionsAtOnce, store_.info().sessions - first));
    const uint64_t first_event = shapes.front().first_event;
    times.resize(shapes.back().first_event + shapes.back().events - first_event);
    store_.read_times(first_event, times);
    for (size_t i = 0; i < shapes.size(); ++i)
      if (shapes[i].train_end > 1)
        ends.push_back({times[shapes[i].first_event - first_event + shapes[i].train_end - 1], first + i});
  }
  const auto kept = static_cast<size_t>(std::ceil(options_.recent_fraction * static_cast<double>(ends.size())));
  const auto begin = ends.end() - static_cast<std::ptrdiff_t>(kept);
  if (kept > 0) std::nth_element(ends.begin(), begin, ends.end());
  recent_.assign(store_.info().sessions, false);
  for (auto end = begin; end != ends.end(); ++end) recent_[end->session] = true;
}

bool EpochPlan::takes(uint64_t session, const Store::SessionShape& shape) const {
  return shape.train_end > 1 && (recent_.empty() || recent_[session]);
}

void EpochPlan::build_blocks() {
  Block block{0, 0, 0};
  uint64_t block_events = 0;
  for (uint64_t first = 0; first < store_.info().sessions; first += kShapesAtOnce) {
    const uint64_t count = std::min(kShapesAtOnce, store_.info().sessions - first);
    for (const auto& shape : store_.shapes(first, count)) {
      if (takes(block.first_session + block.sessions, shape)) block.targets += shape.train_end - 1;
      ++block.sessions;
      block_events += shape.events;
      if (block_events >= options_.block_events) {
        blocks_.push_back(block);
        block = {block.first_session + block.sessions, 0, 0};
        block_events = 0;
      }
    }
  }
  if (block.sessions > 0) blocks_.push_back(block);
  std::erase_if(blocks_, [](const Block& b) { return b.targets == 0; });  // nothing to train on, never read again
  for (const Block& b : blocks_) targets_ += b.targets;
}

EpochPlan::BlockList EpochPlan::block_order(uint64_t epoch) const {
  BlockList order(blocks_.size());
  std::iota(order.begin(), order.end(), 0);
  shuffle(order, Stream{options_.seed, Purpose::block_order, epoch});
  return order;
}

const std::vector<EpochPlan::BlockList>& EpochPlan::windows(uint64_t epoch) const {
  if (windows_epoch_ == epoch) return windows_;
  const BlockList order = block_order(epoch);
  std::vector<BlockList> result;
  for (uint64_t first = 0; first < order.size(); first += options_.window_blocks) {
    const uint64_t last = std::min<uint64_t>(first + options_.window_blocks, order.size());
    result.emplace_back(order.begin() + first, order.begin() + last);
    std::sort(result.back().begin(), result.back().end());  // store order, for reading
  }
  windows_ = std::move(result);
  windows_epoch_ = epoch;
  return windows_;
}

uint64_t EpochPlan::window_batches(const BlockList& blocks) const {
  uint64_t targets = 0;
  for (uint64_t b : blocks) targets += blocks_[b].targets;
  return (targets + options_.batch_targets - 1) / options_.batch_targets;
}

uint64_t EpochPlan::batches(uint64_t epoch) const {
  uint64_t total = 0;
  for (const auto& window : windows(epoch)) total += window_batches(window);
  return total;
}

void EpochPlan::load_window(uint64_t epoch, uint64_t window, const BlockList& blocks) {
  std::vector<Segment> segments;  // in store order
  for (uint64_t b : blocks) {
    const Block& block = blocks_[b];
    uint64_t session = block.first_session;
    for (const auto& shape : store_.shapes(block.first_session, block.sessions)) {
      if (!takes(session, shape)) {
        ++session;
        continue;
      }
      if (options_.augmentation == Augmentation::prefixes) {
        append_prefixes(session, shape, 1, shape.train_end, options_.max_length, segments);
      } else {
        const Stream offsets{options_.seed, Purpose::segment_offset, epoch, session};
        append_windows(session, shape, options_.max_length, static_cast<uint32_t>(offsets.below(0, options_.max_length)),
                       segments);
      }
      ++session;
    }
  }
  std::vector<uint32_t> order(segments.size());
  std::iota(order.begin(), order.end(), 0);
  shuffle(order, Stream{options_.seed, Purpose::window_order, epoch, window});

  const uint64_t parts = window_batches(blocks);
  uint64_t targets = 0;
  for (uint64_t b : blocks) targets += blocks_[b].targets;
  std::vector<uint32_t> batch_of(segments.size());
  uint64_t before = 0;
  for (uint32_t i : order) {
    batch_of[i] = static_cast<uint32_t>(part_of(before, targets, parts));
    before += segments[i].targets();
  }
  if (before != targets) throw BugError("the segments of a window hold {} targets, its blocks {}", before, targets);
  window_.assign(parts, {});
  for (size_t i = 0; i < segments.size(); ++i) window_[batch_of[i]].push_back(segments[i]);
  loaded_epoch_ = epoch;
  loaded_window_ = window;
}

const std::vector<Segment>& EpochPlan::find_batch(uint64_t epoch, uint64_t batch) {
  const auto& all = windows(epoch);
  for (uint64_t w = 0; w < all.size(); ++w) {
    const uint64_t here = window_batches(all[w]);
    if (batch < here) {
      if (loaded_epoch_ != epoch || loaded_window_ != w) load_window(epoch, w, all[w]);
      return window_[batch];
    }
    batch -= here;
  }
  throw BugError("epoch {} has {} batches; batch {} past its end was asked for", epoch, batches(epoch), batch);
}

std::vector<Segment> EpochPlan::share(uint64_t epoch, uint64_t batch, uint32_t replica) {
  const std::vector<Segment>& all = find_batch(epoch, batch);
  if (owners_epoch_ != epoch || owners_batch_ != batch) {
    owners_ = deal(all, options_.replicas);
    owners_epoch_ = epoch;
    owners_batch_ = batch;
  }
  std::vector<Segment> result;
  for (size_t i = 0; i < all.size(); ++i)
    if (owners_[i] == replica) result.push_back(all[i]);
  return result;
}

}  // namespace gru4rec

#include "gru4rec/data/plan.h"

#include <algorithm>
#include <cmath>
#include <numeric>

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

// Which of `parts` equal parts of `total` targets a segment belongs to whose first target is the `before`-th.
uint64_t part_of(uint64_t before, uint64_t total, uint64_t parts) {
  return before * parts / total;  // a window has about 2^20 targets: no overflow below 2^44 parts
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

std::vector<Segment> EpochPlan::share(uint64_t epoch, uint64_t batch_index, uint32_t replica) {
  const std::vector<Segment>& all = find_batch(epoch, batch_index);
  uint64_t total = 0;
  for (const Segment& segment : all) total += segment.targets();
  std::vector<Segment> result;
  uint64_t before = 0;
  for (const Segment& segment : all) {
    if (part_of(before, total, options_.replicas) == replica) result.push_back(segment);
    before += segment.targets();
  }
  return result;
}

}  // namespace gru4rec

// A packed batch: input sequences without padding, and what has to be predicted from them.
//
// Sequences are sorted by length, longest first, and laid out time-major: row r of step t is the t-th input of the r-th
// sequence, and the batch shrinks as sequences end (the layout of torch's PackedSequence). One struct serves one pass,
// prefixes, leave-one-out and next-item evaluation; they differ in the segments it was made from.
#pragma once

#include <cstdint>
#include <list>
#include <span>
#include <unordered_map>
#include <vector>

#include "gru4rec/base/options.h"
#include "gru4rec/data/segment.h"
#include "gru4rec/data/store.h"

namespace gru4rec {

// What the randomness of one input belongs to (base/random.h).
struct InputKey {
  uint64_t session;
  uint32_t first_target;  // of the segment: the same event is dropped independently in another prefix
  uint32_t position;      // of the event in its session
};

struct Batch {
  std::vector<int64_t> items;        // [inputs] ids 1…catalogue, time-major
  std::vector<InputKey> keys;        // [inputs]
  std::vector<int64_t> step_sizes;   // [steps] sequences still running, never rising; their sum is `inputs`
  std::vector<int64_t> target_rows;  // [targets] row of the state that predicts it; `inputs` stands for the zero state
  std::vector<int64_t> labels;       // [targets] 0: not in the catalogue, can only be missed
  std::vector<int32_t> weights;      // [targets] integer weight in loss and count
  std::vector<uint64_t> sessions;    // [targets] global index, for messages, reports per session, and keys
  std::vector<uint32_t> positions;   // [targets] of the target in its session
  std::vector<int64_t> negatives;    // as OutputLoss::draw() gives them for a step; empty: none, or not drawn yet

  int64_t inputs() const { return static_cast<int64_t>(items.size()); }
  int64_t targets() const { return static_cast<int64_t>(labels.size()); }
  // Sum of the weights: what a mean is divided by.
  int64_t count() const;
};

// Reads the items of segments through a small cache of 64 KiB pieces (least recently used goes first). A rank's shares lie
// close together (data/plan.h), so it reads little more than its part of a store. Local; one thread.
class ItemReader {
 public:
  static constexpr uint64_t kCacheBytes = 16 << 20;
  // `numbers`, if not empty, [catalogue + 1]: what the items of the store are called instead, as for a model of another
  // catalogue. It must outlive the reader.
  explicit ItemReader(const Store& store, uint64_t cache_bytes = kCacheBytes, std::span<const uint32_t> numbers = {});

  // The items of the events [first_event, first_event + out.size()).
  void read(uint64_t first_event, std::span<uint32_t> out);

 private:
  static constexpr uint64_t kPieceEvents = 16384;
  struct Piece {
    uint64_t index;
    std::vector<uint32_t> items;
  };
  const std::vector<uint32_t>& piece(uint64_t index);

  const Store& store_;
  size_t capacity_;
  std::span<const uint32_t> numbers_;
  std::list<Piece> recent_;  // most recently used first
  std::unordered_map<uint64_t, std::list<Piece>::iterator> by_index_;
};

// Deletes inputs at random (Tan, Xu, Liu 2016, section 3.1): keyed by epoch, session, segment and position.
struct ItemDropout {
  double probability = 0;
  uint64_t seed = 0;
  uint64_t epoch = 0;
};

// Packs segments. Events whose item is 0 are passed over as inputs: the state stays as it was. A target with no input before it
// is predicted from the zero state. Targets come in the order of their rows, equal rows in the order of the segments.
// Backward, a target is predicted from the events after it in its segment, the last one first. With item dropout, deleted
// events are passed over in the same way and stay targets; a target whose inputs were all deleted is left out.
Batch pack(std::span<const Segment> segments, ItemReader& items, const ItemDropout& dropout = {},
           Direction direction = Direction::forward);

}  // namespace gru4rec

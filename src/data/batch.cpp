#include "gru4rec/data/batch.h"

#include <algorithm>
#include <numeric>

#include "gru4rec/base/error.h"
#include "gru4rec/base/random.h"

namespace gru4rec {

int64_t Batch::count() const { return std::accumulate(weights.begin(), weights.end(), int64_t{0}); }

ItemReader::ItemReader(const Store& store, uint64_t cache_bytes, std::span<const uint32_t> numbers)
    : store_(store), capacity_(std::max<uint64_t>(2, cache_bytes / (kPieceEvents * sizeof(uint32_t)))), numbers_(numbers) {
  if (!numbers.empty() && numbers.size() != store.info().catalogue + 1)
    throw BugError("{} numbers were given for {} items and 0", numbers.size(), store.info().catalogue);
}

const std::vector<uint32_t>& ItemReader::piece(uint64_t index) {
  if (auto found = by_index_.find(index); found != by_index_.end()) {
    recent_.splice(recent_.begin(), recent_, found->second);
    return recent_.front().items;
  }
  const uint64_t first = index * kPieceEvents;
  Piece loaded{index, std::vector<uint32_t>(std::min(kPieceEvents, store_.info().events - first))};
  store_.read_items(first, loaded.items);
  if (!numbers_.empty())
    for (uint32_t& item : loaded.items) item = numbers_[item];
  if (recent_.size() >= capacity_) {
    by_index_.erase(recent_.back().index);
    recent_.pop_back();
  }
  recent_.push_front(std::move(loaded));
  by_index_[index] = recent_.begin();
  return recent_.front().items;
}

void ItemReader::read(uint64_t first_event, std::span<uint32_t> out) {
  for (size_t done = 0; done < out.size();) {
    const uint64_t event = first_event + done;
    const std::vector<uint32_t>& source = piece(event / kPieceEvents);
    const uint64_t at = event % kPieceEvents;
    const size_t count = std::min<size_t>(out.size() - done, source.size() - at);
    std::copy_n(source.begin() + at, count, out.begin() + done);
    done += count;
  }
}

namespace {

// One segment's inputs and targets before packing.
struct Sequence {
  std::vector<uint32_t> items;      // kept inputs
  std::vector<uint32_t> positions;  // of the kept inputs
  std::vector<uint32_t> labels;     // by target
  std::vector<uint32_t> places;     // by target: its position in the session
  std::vector<uint32_t> seen;       // by target: kept inputs before it
  const Segment* segment;
};

// Events in the order in which they are read, and which of them are targets and inputs.
Sequence read_sequence(const Segment& segment, ItemReader& reader, const ItemDropout& dropout, Direction direction) {
  const Stream random{mix64(dropout.seed) ^ dropout.epoch, Purpose::item_dropout, segment.session, segment.first_target};
  const auto deleted = [&](uint32_t position) {
    return dropout.probability > 0 && random.uniform(position) < dropout.probability;
  };
  bool inputs_deleted = false;
  std::vector<uint32_t> events(segment.end - segment.begin);
  reader.read(segment.first_event + segment.begin, events);
  Sequence sequence{{}, {}, {}, {}, {}, &segment};
  const auto visit = [&](uint32_t position, bool last) {
    const uint32_t item = events[position - segment.begin];
    if (position >= segment.first_target && !(sequence.items.empty() && inputs_deleted)) {
      sequence.labels.push_back(item);
      sequence.places.push_back(position);
      sequence.seen.push_back(static_cast<uint32_t>(sequence.items.size()));
    }
    if (item == 0 || last) return;
    if (deleted(position)) {
      inputs_deleted = true;
    } else {
      sequence.items.push_back(item);
      sequence.positions.push_back(position);
    }
  };
  if (direction == Direction::forward) {
    for (uint32_t position = segment.begin; position < segment.end; ++position) visit(position, position + 1 == segment.end);
  } else {
    for (uint32_t position = segment.end; position-- > segment.first_target;) visit(position, position == segment.first_target);
  }
  return sequence;
}

// Lays the inputs out time-major; returns the first row of each step. `sequences` are sorted by length, longest first.
std::vector<int64_t> lay_out_inputs(const std::vector<Sequence>& sequences, Batch& batch) {
  std::vector<int64_t> first_row;
  const size_t steps = sequences.empty() ? 0 : sequences.front().items.size();
  for (size_t step = 0; step < steps; ++step) {
    first_row.push_back(batch.inputs());
    for (const Sequence& sequence : sequences) {
      if (sequence.items.size() <= step) break;
      batch.items.push_back(sequence.items[step]);
      batch.keys.push_back({sequence.segment->session, sequence.segment->first_target, sequence.positions[step]});
    }
    batch.step_sizes.push_back(batch.inputs() - first_row.back());
  }
  return first_row;
}

}  // namespace

Batch pack(std::span<const Segment> segments, ItemReader& items, const ItemDropout& dropout, Direction direction) {
  std::vector<Sequence> sequences;
  sequences.reserve(segments.size());
  for (const Segment& segment : segments) sequences.push_back(read_sequence(segment, items, dropout, direction));
  std::stable_sort(sequences.begin(), sequences.end(),
                   [](const Sequence& a, const Sequence& b) { return a.items.size() > b.items.size(); });

  Batch batch;
  const std::vector<int64_t> first_row = lay_out_inputs(sequences, batch);

  struct Target {
    int64_t row;
    uint32_t label;
    uint64_t session;
    uint32_t position;
  };
  std::vector<Target> targets;
  for (size_t s = 0; s < sequences.size(); ++s) {
    const Sequence& sequence = sequences[s];
    for (size_t t = 0; t < sequence.labels.size(); ++t) {
      const uint32_t seen = sequence.seen[t];
      const int64_t row = seen == 0 ? batch.inputs() : first_row[seen - 1] + static_cast<int64_t>(s);
      targets.push_back({row, sequence.labels[t], sequence.segment->session, sequence.places[t]});
    }
  }
  std::stable_sort(targets.begin(), targets.end(), [](const Target& a, const Target& b) { return a.row < b.row; });
  for (const Target& target : targets) {
    batch.target_rows.push_back(target.row);
    batch.labels.push_back(target.label);
    batch.weights.push_back(1);
    batch.sessions.push_back(target.session);
    batch.positions.push_back(target.position);
  }
  return batch;
}

}  // namespace gru4rec

// A piece of a session that is read as one sequence, and which of its positions are targets. Every mode of training and
// evaluation is a way to choose segments; what comes after (data/batch.h) does not know the mode.
#pragma once

#include <cstdint>
#include <vector>

#include "gru4rec/data/store.h"

namespace gru4rec {

// Events [begin, end) of a session; positions count from 0 at the session's first event. Inputs are [begin, end - 1); the
// targets are the positions [first_target, end), each predicted from the inputs before it.
struct Segment {
  uint64_t session;      // global index
  uint64_t first_event;  // global index of the session's position 0
  uint32_t begin;
  uint32_t end;
  uint32_t first_target;

  uint32_t targets() const { return end - first_target; }
  bool operator==(const Segment&) const = default;
};

// Training, one pass: the positions [1, train_end) as targets, each exactly once. A session of at most max_length targets is
// one segment. A longer one is cut into windows of at most max_length targets; neighbours share one event, which is the last
// target of the one and the first input of the other. The first window has `offset` targets (0 = max_length of them);
// offset < max_length changes each epoch, so that a target sees contexts of all lengths.
void append_windows(uint64_t session, const Store::SessionShape& shape, uint32_t max_length, uint32_t offset,
                    std::vector<Segment>& out);

// Each position [first, last) as a sample of its own that sees at most max_length events: RecBole's sequence augmentation in
// training, and what an evaluated target of `leave_one_out` sees.
void append_prefixes(uint64_t session, const Store::SessionShape& shape, uint32_t first, uint32_t last, uint32_t max_length,
                     std::vector<Segment>& out);

// Positions [first, last) as targets of one segment that reads the session from its beginning: protocol `next_item`.
void append_whole(uint64_t session, const Store::SessionShape& shape, uint32_t first, uint32_t last, std::vector<Segment>& out);

}  // namespace gru4rec

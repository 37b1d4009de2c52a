#include "gru4rec/data/segment.h"

#include <algorithm>

namespace gru4rec {

void append_windows(uint64_t session, const Store::SessionShape& shape, uint32_t max_length, uint32_t offset,
                    std::vector<Segment>& out) {
  const uint32_t targets = shape.train_end > 0 ? shape.train_end - 1 : 0;
  if (targets == 0) return;
  uint32_t first_target = 1;
  uint32_t window = targets > max_length && offset > 0 ? offset : max_length;
  while (first_target < shape.train_end) {
    const uint32_t end = std::min(first_target + window, shape.train_end);
    out.push_back({session, shape.first_event, first_target - 1, end, first_target});
    first_target = end;
    window = max_length;
  }
}

void append_prefixes(uint64_t session, const Store::SessionShape& shape, uint32_t first, uint32_t last, uint32_t max_length,
                     std::vector<Segment>& out) {
  for (uint32_t target = first; target < last; ++target) {
    const uint32_t begin = target > max_length ? target - max_length : 0;
    out.push_back({session, shape.first_event, begin, target + 1, target});
  }
}

void append_whole(uint64_t session, const Store::SessionShape& shape, uint32_t first, uint32_t last,
                  std::vector<Segment>& out) {
  if (first < last) out.push_back({session, shape.first_event, 0, last, first});
}

}  // namespace gru4rec

// A packed batch out of nothing but lengths, for what needs no store.
#pragma once

#include <algorithm>
#include <vector>

#include "gru4rec/base/random.h"
#include "gru4rec/data/batch.h"

namespace gru4rec::testing {

// One sequence a length (longest first), with a target at every input; items and labels uniform over the catalogue.
inline Batch packed_batch(const std::vector<int64_t>& lengths, int64_t catalogue) {
  const Stream random{7, Purpose::parameter_init};
  const auto item = [&](int64_t draw) {
    return 1 + static_cast<int64_t>(random.below(static_cast<uint64_t>(draw), static_cast<uint64_t>(catalogue)));
  };
  Batch batch;
  for (int64_t step = 0; step < lengths.front(); ++step) {
    const auto running = std::count_if(lengths.begin(), lengths.end(), [&](int64_t length) { return length > step; });
    batch.step_sizes.push_back(running);
    for (int64_t s = 0; s < running; ++s) {
      const int64_t row = batch.inputs();
      const auto session = static_cast<uint64_t>(s);
      const auto position = static_cast<uint32_t>(step);
      batch.items.push_back(item(2 * row));
      batch.keys.push_back({session, 1, position});
      batch.target_rows.push_back(row);
      batch.labels.push_back(item(2 * row + 1));
      batch.weights.push_back(1);
      batch.sessions.push_back(session);
      batch.positions.push_back(position + 1);
    }
  }
  return batch;
}

}  // namespace gru4rec::testing

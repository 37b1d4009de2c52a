// A small store that a model can learn from: item i is followed by (5 i + 1) mod catalogue, most of the time. No unknown item
// in training; test sessions have some.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "gru4rec/base/random.h"
#include "gru4rec/data/store.h"
#include "support/store_example.h"

namespace gru4rec::testing {

struct TrainingExample {
  uint64_t sessions = 300;
  uint64_t catalogue = 97;
  uint64_t longest = 30;
  Protocol protocol = Protocol::next_item;
  int64_t shards = 1;
  std::vector<uint64_t> grown_from = {};  // digests of the stores it was
};

inline ExampleSession training_session(uint64_t index, const TrainingExample& example) {
  const Stream random(11, Purpose::block_order, index);
  const uint64_t events = 2 + random.below(0, example.longest - 1);
  ExampleSession session;
  session.id = "u" + std::to_string(index);
  uint64_t item = random.below(1, example.catalogue);
  for (uint64_t i = 0; i < events; ++i) {
    session.items.push_back(static_cast<uint32_t>(item + 1));
    session.times.push_back(static_cast<int64_t>(index * 1000 + i));
    item = random.uniform(100 + i) < 0.8 ? (5 * item + 1) % example.catalogue : random.below(200 + i, example.catalogue);
  }
  const auto n = static_cast<uint32_t>(events);
  if (example.protocol == Protocol::leave_one_out) {
    session.train_end = n >= 4 ? n - 2 : 2;
    session.valid_end = n >= 4 ? n - 1 : 2;
  } else if (index * 10 < example.sessions * 8) {
    session.train_end = session.valid_end = n;
  } else {
    session.train_end = 1;
    session.valid_end = index * 10 < example.sessions * 9 ? n : 1;
    for (uint64_t i = 0; i < events; ++i)
      if (random.uniform(400 + i) < 0.1) session.items[i] = 0;
  }
  return session;
}

inline StoreInfo write_training_example(const std::filesystem::path& folder, const TrainingExample& example = {}) {
  std::vector<ExampleSession> sessions;
  for (uint64_t s = 0; s < example.sessions; ++s) sessions.push_back(training_session(s, example));
  StoreWriter writer(folder, example.shards, events_of(sessions));
  for (const ExampleSession& session : sessions) writer.add(session.record());
  StoreInfo info;
  info.dataset = "training-example";
  info.protocol = example.protocol;
  info.ingest_json = "{}";
  info.grown_from = example.grown_from;
  return writer.commit(info, example_names(example.catalogue));
}

}  // namespace gru4rec::testing

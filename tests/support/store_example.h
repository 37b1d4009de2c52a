// Made-up sessions for tests of the store: a pure function of the index, lengths from 1 to `longest`.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "gru4rec/base/random.h"
#include "gru4rec/data/store.h"

namespace gru4rec::testing {

struct ExampleSession {
  std::string id;
  std::vector<uint32_t> items;
  std::vector<int64_t> times;
  uint32_t train_end, valid_end;
  SessionRecord record() const { return {id, items, times, train_end, valid_end}; }
};

inline ExampleSession example_session(uint64_t index, uint64_t catalogue, uint64_t longest = 41) {
  const Stream random(7, Purpose::block_order, index);
  const uint64_t events = 1 + random.below(0, longest);
  ExampleSession session;
  if (index % 5 != 0) session.id = fmt::format("s{}", index);  // ids may be empty
  for (uint64_t i = 0; i < events; ++i) {
    session.items.push_back(static_cast<uint32_t>(random.below(10 + i, catalogue + 1)));
    session.times.push_back(static_cast<int64_t>(index * 1000 + i) - 500);
  }
  session.valid_end = static_cast<uint32_t>(1 + random.below(1, events));
  session.train_end = static_cast<uint32_t>(1 + random.below(2, session.valid_end));
  return session;
}

inline std::vector<ExampleSession> example_sessions(uint64_t count, uint64_t catalogue, uint64_t longest = 41) {
  std::vector<ExampleSession> sessions;
  for (uint64_t s = 0; s < count; ++s) sessions.push_back(example_session(s, catalogue, longest));
  return sessions;
}

inline std::vector<std::string> example_names(uint64_t catalogue) {
  std::vector<std::string> names;
  for (uint64_t i = 1; i <= catalogue; ++i) names.push_back("item " + std::to_string(i * i));
  return names;
}

inline uint64_t events_of(const std::vector<ExampleSession>& sessions) {
  uint64_t events = 0;
  for (const ExampleSession& session : sessions) events += session.items.size();
  return events;
}

inline StoreInfo commit_example(StoreWriter& writer, uint64_t catalogue) {
  StoreInfo info;
  info.dataset = "example";
  info.protocol = Protocol::next_item;
  info.ingest_json = R"({"options": {"dataset": "example"}, "statistics": {"sessions": 3}})";
  return writer.commit(info, example_names(catalogue));
}

inline StoreInfo write_example(const std::filesystem::path& folder, const std::vector<ExampleSession>& sessions, int64_t shards,
                               uint64_t catalogue, uint64_t in_memory = StoreWriter::kInMemory) {
  StoreWriter writer(folder, shards, events_of(sessions), {}, in_memory);
  for (const ExampleSession& session : sessions) writer.add(session.record());
  return commit_example(writer, catalogue);
}

}  // namespace gru4rec::testing

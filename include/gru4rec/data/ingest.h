// Raw events → session store: read, filter, form sessions, split, number items, write.
//
// Memory: kIngestBaseBytes, and kIngestBytesPerEvent for each event read (columns of codes, and what sorting them takes), and
// for each distinct session or item its id's length and kIngestBytesPerId; for Parquet also the largest row group. It does not
// depend on the number of shards. At most 2^32 - 1 sessions and as many items.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "gru4rec/base/options.h"
#include "gru4rec/data/event_reader.h"
#include "gru4rec/data/store.h"

namespace gru4rec {

constexpr uint64_t kIngestBaseBytes = 96 << 20;
constexpr uint64_t kIngestBytesPerEvent = 64;
constexpr uint64_t kIngestBytesPerId = 160;

// What was dropped on the way, in events; and what the store holds.
struct IngestReport {
  StoreInfo store;
  nlohmann::json statistics;  // the same numbers by name, as kept in the store
  std::string text() const;   // a table for people
};

// Writes options.store. The order of the steps is RecBole's (recbole/data/dataset, _data_filtering), ours behind it:
//   1. rm_dup_inter: of the events of one user and item the first or last in time
//   2. val_interval
//   3. user_inter_num_interval and item_inter_num_interval, until nothing changes
//   4. sessions: SESSION_ID_FIELD, or users divided by session_gap; events in time order, equal times in file order
//   5. merge_repeats, min_item_support (events in training) and min_session_length, until nothing changes
//   6. the split; items numbered by first appearance in time order in the training part (leave_one_out and ratio: in all of it)
//   7. drop_unseen, and the sessions it leaves shorter than min_session_length
// A session is on the test, valid or train side of a temporal split as of step 4.
//
// A store of that name stays readable until the new one is complete. Local. Throws UserError for bad data and for filters that
// leave nothing, SurroundingsError for I/O.
IngestReport ingest(const Options& options, const ReadProgress& progress = {});

// The options that a store was made with; none of a store that others wrote. Local.
std::optional<Options> ingest_options(const StoreInfo& store);

}  // namespace gru4rec

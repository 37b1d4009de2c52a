// Raw events → session store: read, filter, form sessions, split, number items, write.
//
// Memory: kIngestBaseBytes, and kIngestBytesPerEvent for each event read (columns of codes, and what sorting them takes), and
// for each session (where session_gap divides one, each part) and each distinct item its id's length and kIngestBytesPerId; for
// Parquet also the largest row group, of the columns that are read. It does not depend on the number of shards. At most
// 2^32 - 1 sessions and as many items.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "gru4rec/base/options.h"
#include "gru4rec/data/event_reader.h"
#include "gru4rec/data/store.h"

namespace gru4rec {

constexpr uint64_t kIngestBaseBytes = 96 << 20;
constexpr uint64_t kIngestBytesPerEvent = 72;
constexpr uint64_t kIngestBytesPerId = 240;

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

// Adds the events of the files that `options` name to the store options.store, and makes the store anew from both, by the steps
// above: what an ingest of all data at once would make, but for what the former one dropped, and but for items, which keep the
// numbers they have; new ones get the next. Events that the store has already, with session, item and time, are left out.
// Shards with which both stores begin stay as they are, the manifest is replaced at the end. Without anything new the store
// stays as it is, byte for byte, and `grown` is false.
//
// Memory: that of an ingest of all events. Local. Throws UserError besides if there is no such store, if it does not say how it
// was made, or was made with other columns, filters or another split.
struct AppendReport {
  IngestReport ingest;
  bool grown = false;
  uint64_t events_read = 0;
  uint64_t already_there = 0;  // of them, left out
  uint64_t late = 0;           // new events that are older than the newest of the store
};
AppendReport append(const Options& options, const ReadProgress& progress = {});

}  // namespace gru4rec

// What a fresh ingest and an append share. Internal to data. Local.
#pragma once

#include <filesystem>
#include <optional>
#include <vector>

#include "gru4rec/data/ingest.h"
#include "session_builder.h"

namespace gru4rec {

struct InputFile {
  std::filesystem::path path;
  Part part;
};

// The files that the options name.
std::vector<InputFile> input_files(const Options& options);

// Adds their events to a table.
void read_files(const Options& options, const std::vector<InputFile>& files, EventTable& table, const ReadProgress& progress);

// The store that an append begins with. Its events are the first of the table, its items the first codes.
struct Former {
  const Store* store;
  uint64_t events;             // of it in the table
  uint64_t already_there = 0;  // of the new files, and left out
  uint64_t late = 0;           // new events that are older than its newest
};

// Steps 1 to 8, and writes options.store; forgets the events once sessions hold them. Nothing, and writes nothing, if no event
// is left but those of `former`.
std::optional<IngestReport> make_store(const Options& options, EventTable& table, const Former* former);

}  // namespace gru4rec

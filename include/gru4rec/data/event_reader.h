// Reads files of events through Arrow: .inter (RecBole's typed headers), .csv, .tsv, .txt and .parquet, text gzipped or not.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <string>

#include "gru4rec/base/options.h"
#include "gru4rec/data/event_table.h"

namespace gru4rec {

// Which columns, and how text is divided.
struct EventFormat {
  std::string session_column;
  std::string item_column;
  std::string time_column;
  std::map<std::string, Intervals> val_interval;
  char separator = '\t';  // in .csv files a tab stands for the comma, their own default
};

// Rows read so far and the share of the file behind them, in [0, 1].
using ReadProgress = std::function<void(uint64_t rows, double fraction)>;

// Appends the events of a file. Rows are read one after the other, so that one that cannot be read is named with its number: as
// an editor counts in text (the header is row 1, blank lines count), from 1 in Parquet. Local; one thread. Throws UserError for
// a missing file or column and for a bad row; SurroundingsError for I/O.
void read_events(const std::filesystem::path& path, Part part, const EventFormat& format, EventTable& table,
                 const ReadProgress& progress = {});

}  // namespace gru4rec

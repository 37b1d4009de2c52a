// From argv to what a command needs. Local: nothing but the configuration files is touched.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "commands.h"
#include "gru4rec/base/options.h"

namespace gru4rec {

struct CommandLine {
  std::string command;                // ingest, train, evaluate, …; empty: only `text` is to be printed
  std::string text;                   // help or version, for standard output
  Options options;                    // resolved; untouched where files are not read
  std::vector<std::string> warnings;  // for rank 0 to log
  bool names_data = false;            // there was a configuration, so that the store it names is meant
  bool append = false;                // of ingest
  TrainRequest train;
  EvaluateRequest evaluate;
  RecommendRequest recommend;
  ExportRequest exported;
  TuneRequest tune;
  ReportRequest report;
  InspectRequest inspect;
};

// Throws one UserError that lists all that is wrong. `read_files` false: the process will get its options from rank 0, so
// configuration files, which may not be on this host, are not opened.
CommandLine parse_command_line(int argc, const char* const* argv, bool read_files);

}  // namespace gru4rec

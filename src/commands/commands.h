// The commands of the program. Each returns an exit code and throws for every failure; `main` turns that into a message, an
// exit code and, under mpirun, the end of the job.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "gru4rec/base/config.h"
#include "gru4rec/base/options.h"
#include "gru4rec/comm/world.h"

namespace gru4rec {

// Local: raw events → session store. `append`: they join the store that is there.
int run_ingest(const Options& options, bool append);

struct TrainRequest {
  bool dry_run = false;  // only say what the run would take
};
// Collective: store → checkpoints, metrics, result.
int run_train(Options options, const TrainRequest& request, MpiEnvironment& environment);

// Collective: ingest where there is no store yet, then train. Throws UserError for a store that other options made.
int run_run(const Options& options, MpiEnvironment& environment);

struct EvaluateRequest {
  std::filesystem::path checkpoint;  // a file; of a run's folder its best, of a folder of checkpoints the newest
  std::string split = "test";        // or "valid"
  std::filesystem::path ranks_file;  // where to write the rank of every target; empty: nowhere
  std::vector<Override> overrides;   // of the options of the run that wrote the checkpoint
};
// Collective: checkpoint + store → metrics.
int run_evaluate(EvaluateRequest request, MpiEnvironment& environment);

struct RecommendRequest {
  std::filesystem::path checkpoint;   // as for evaluate
  std::vector<std::string> sessions;  // ids with blanks between them; none: JSON lines of standard input
  std::vector<std::string> exclude;   // items that are never recommended, ids with blanks between them
  int64_t k = 20;
  bool exclude_seen = false;
  std::vector<Override> overrides;  // of the options of the run that wrote the checkpoint
};
// Local: checkpoint + sessions → a JSON line a session on standard output.
int run_recommend(const RecommendRequest& request);

struct ExportRequest {
  std::filesystem::path checkpoint;  // as for evaluate
  std::string format;                // torchscript, recbole, hdf5 or numpy
  std::filesystem::path output;      // the file to write
  std::filesystem::path item_order;  // of recbole: a JSON list of its item ids, in its order; empty: the store's
  std::vector<Override> overrides;   // of the options of the run that wrote the checkpoint
};
// Local: checkpoint → a file of another format.
int run_export(const ExportRequest& request);

struct TuneRequest {
  std::filesystem::path params_file;  // base/search_space.h
  std::string algo;                   // exhaustive or random; empty: exhaustive
  int64_t max_evals = 0;              // trials, with random
  int ranks_per_trial = 1;
};
// Collective: store + options + a space of others → a run for each combination in RUN_DIR/tune, and the best of them on the
// validation part.
int run_tune(Options options, TuneRequest request, MpiEnvironment& environment);

// Collective: what the ranks are and see, and how fast they talk, as a table on standard output. `names_data`, of rank 0: the
// store of `options` is compared as well. An exit code other than 0 stands for the differences that the table ends with.
int run_doctor(Options options, bool names_data, MpiEnvironment& environment);

struct ReportRequest {
  std::filesystem::path run;  // the folder of a run or of a tuning
};
// Local: files of a run's folder → report.html.
int run_report(const ReportRequest& request);

struct InspectRequest {
  std::filesystem::path path;  // a store's folder, one of its files, or a checkpoint
  bool digest = false;         // print only the digest
  bool verify = false;         // check every block
  bool seal = false;           // give files written by others their seal
};
// Local.
int run_inspect(const InspectRequest& request);

}  // namespace gru4rec

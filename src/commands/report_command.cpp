#include "commands.h"
#include "gru4rec/base/error.h"
#include "gru4rec/report/report.h"

namespace gru4rec {

int run_report(const ReportRequest& request) {
  const std::filesystem::path tune = is_tuning(request.run) ? request.run : request.run / "tune";
  const bool tuned = is_tuning(tune), trained = is_run(request.run);
  if (!tuned && !trained)
    throw UserError(
        "{} is the folder of no run (no config.yaml) and of no tuning (no tune/trials.tsv). Pass the run_dir of a train or "
        "tune "
        "command.",
        request.run.string());
  if (trained) fmt::print("{}\n", write_run_report(request.run).string());
  if (tuned) fmt::print("{}\n", write_tune_report(tune).string());
  return kExitDone;
}

}  // namespace gru4rec

#include <spdlog/spdlog.h>

#include "commands.h"
#include "gru4rec/base/error.h"
#include "gru4rec/base/hash.h"
#include "gru4rec/base/progress.h"
#include "gru4rec/data/ingest.h"

namespace gru4rec {

int run_ingest(const Options& options) {
  ProgressLine line(options.show_progress);
  const IngestReport report = ingest(options, [&](uint64_t rows, double fraction) {
    line.show("reading", fraction, fmt::format("{:.1f}M events", static_cast<double>(rows) / 1e6));
  });
  line.clear();
  fmt::print("store {} (digest {})\n{}", options.store, hex_text(report.store.data_digest), report.text());
  return kExitDone;
}

}  // namespace gru4rec

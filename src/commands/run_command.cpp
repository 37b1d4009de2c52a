#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

#include <optional>

#include "commands.h"
#include "gru4rec/base/config.h"
#include "gru4rec/base/error.h"
#include "gru4rec/data/ingest.h"
#include "gru4rec/data/store.h"
#include "program.h"
#include "world.h"

namespace gru4rec {
namespace {

// A store that is there must be the one that these options would make.
void require_same_making(const Options& options) {
  const std::optional<Options> before = ingest_options(Store(options.store).info());
  if (!before) throw UserError("{} does not say which options made it. Use train, which takes it as it is.", options.store);
  const std::vector<std::string> changed = data_differences(*before, options);
  if (changed.empty()) return;
  throw UserError(
      "the store {} was made with other options ({}). Make another one with --store FOLDER, or this one again with gru4rec "
      "ingest, which ends what runs on it could go on from.",
      options.store, fmt::join(changed, "; "));
}

}  // namespace

int run_run(const Options& options, MpiEnvironment& environment) {
  // Rank 0 has the options; the others wait for it where MPI starts.
  if (launched_rank() <= 0) {
    if (is_store(options.store)) {
      require_same_making(options);
      spdlog::info("store {} is there", options.store);
    } else {
      run_ingest(options, /*append=*/false);
    }
  }
  return run_train(options, {}, environment);
}

}  // namespace gru4rec

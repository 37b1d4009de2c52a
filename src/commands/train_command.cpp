#include <spdlog/spdlog.h>

#include <nlohmann/json.hpp>
#include <optional>

#include "commands.h"
#include "gru4rec/base/config.h"
#include "gru4rec/base/progress.h"
#include "gru4rec/comm/watchdog.h"
#include "gru4rec/train/trainer.h"
#include "results.h"
#include "startup.h"
#include "world.h"

namespace gru4rec {
namespace {

// Rank 0's view of a run for people: a progress line and a line an epoch.
class Console : public TrainListener {
 public:
  explicit Console(const Options& options) : options_(options), progress_(options.show_progress) {}

  void on_step(const TrainState& state, uint64_t batches, double mean_loss, double targets_per_second) override {
    progress_.show(fmt::format("epoch {}/{}", state.epoch + 1, options_.epochs),
                   static_cast<double>(state.batch) / static_cast<double>(batches),
                   fmt::format("loss {:.4f}  {:.1f}k events/s", mean_loss, targets_per_second / 1000));
  }

  void on_epoch(const TrainState& state, double mean_loss, const std::optional<RankHistogram>& valid, bool improved,
                double seconds) override {
    progress_.clear();
    std::string line = fmt::format("epoch {}  loss {:.4f}  {:.2f} s", state.epoch, mean_loss, seconds);
    if (valid) {
      line += fmt::format("  valid {}", metrics_text(*valid, options_, {options_.valid_metric, "recall@20", "mrr@20"}));
      line += improved ? "  best" : fmt::format("  stalled {} times (last best: {})", state.best.stalled, state.best.value);
    }
    spdlog::info(line);
  }

 private:
  const Options& options_;
  ProgressLine progress_;
};

}  // namespace

int run_train(Options options, MpiEnvironment& environment) {
  const std::unique_ptr<Communicator> comm = enter_world(environment, options);
  const Watchdog watchdog(*comm);
  const Store store = open_store(options, *comm);
  std::optional<RunFolder> folder;
  std::optional<Console> console;
  if (comm->rank() == 0) {
    folder.emplace(options.run_dir);
    console.emplace(options);
  }
  const RunStart start = find_start(options, store.info(), *comm);
  print_startup(options, start, store, *comm);
  if (folder) folder->write_config(to_yaml(options));

  StopFlag stop;
  const StopOnSignals handlers(stop);
  Trainer trainer(options, start, store, *comm, stop, folder ? &*folder : nullptr, console ? &*console : nullptr);
  const Outcome outcome = trainer.run();
  environment.finalize(*comm);
  if (outcome.stop_signal != 0) {
    if (folder)
      spdlog::warn("stopped by signal {} after saving step {}. Go on with --resume.", outcome.stop_signal,
                   trainer.state().step);
    return kExitSignalBase + outcome.stop_signal;
  }
  if (folder) {
    folder->write_result(result_json(outcome, options, start.replicas, comm->size()));
    fmt::print("{}\n", result_text(outcome, options));
  }
  return kExitDone;
}

}  // namespace gru4rec

#include <spdlog/spdlog.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "commands.h"
#include "gru4rec/base/config.h"
#include "gru4rec/base/error.h"
#include "gru4rec/base/hash.h"
#include "gru4rec/base/progress.h"
#include "gru4rec/comm/watchdog.h"
#include "gru4rec/train/checkpoint.h"
#include "gru4rec/train/stages.h"
#include "gru4rec/train/trainer.h"
#include "results.h"
#include "startup.h"
#include "training.h"
#include "world.h"

namespace gru4rec {
namespace {

// Rank 0's view of a run for people: a progress line and a line an epoch.
class Console : public TrainListener {
 public:
  explicit Console(const Options& options) : options_(options), progress_(options.show_progress) {}

  void on_step(const TrainState& state, uint64_t batches, double mean_loss, double targets_per_second) override {
    if (state.epoch != epoch_ || label_.empty()) label_ = fmt::format("epoch {}/{}", state.epoch + 1, options_.epochs);
    epoch_ = state.epoch;
    progress_.show(label_, static_cast<double>(state.batch) / static_cast<double>(batches),
                   [&] { return fmt::format("loss {:.4f}  {:.1f}k events/s", mean_loss, targets_per_second / 1000); });
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
  uint64_t epoch_ = 0;
  std::string label_;  // of that epoch
};

const std::string& run_dir_of(const Stage& stage) { return stage.options.run_dir; }
const std::string& checkpoints_of(const Stage& stage) { return stage.options.checkpoint_dir; }

void refuse_teacher_without_evaluation(const Options& options, const Store& store) {
  if (options.teacher != "auto" || options.eval_step == 0 || store.info().protocol != Protocol::leave_one_out) return;
  throw UserError(
      "teacher auto: a teacher cannot be evaluated on a store that was split leave one out, as its targets have no future, so "
      "nothing says after which epoch it is best. Ingest with a split of whole sessions, or train a teacher for a number of "
      "epochs of your choice (--direction backward --eval_step 0 --epochs N --run_dir TEACHER) and pass --teacher TEACHER.");
}

// Collective. Where each stage begins. What any of them would be refused for is said here, before the first one trains; all
// have the replicas and the precision of the first.
std::vector<RunStart> find_starts(std::vector<Stage>& stages, const Store& store, Communicator& comm) {
  std::vector<RunStart> starts;
  for (Stage& stage : stages) {
    if (!starts.empty()) {
      stage.options.replicas = starts.front().replicas;
      stage.options.precision = starts.front().precision;
    }
    try {
      starts.push_back(find_start(stage.options, store.info(), comm));
    } catch (const UserError& error) {
      if (!stage.continues) throw;
      throw UserError(
          "{}\nThis is the adaptation: its recent_fraction, epochs and learning_rate are adapt_fraction, adapt_epochs "
          "and adapt_learning_rate of the command.",
          error.what());
    }
    if (starts.back().resume_step >= 0 && starts.size() > 1 && starts[starts.size() - 2].resume_step < 0)
      throw UserError(
          "cannot resume: {} holds checkpoints, {}, which the stage before it writes, does not. Bring those back, or start a "
          "new run with another run_dir.",
          checkpoints_of(stage), checkpoints_of(stages[starts.size() - 2]));
  }
  return starts;
}

// A stage begins when the one before it has ended: all before the last that has a checkpoint are done.
size_t first_to_run(const std::vector<RunStart>& starts) {
  const auto last = std::find_if(starts.rbegin(), starts.rend(), [](const RunStart& start) { return start.resume_step >= 0; });
  return last == starts.rend() ? 0 : static_cast<size_t>(starts.rend() - last) - 1;
}

// Collective. Makes what a later stage will train, and drops it: throws what would otherwise be thrown hours later.
void rehearse(const Stage& stage, const RunStart& start, const Store& store, Communicator& comm) {
  Options options = stage.options;
  options.teacher.clear();  // is still to be trained, or is needed by an earlier stage as well
  if (stage.continues) options.freeze_item_embeddings = false;  // its table will come from the stage before it
  const StopFlag stop;
  Trainer(options, {.replicas = start.replicas, .resume_step = -1, .precision = start.precision}, store, comm, stop, nullptr,
          nullptr);
}

// The best checkpoint of a stage that is done. Local.
struct Best {
  std::string file;
  uint64_t digest;
  double value;  // of valid_metric; negative: never evaluated
};
Best best_of(const Stage& stage) {
  const CheckpointFolder folder(checkpoints_of(stage), stage.options.keep_checkpoints);
  const auto newest = folder.newest_good();
  if (!newest) throw BugError("stage {} is done without a checkpoint in {}", stage.name, checkpoints_of(stage));
  const BestSoFar& best = newest->info.state.best;
  const std::string file = folder.file_of(best.step).string();
  return {file, read_checkpoint_info(file).digest, best.value};
}

// Sets what a stage begins with: the best of the former one, unless it has a checkpoint and began before. Returns that best, if
// it is what the stage began with. Local.
std::optional<Best> set_beginning(Stage& stage, const RunStart& start, const Stage& former) {
  Best best = best_of(former);
  stage.options.init_from = best.file;
  if (start.resume_step < 0) return best;
  const std::string checkpoint = CheckpointFolder(checkpoints_of(stage), 1).file_of(start.resume_step).string();
  const CheckpointInfo info = read_checkpoint_info(checkpoint);
  stage.options.init_from = options_from_yaml(info.options, checkpoint).init_from;
  if (info.start_digest == best.digest) return best;
  spdlog::warn("{} began with {} (digest {}), the best checkpoint is now {} (digest {}). Remove {} to adapt anew.",
               stage.options.run_dir, stage.options.init_from, hex_text(info.start_digest), best.file, hex_text(best.digest),
               stage.options.run_dir);
  return std::nullopt;
}

void compare(const Best& before, const Best& after, const std::string& metric) {
  if (before.value < 0 || after.value < 0) return;
  if (after.value > before.value)
    spdlog::info("valid {}: {} before the adaptation, {} after it", metric, before.value, after.value);
  else
    spdlog::warn(
        "the adapted model is not better on valid: {} is {}, that of the model it began with is {} ({}). The test result is "
        "the adapted model's all the same.",
        metric, after.value, before.value, before.file);
}

// Collective. Trains a stage from its start to its end.
Outcome run_stage(const Options& options, const RunStart& start, const Store& store, Communicator& comm, const StopFlag& stop,
                  RunFolder* folder) {
  std::optional<Console> console;
  if (folder) console.emplace(options);
  Trainer trainer(options, start, store, comm, stop, folder, console ? &*console : nullptr);
  Outcome outcome;
  try {
    outcome = trainer.run();
  } catch (const std::exception&) {
    if (folder) folder->write_report();  // how it came to this
    throw;
  }
  if (folder && outcome.stop_signal != 0)
    spdlog::warn("stopped by signal {} after saving step {}. Go on with --resume.", outcome.stop_signal, trainer.state().step);
  else if (folder)
    folder->write_result(result_json(outcome, options, start.replicas, comm.size()), trainer.state().step);
  if (folder) folder->write_report();
  return outcome;
}

// Collective. The signal that came to any rank while no stage was there to heed it, or 0.
int signal_between_stages(const StopFlag& stop, Communicator& comm) {
  const std::vector<int> signals = comm.all_gather(stop.received());
  const int signal = *std::max_element(signals.begin(), signals.end());
  if (signal != 0 && comm.rank() == 0)
    spdlog::warn("stopped by signal {} after the end of a stage. Go on with --resume.", signal);
  return signal;
}

}  // namespace

Outcome train_stages(const Options& options, const Store& store, Communicator& comm, const StopFlag& stop) {
  const bool writes = comm.rank() == 0;
  refuse_teacher_without_evaluation(options, store);
  std::vector<Stage> stages = stages_of(options);
  std::vector<std::unique_ptr<RunFolder>> folders(stages.size());  // on rank 0; locked until the last stage has ended
  for (size_t i = 0; writes && i < stages.size(); ++i)
    folders[i] = std::make_unique<RunFolder>(run_dir_of(stages[i]), checkpoints_of(stages[i]));
  const auto run = static_cast<size_t>(std::ranges::find(stages, options.run_dir, run_dir_of) - stages.begin());
  const std::vector<RunStart> starts = find_starts(stages, store, comm);
  const size_t first = first_to_run(starts);
  if (writes && options.resume && starts[first].resume_step < 0)
    spdlog::info("nothing to resume in {}: starting anew", checkpoints_of(stages[first]));
  for (size_t i = first + 1; i < stages.size(); ++i) rehearse(stages[i], starts[i], store, comm);

  Outcome outcome;
  for (size_t i = first; i < stages.size() && outcome.stop_signal == 0; ++i) {
    Stage& stage = stages[i];
    if (stages.size() > 1) spdlog::info("stage {} of {}: {} in {}", i + 1, stages.size(), stage.name, stage.options.run_dir);
    std::optional<Best> before;
    if (stage.continues) {
      if (writes) before = set_beginning(stage, starts[i], stages[i - 1]);
      stage.options.init_from = comm.broadcast_text(0, stage.options.init_from);
    }
    print_startup(stage.options, starts[i], store, comm);
    if (writes) {
      folders[i]->write_config(to_yaml(stage.options));
      folders[i]->write_run(run_json(stage.options, starts[i], store.info(), comm));
      folders[run]->write_config(to_yaml(options));  // of the whole command
    }
    outcome = run_stage(stage.options, starts[i], store, comm, stop, folders[i].get());
    if (outcome.stop_signal != 0) break;
    if (before) compare(*before, best_of(stage), stage.options.valid_metric);
    if (i + 1 == stages.size()) break;
    if (writes) spdlog::info(result_text(outcome, stage.options));
    outcome.stop_signal = signal_between_stages(stop, comm);
  }
  return outcome;
}

namespace {

// Collective. What train_stages would take, from a few steps of each stage that is still to be run. Touches no file.
void estimate_stages(const Options& options, const Store& store, Communicator& comm) {
  constexpr double kSeconds = 3;
  refuse_teacher_without_evaluation(options, store);
  std::vector<Stage> stages = stages_of(options);
  const std::vector<RunStart> starts = find_starts(stages, store, comm);
  const size_t first = first_to_run(starts);
  for (size_t i = first; i < stages.size(); ++i) {
    const Stage& stage = stages[i];
    print_startup(stage.options, starts[i], store, comm);
    const bool untrained = i > first && options.teacher == "auto" && !stage.options.teacher.empty();
    Options measured = stage.options;
    if (untrained) measured.teacher.clear();
    if (stage.continues) measured.freeze_item_embeddings = false;  // its table comes from the stage before it
    const StopFlag stop;
    Trainer trainer(measured, starts[i], store, comm, stop, nullptr, nullptr);
    const auto all = static_cast<uint64_t>(stage.options.epochs), done = std::min(all, trainer.state().epoch);
    if (all == done) {
      if (comm.rank() == 0) fmt::print("{} would take no step: {} of {} epochs are done\n", stage.options.run_dir, done, all);
      continue;
    }
    const Pace pace = trainer.measure_pace(kSeconds);
    if (comm.rank() == 0)
      fmt::print("{} would take{}\n", stage.options.run_dir, untrained ? ", but for its teacher, which is not there yet" : "");
    print_estimate(stage.options, starts[i], store, comm, all - done, pace);
  }
}

}  // namespace

int run_train(Options options, const TrainRequest& request, MpiEnvironment& environment) {
  const std::unique_ptr<Communicator> comm = between_gpus(enter_world(environment, options), options);
  const Watchdog watchdog(*comm);
  const Store store = open_store(options, *comm);
  if (request.dry_run) {
    estimate_stages(options, store, *comm);
    environment.finalize(*comm);
    return kExitDone;
  }
  StopFlag stop;
  const StopOnSignals handlers(stop);
  const Outcome outcome = train_stages(options, store, *comm, stop);
  environment.finalize(*comm);
  if (outcome.stop_signal != 0) return kExitSignalBase + outcome.stop_signal;
  if (comm->rank() == 0) fmt::print("{}\n", result_text(outcome, options));
  return kExitDone;
}

}  // namespace gru4rec

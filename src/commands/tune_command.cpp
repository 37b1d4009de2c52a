#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>
#include <vector>

#include "commands.h"
#include "gru4rec/base/atomic_file.h"
#include "gru4rec/base/config.h"
#include "gru4rec/base/error.h"
#include "gru4rec/base/folder_lock.h"
#include "gru4rec/base/hash.h"
#include "gru4rec/base/search_space.h"
#include "gru4rec/comm/watchdog.h"
#include "gru4rec/report/report.h"
#include "gru4rec/train/stages.h"
#include "training.h"
#include "world.h"

namespace gru4rec {
namespace {

namespace fs = std::filesystem;

// One combination of options: a run in a folder of its own, which says how far it is. Local.
struct Trial {
  std::string name;  // trial-0001, …
  SearchPoint point;
  Options options;

  std::string text() const {
    std::vector<std::string> values;
    for (const Override& value : point) values.push_back(fmt::format("{} {}", value.key, value.value));
    return fmt::format("{}", fmt::join(values, ", "));
  }
  fs::path folder() const { return options.run_dir; }
  fs::path result_file() const { return fs::path(stages_of(options).back().options.run_dir) / "result.json"; }
  fs::path failure_file() const { return folder() / "failed.txt"; }
  bool done() const { return fs::exists(result_file()) || fs::exists(failure_file()); }

  // Of the best epoch; empty for one that failed.
  std::optional<double> valid() const {
    std::ifstream in(result_file());
    if (!in) return std::nullopt;
    return nlohmann::json::parse(in).at("best_valid_score").get<double>();
  }
};

fs::path tune_folder(const Options& base) { return fs::path(base.run_dir) / "tune"; }

Options options_of(const Options& base, const SearchPoint& point, const fs::path& folder) {
  std::vector<Override> values = point;
  values.push_back({"run_dir", folder.string()});
  values.push_back({"checkpoint_dir", (folder / "checkpoints").string()});
  values.push_back({"resume", "true"});
  values.push_back({"show_progress", "false"});
  return read_configuration({}, values, base).options;
}

std::vector<SearchPoint> points_of(const Options& base, const TuneRequest& request) {
  const SearchSpace space = SearchSpace::read(request.params_file);
  const bool random = request.algo == "random";
  if (!random && !space.finite())
    throw UserError("{} has options with a range, of which there is no end. Pass --algo random --max_evals N.",
                    request.params_file.string());
  if (random != (request.max_evals > 0))
    throw UserError("--max_evals: got {} with --algo {}, wanted a number with random and none with exhaustive.",
                    request.max_evals, random ? "random" : "exhaustive");
  return random ? space.random(request.max_evals, base.seed) : space.every();
}

// Throws UserError for a combination that no run could have, before the first one begins.
std::vector<Trial> trials_of(const Options& base, const std::vector<SearchPoint>& points) {
  std::vector<Trial> trials;
  for (const SearchPoint& point : points) {
    Trial trial{.name = fmt::format("trial-{:04}", trials.size() + 1), .point = point, .options = {}};
    try {
      trial.options = options_of(base, point, tune_folder(base) / trial.name);
    } catch (const UserError& error) {
      throw UserError("{}: {}", trial.text(), error.what());
    }
    trials.push_back(std::move(trial));
  }
  return trials;
}

// Collective: the points of rank 0, whose file may not be on other hosts.
std::vector<SearchPoint> shared(const std::vector<SearchPoint>& points, Communicator& comm) {
  nlohmann::json list = nlohmann::json::array();
  for (const SearchPoint& point : points) {
    list.push_back(nlohmann::json::array());
    for (const Override& value : point) list.back().push_back({value.key, value.value, value.place});
  }
  const std::string text = list.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);  // a path may be no UTF-8
  std::vector<SearchPoint> all;
  for (const nlohmann::json& point : nlohmann::json::parse(comm.broadcast_text(0, text))) {
    all.emplace_back();
    for (const nlohmann::json& value : point) all.back().push_back({value[0], value[1], value[2]});
  }
  return all;
}

// A folder of another tuning would be taken for done.
void refuse_other_tuning(const std::vector<Trial>& trials) {
  for (const Trial& trial : trials) {
    const fs::path file = trial.folder() / "config.yaml";
    std::ifstream in(file);
    if (!in) continue;
    const std::string text{std::istreambuf_iterator<char>(in), {}};
    const Options before = options_from_yaml(text, file.string());
    std::vector<std::string> different = differences(before, trial.options, /*numbers_only=*/true);
    if (before.epochs != trial.options.epochs)
      different.push_back(fmt::format("epochs: {} → {}", before.epochs, trial.options.epochs));
    if (before.stopping_step != trial.options.stopping_step)
      different.push_back(fmt::format("stopping_step: {} → {}", before.stopping_step, trial.options.stopping_step));
    if (!different.empty())
      throw UserError("{} is of another tuning ({}). Pass the options and the space of that one, or another run_dir.",
                      trial.folder().string(), fmt::join(different, ", "));
  }
}

// Nor can trials on data of before an append be compared with those on what the store is now.
void refuse_other_data(const Options& base, const Store& store) {
  const fs::path file = tune_folder(base) / "data_digest";
  const std::string digest = hex_text(store.info().data_digest);
  std::ifstream in(file);
  std::string before;
  if (in >> before && before != digest)
    throw UserError(
        "{} is a tuning on data with the digest {}, the store {} has {}. Pass the store of that one, or another run_dir.",
        tune_folder(base).string(), before, base.store, digest);
  fs::create_directories(tune_folder(base));
  if (before.empty()) write_file_atomically(file, digest + "\n");
}

void refuse_without_validation(const Options& base, const Store& store) {
  if (base.eval_step == 0 || store.info().valid_targets == 0)
    throw UserError(
        "tune chooses by {} on the validation part, and {}. Set eval_step above 0, and ingest with a part for validation.",
        base.valid_metric, base.eval_step == 0 ? "eval_step is 0" : "the store has none");
}

// What rank 0 tells, and leaves in the folder. Local.
class Report {
 public:
  Report(const Options& base, const std::vector<Trial>& trials) : base_(base), trials_(trials), told_(trials.size()) {}

  // Says which trials have ended since the last call, and writes the table anew if there are some.
  void update() {
    bool news = false;
    for (size_t i = 0; i < trials_.size(); ++i) {
      if (told_[i] || !trials_[i].done()) continue;
      told_[i] = news = true;
      const std::optional<double> valid = trials_[i].valid();
      spdlog::info("{} of {}: {}: {}", trials_[i].name, trials_.size(), trials_[i].text(),
                   valid ? fmt::format("valid {} {:.4f}", base_.valid_metric, *valid) : "failed");
    }
    if (news) write_table();
  }

  // The best trial, if one has not failed; the first of several.
  const Trial* best() const {
    const Trial* best = nullptr;
    for (const Trial& trial : trials_)
      if (const auto valid = trial.valid(); valid && (!best || *valid > *best->valid())) best = &trial;
    return best;
  }

  void write_best(const Trial& trial) const {
    Options options = read_configuration({}, trial.point, base_).options;
    if (fs::path(options.checkpoint_dir) == fs::path(options.run_dir) / "checkpoints")
      options.checkpoint_dir.clear();  // so that it follows another run_dir
    write_file_atomically(tune_folder(base_) / "best.yaml", to_yaml(options));
  }

 private:
  void write_table() const {
    std::string table = "trial";
    for (const Override& value : trials_.front().point) table += "\t" + value.key;
    table += fmt::format("\tvalid {}\n", base_.valid_metric);
    for (size_t i = 0; i < trials_.size(); ++i) {
      if (!told_[i]) continue;
      table += trials_[i].name;
      for (const Override& value : trials_[i].point) table += "\t" + value.value;
      const std::optional<double> valid = trials_[i].valid();
      table += valid ? fmt::format("\t{}\n", *valid) : "\tfailed\n";
    }
    write_file_atomically(tune_folder(base_) / "trials.tsv", table);
    try {
      write_tune_report(tune_folder(base_));
    } catch (const std::exception& error) {  // it can be made again
      spdlog::warn("no report of this tuning: {}", error.what());
    }
  }

  const Options& base_;
  const std::vector<Trial>& trials_;
  std::vector<bool> told_;
};

// For as long as it lives, only warnings are logged, unless all is wanted.
class QuietLog {
 public:
  QuietLog() : before_(spdlog::get_level()) {
    if (before_ == spdlog::level::info) spdlog::set_level(spdlog::level::warn);
  }
  ~QuietLog() { spdlog::set_level(before_); }
  QuietLog(const QuietLog&) = delete;
  QuietLog& operator=(const QuietLog&) = delete;

 private:
  spdlog::level::level_enum before_;
};

// Collective in the group. Trains a trial to its end, or to a stop signal, which is returned. One that the ranks agree cannot
// go on with these options, as a loss is no number, is noted as such. A UserError may be one rank's alone, and ends the tuning.
int train(const Trial& trial, const Store& store, Communicator& group, const StopFlag& stop) {
  const QuietLog quiet;
  try {
    return train_stages(trial.options, store, group, stop).stop_signal;
  } catch (const UserError&) {
    throw;
  } catch (const Error& error) {
    if (error.exit_code() != kExitUser) throw;
    if (group.rank() == 0) {
      spdlog::warn("{} ({}) failed: {}", trial.name, trial.text(), error.what());
      write_file_atomically(trial.failure_file(), std::string(error.what()) + "\n");
    }
    return 0;
  }
}

constexpr int kAllDone = -1, kNoneFree = -2, kStopped = -3;

// Collective in the group. The next trial for it, which it then holds; or none.
int next_trial(const std::vector<Trial>& trials, Communicator& group, const StopFlag& stop, std::unique_ptr<FolderLock>& held) {
  int next = kAllDone;
  for (size_t i = 0; group.rank() == 0 && i < trials.size() && next < 0; ++i) {
    if (trials[i].done()) continue;
    held = FolderLock::attempt(trials[i].folder(), ".trial.lock", "trial", "run_dir");
    if (held && trials[i].done()) held.reset();  // by another group, in the meantime
    next = held ? static_cast<int>(i) : kNoneFree;
  }
  if (stop.received() != 0) next = kStopped;
  group.broadcast(0, std::span(&next, 1));
  return next;
}

}  // namespace

int run_tune(Options options, TuneRequest request, MpiEnvironment& environment) {
  const std::unique_ptr<Communicator> world = enter_world(environment, options);
  world->broadcast(0, std::span(&request.ranks_per_trial, 1));
  const int size = request.ranks_per_trial;
  if (world->size() % size != 0)
    throw UserError("--ranks_per_trial: got {} for {} ranks, wanted a number that divides them.", size, world->size());
  if (options.device != DeviceKind::cpu && world->size() > size)
    throw UserError("tune with device cuda trains one trial at a time, got {} groups of ranks. Set --ranks_per_trial to {}.",
                    world->size() / size, world->size());
  const Store store = open_store(options, *world);
  refuse_without_validation(options, store);
  const bool first = world->rank() == 0;
  const std::vector<Trial> trials =
      trials_of(options, shared(first ? points_of(options, request) : std::vector<SearchPoint>{}, *world));
  if (first) {
    refuse_other_tuning(trials);
    refuse_other_data(options, store);
  }
  const std::unique_ptr<Communicator> group =
      between_gpus(size == 1 ? make_single({.timeout = options.comm_timeout}) : world->split(world->rank() / size), options);
  const Watchdog watchdog(*group);
  StopFlag stop;
  const StopOnSignals handlers(stop);
  Report report(options, trials);
  if (first)
    spdlog::info("{} trials in {}, {} at once, {} rank(s) each", trials.size(), tune_folder(options).string(),
                 world->size() / size, size);

  int signal = 0;
  for (;;) {
    if (first) report.update();
    std::unique_ptr<FolderLock> held;
    const int next = next_trial(trials, *group, stop, held);
    if (next == kAllDone) break;
    if (next == kStopped) signal = stop.received();
    if (next >= 0) signal = train(trials[static_cast<size_t>(next)], store, *group, stop);
    if (signal != 0 || next == kStopped) break;
    if (next == kNoneFree) std::this_thread::sleep_for(std::chrono::seconds(1));  // others train what is left
  }
  if (signal != 0 || stop.received() != 0) {
    if (first)
      spdlog::warn("stopped by signal {} after saving. The same command goes on.", signal != 0 ? signal : stop.received());
    environment.finalize(*world);
    return kExitSignalBase + (signal != 0 ? signal : stop.received());
  }
  environment.finalize(*world);
  if (!first) return kExitDone;
  report.update();
  const Trial* best = report.best();
  if (!best)
    throw UserError("all {} trials failed; {} says why of the first.", trials.size(), trials.front().failure_file().string());
  report.write_best(*best);
  fmt::print("best of {}: {}: {}: valid {} {:.4f}; options in {}\n", trials.size(), best->name, best->text(),
             options.valid_metric, *best->valid(), (tune_folder(options) / "best.yaml").string());
  return kExitDone;
}

}  // namespace gru4rec

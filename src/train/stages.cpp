#include "gru4rec/train/stages.h"

#include <algorithm>

namespace gru4rec {
namespace {

Options in_folder(Options options, const std::string& folder) {
  options.run_dir = folder;
  options.checkpoint_dir = folder + "/checkpoints";
  return options;
}

Options without_adaptation(Options options) {
  const Options defaults;
  options.adapt_fraction = defaults.adapt_fraction;
  options.adapt_epochs = defaults.adapt_epochs;
  options.adapt_learning_rate = defaults.adapt_learning_rate;
  return options;
}

Options teacher_of(const Options& run) {
  Options teacher = in_folder(run, run.run_dir + "/teacher");
  teacher.direction = Direction::backward;
  teacher.loss_type = LossType::ce;
  teacher.teacher.clear();
  if (teacher.freeze_item_embeddings && !teacher.init_from.empty()) teacher.item_embeddings_from = teacher.init_from;
  teacher.init_from.clear();  // weights of a model that reads forward
  return teacher;
}

// The loss, the batches and the schedule are those of the run, over epochs of its own.
Options adaptation_of(const Options& run, const Options& wanted) {
  Options adapted = in_folder(run, run.run_dir + "/adapted");
  adapted.recent_fraction = wanted.adapt_fraction;
  adapted.epochs = wanted.adapt_epochs;
  adapted.learning_rate = wanted.adapt_learning_rate;
  adapted.warmup_steps = 0;                                     // the weights are warm
  adapted.eval_step = std::min(run.eval_step, adapted.epochs);  // at least once, if at all
  adapted.init_from.clear();
  adapted.item_embeddings_from.clear();
  return adapted;
}

}  // namespace

std::vector<Stage> stages_of(const Options& options) {
  Options run = without_adaptation(options);
  std::vector<Stage> stages;
  if (options.teacher == "auto") {
    stages.push_back({.name = "teacher", .options = teacher_of(run)});
    run.teacher = stages.back().options.run_dir;
  }
  stages.push_back({.name = "training", .options = run});
  if (options.adapt_fraction > 0)
    stages.push_back({.name = "adaptation", .options = adaptation_of(run, options), .continues = true});
  return stages;
}

}  // namespace gru4rec

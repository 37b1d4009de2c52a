#include "gru4rec/base/config.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <functional>
#include <iterator>
#include <set>

#include "gru4rec/base/error.h"
#include "gru4rec/base/option_table.h"
#include "gru4rec/base/text.h"
#include "option_codecs.h"

namespace gru4rec {
namespace {

// Options that are being read, with everything that is wrong with them and everything worth a warning.
struct Reading {
  Options options;
  std::vector<std::string> errors = {};
  std::vector<std::string> warnings = {};
  bool split_given = false;      // eval_args was set, so its split is meant
  bool negatives_given = false;  // train_neg_sample_args was set
};

void apply_recbole_key(const RecBoleKey& key, const YAML::Node& node, const std::string& place, Reading& reading) {
  switch (key.treatment) {
    case RecBoleKey::Treatment::ignored:
      reading.warnings.push_back(fmt::format("option '{}' ({}) of RecBole has no effect here: {}", key.key, place, key.reason));
      return;
    case RecBoleKey::Treatment::refused: {
      const std::string value = codecs::is_none(node) ? "None" : node.IsScalar() ? node.Scalar() : codecs::shown(node);
      if (std::ranges::any_of(key.harmless, [&](const std::string& harmless) { return lower(harmless) == lower(value); }))
        return;
      reading.errors.push_back(fmt::format("option '{}' ({}): {} is not possible: {}. Leave it out.", key.key, place,
                                           codecs::shown(node), key.reason));
      return;
    }
    case RecBoleKey::Treatment::translated:
      try {
        key.translate(node, reading.options);
      } catch (const BadValue& bad) {
        reading.errors.push_back(
            fmt::format("option '{}' ({}): got {}, wanted {}.", key.key, place, codecs::shown(node), bad.what()));
      }
  }
}

void apply(const std::string& key, const YAML::Node& node, const std::string& place, Reading& reading) {
  if (const OptionRow* row = find_option(key)) {
    if (key == "eval_args") reading.split_given = true;
    if (key == "train_neg_sample_args") reading.negatives_given = true;
    try {
      row->codec.read(node, reading.options);
    } catch (const BadValue& bad) {
      const std::string wanted = *bad.what() != '\0' ? bad.what() : row->codec.wanted;
      reading.errors.push_back(fmt::format("option '{}' ({}): got {}, wanted {}.", key, place, codecs::shown(node), wanted));
    } catch (const YAML::Exception& bad) {
      reading.errors.push_back(
          fmt::format("option '{}' ({}): got {}, wanted {}.", key, place, codecs::shown(node), row->codec.wanted));
    }
    return;
  }
  if (const RecBoleKey* recbole = find_recbole_key(key)) return apply_recbole_key(*recbole, node, place, reading);
  const std::string nearest = nearest_key(key);
  reading.errors.push_back(
      fmt::format("unknown option '{}' ({}){}", key, place,
                  nearest.empty() ? ". See gru4rec help for the list." : fmt::format("; did you mean '{}'?", nearest)));
}

void apply_document(const YAML::Node& document, const std::string& name, Reading& reading) {
  if (document.IsNull()) return;
  if (!document.IsMap()) {
    reading.errors.push_back(fmt::format("{} is not a list of 'key: value' lines.", name));
    return;
  }
  std::set<std::string> seen;
  for (const auto& entry : document) {
    const std::string place = fmt::format("{}:{}", name, entry.first.Mark().line + 1);
    if (!entry.first.IsScalar()) {
      reading.errors.push_back(fmt::format("{}: the key is not a word.", place));
      continue;
    }
    const std::string& key = entry.first.Scalar();
    if (!seen.insert(key).second)
      reading.errors.push_back(fmt::format("option '{}' ({}) was given before in this file. Keep one.", key, place));
    apply(key, entry.second, place, reading);
  }
}

void apply_file(const std::filesystem::path& path, Reading& reading) {
  if (std::filesystem::is_directory(path)) {
    reading.errors.push_back(fmt::format("the configuration {} is a folder. Pass a YAML file to --config.", path.string()));
    return;
  }
  try {
    apply_document(YAML::LoadFile(path.string()), path.string(), reading);
  } catch (const YAML::BadFile&) {
    reading.errors.push_back(
        fmt::format("cannot read the configuration {}. Check the path and its permissions.", path.string()));
  } catch (const YAML::Exception& bad) {
    reading.errors.push_back(
        fmt::format("{}:{}: not YAML: {}. Text that begins with a bracket and is no list, such as \"[5,inf)\", needs quotes.",
                    path.string(), bad.mark.line + 1, bad.msg));
  }
}

void apply_override(const Override& override, Reading& reading) {
  const OptionRow* row = find_option(override.key);
  YAML::Node node(override.value);
  if (!row || !row->codec.is_text) node = codecs::parsed(override.value);
  apply(override.key, node, override.place, reading);
}

// Separate files are a split of their own; another split that was asked for contradicts them.
void settle_split(Reading& reading) {
  Options& options = reading.options;
  const bool separate = !options.benchmark_filename.empty() || !options.valid_file.empty() || !options.test_file.empty();
  if (!separate || options.split.kind == SplitKind::files) return;
  if (reading.split_given)
    reading.errors.push_back(
        "option 'eval_args' splits the data, but valid_file, test_file or benchmark_filename give the parts. Set its split to "
        "{'files': 'given'}, or leave the files out.");
  options.split = {};
  options.split.kind = SplitKind::files;
}

// Unset, train_neg_sample_args is what the loss needs; set, it must not contradict it.
void settle_negatives(Reading& reading) {
  NegativeSampling& negatives = reading.options.train_neg_sample_args;
  const bool some = negatives.distribution != NegativeDistribution::none, bpr = reading.options.loss_type == LossType::bpr;
  if (bpr && !some && !reading.negatives_given)
    negatives.distribution = NegativeDistribution::uniform;
  else if (bpr && !some)
    reading.errors.push_back(
        "option 'train_neg_sample_args': loss_type BPR compares with negatives, None draws none. Leave it out, or set it to "
        "{'distribution': 'uniform', 'sample_num': 1}.");
  else if (some && reading.options.loss_type == LossType::ce)
    reading.errors.push_back(
        "option 'train_neg_sample_args': loss_type CE compares with the whole catalogue and samples no negatives. Leave it "
        "out, "
        "set it to None, or set loss_type to BPR.");
  else if (some && !bpr)
    reading.errors.push_back(
        "option 'train_neg_sample_args' draws negatives for each target, which only loss_type BPR has; the other losses share "
        "n_sample negatives, or have none. Leave it out.");
}

// The losses of predicted item embeddings compare cosines, and one of them wants embeddings that stay.
void check_cosine_losses(const Options& options, std::vector<std::string>& errors) {
  const bool embedding = options.loss_type == LossType::cosine_embedding;
  if (!embedding && options.loss_type != LossType::cosine_ranking) return;
  const char* name = embedding ? "cosine_embedding" : "cosine_ranking";
  if (options.score != ScoreKind::cosine)
    errors.push_back(fmt::format(
        "option 'score': got dot, loss_type {} wants cosine: what it learns says nothing of lengths. Set score to cosine.",
        name));
  if (options.learn_score_scale)
    errors.push_back(
        fmt::format("option 'learn_score_scale': loss_type {} is of cosines without a scale. Leave it out.", name));
  if (embedding && !options.freeze_item_embeddings)
    errors.push_back(
        "option 'freeze_item_embeddings': got False, loss_type cosine_embedding wants True: item embeddings that move would "
        "become all alike. Set it, with a trained run as item_embeddings_from, or set loss_type to cosine_ranking.");
}

// What only several options together can be wrong about.
void check_together(const Options& options, std::vector<std::string>& errors) {
  const auto at = options.valid_metric.find('@');
  const std::string metric = options.valid_metric.substr(0, at);
  if (std::ranges::none_of(options.metrics, [&](const std::string& each) { return lower(each) == lower(metric); }) ||
      std::ranges::none_of(options.topk, [&](int64_t k) {
        return at != std::string::npos && std::to_string(k) == options.valid_metric.substr(at + 1);
      }))
    errors.push_back(
        fmt::format("option 'valid_metric': got '{}', which metrics [{}] and topk [{}] do not report. Add it there.",
                    options.valid_metric, fmt::join(options.metrics, ", "), fmt::join(options.topk, ", ")));
  if (options.learn_score_scale && options.score == ScoreKind::dot)
    errors.push_back("option 'learn_score_scale': dot products have no scale. Set score to cosine, or leave it out.");
  if (!options.dense_layer && options.embedding_size != options.hidden_size)
    errors.push_back(fmt::format(
        "option 'dense_layer': got False with embedding_size {} and hidden_size {}, wanted the two to be equal: the "
        "state is compared with the items themselves. Make them equal, or leave dense_layer out.",
        options.embedding_size, options.hidden_size));
  check_cosine_losses(options, errors);
  if (!options.init_from.empty() && !options.item_embeddings_from.empty())
    errors.push_back(
        "options 'init_from' and 'item_embeddings_from' both say where the item embeddings come from: init_from takes all "
        "weights. Leave one out.");
  if (!options.teacher.empty() && options.loss_type != LossType::ce)
    errors.push_back(
        "option 'teacher' goes with loss_type CE: a teacher's distribution is over the whole catalogue. Leave one out.");
  if (!options.teacher.empty() && options.direction == Direction::backward)
    errors.push_back(
        "options 'teacher' and 'direction: backward' contradict each other: the teacher reads backward, its student forward.");
  if (options.augmentation == Augmentation::prefixes && (!options.teacher.empty() || options.direction == Direction::backward))
    errors.push_back(
        "option 'augmentation': prefixes end at their target, so that a teacher sees no future. Set it to one_pass.");
  if (options.learning_rate_schedule == Schedule::plateau && options.eval_step == 0)
    errors.push_back(
        "option 'learning_rate_schedule': got plateau with eval_step 0, wanted evaluations that say when to lower the rate. "
        "Set eval_step to 1 or more, or learning_rate_schedule to constant or cosine.");
  if (options.gpu_sum == GpuSum::nccl && options.device == DeviceKind::cpu)
    errors.push_back(
        "option 'gpu_sum': got nccl with device cpu, wanted device cuda: NCCL adds what GPUs made. Set device to cuda, or "
        "leave "
        "gpu_sum out.");
  if (options.teacher == "auto" && options.epochs == 0)
    errors.push_back(
        "option 'teacher': auto trains a teacher for as many epochs as its student, and epochs is 0. Raise epochs.");
  if (options.adapt_fraction > 0 && options.epochs == 0)
    errors.push_back(
        "option 'adapt_fraction' goes on from what was trained, and epochs is 0. Raise epochs, or adapt another run with "
        "init_from and recent_fraction.");
  if (!options.benchmark_filename.empty() && !options.train_file.empty())
    errors.push_back("options 'benchmark_filename' and 'train_file' both name the training data. Leave one out.");
  if (options.train_file.empty() && !(options.test_file.empty() && options.valid_file.empty()))
    errors.push_back("options 'test_file' and 'valid_file' go with 'train_file', which is not given. Add it.");
}

[[noreturn]] void refuse(const std::vector<std::string>& errors) {
  if (errors.size() == 1) throw UserError("{}", errors.front());
  throw UserError("{} errors in the configuration:\n  {}", errors.size(), fmt::join(errors, "\n  "));
}

// Whether a row changes what a run computes. Half a cosine is stretched over all epochs, so that these count as well.
bool changes_numbers(const OptionRow& row, const Options& options) {
  return row.affects_numbers || (row.key == "epochs" && options.learning_rate_schedule == Schedule::cosine);
}

std::string yaml_of(const Options& options, bool numbers_only, bool titles) {
  std::string text;
  Section section{};
  bool first = true;
  for (const OptionRow& row : option_table()) {
    if (numbers_only && !changes_numbers(row, options)) continue;
    if (titles && (first || row.section != section)) text += fmt::format("{}# {}\n", first ? "" : "\n", title_of(row.section));
    first = false;
    section = row.section;
    text += fmt::format("{}: {}\n", row.key, row.codec.write(options));
  }
  return text;
}

}  // namespace

Options resolve_paths(Options options) {
  if (options.store.empty()) options.store = "store/" + options.dataset;
  if (options.run_dir.empty()) options.run_dir = "runs/" + options.dataset;
  if (options.checkpoint_dir.empty()) options.checkpoint_dir = options.run_dir + "/checkpoints";
  return options;
}

Configuration read_configuration(const std::vector<std::filesystem::path>& files, const std::vector<Override>& overrides,
                                 const Options& base) {
  Reading reading{.options = base};
  for (const auto& file : files) apply_file(file, reading);
  for (const Override& override : overrides) apply_override(override, reading);
  settle_split(reading);
  settle_negatives(reading);
  if (reading.errors.empty()) check_together(reading.options, reading.errors);
  if (!reading.errors.empty()) refuse(reading.errors);
  std::ranges::copy(idle_options(reading.options), std::back_inserter(reading.warnings));
  return {resolve_paths(reading.options), reading.warnings};
}

Options with_overrides(const Options& base, const std::vector<Override>& overrides) {
  Reading reading{.options = base};
  for (const Override& override : overrides) apply_override(override, reading);
  if (!reading.errors.empty()) refuse(reading.errors);
  return reading.options;
}

std::string to_yaml(const Options& options) { return yaml_of(options, false, true); }
std::string numbers_to_yaml(const Options& options) { return yaml_of(options, true, false); }

Options options_from_yaml(const std::string& text, const std::string& name, const Options& base) {
  Reading reading{.options = base};
  try {
    apply_document(YAML::Load(text), name, reading);
  } catch (const YAML::Exception& bad) {
    reading.errors.push_back(fmt::format("{}:{}: not YAML: {}.", name, bad.mark.line + 1, bad.msg));
  }
  if (!reading.errors.empty()) refuse(reading.errors);
  return reading.options;
}

namespace {

std::vector<std::string> differences_of(const Options& before, const Options& now,
                                        const std::function<bool(const OptionRow&)>& concerned) {
  std::vector<std::string> lines;
  for (const OptionRow& row : option_table()) {
    if (!concerned(row)) continue;
    const std::string a = row.codec.write(before), b = row.codec.write(now);
    if (a != b) lines.push_back(fmt::format("{}: {} → {}", row.key, a, b));
  }
  return lines;
}

}  // namespace

std::vector<std::string> differences(const Options& before, const Options& now, bool numbers_only) {
  return differences_of(before, now, [&](const OptionRow& row) {
    return !numbers_only || changes_numbers(row, before) || changes_numbers(row, now);
  });
}

std::vector<std::string> data_differences(const Options& before, const Options& now, bool only_set) {
  static const std::set<std::string> files = {"dataset",    "data_path",       "train_file",
                                              "valid_file", "test_file",       "benchmark_filename",
                                              "store",      "field_separator", "shards"};
  return differences_of(before, now, [&](const OptionRow& row) {
    if (row.section != Section::data || files.contains(row.key)) return false;
    return !only_set || row.codec.write(now) != row.default_text();
  });
}

std::string options_text(const Options& options) {
  std::string text;
  const Options defaults = resolve_paths({});
  for (const OptionRow& row : option_table()) {
    const std::string value = row.codec.write(options);
    text += fmt::format("  {} {:<26} {}\n", value == row.codec.write(defaults) ? ' ' : '*', row.key, value);
  }
  return text + "  (* not at its default)";
}

}  // namespace gru4rec

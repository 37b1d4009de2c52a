// What becomes of RecBole's keys that are no options here.
#include <fmt/format.h>

#include "option_codecs.h"

namespace gru4rec {
namespace {

using Treatment = RecBoleKey::Treatment;
constexpr const char* kOverall = "overall.yaml";
constexpr const char* kSample = "sample.yaml";
constexpr const char* kCommandLine = "run_recbole.py";
constexpr const char* kOlder = "older versions";

void set_negatives(const YAML::Node& node, Options& options) { options.train_neg_sample_args = codecs::read_negatives(node); }

void set_log_level(const YAML::Node& node, Options& options) {
  static const std::vector<std::pair<std::string, std::string>> levels = {
      {"DEBUG", "debug"}, {"INFO", "info"}, {"WARNING", "warning"}, {"ERROR", "error"}, {"CRITICAL", "error"}};
  for (const auto& [state, level] : levels) {
    if (node.IsScalar() && node.Scalar() == state) {
      options.log_level = level;
      return;
    }
  }
  throw BadValue("DEBUG, INFO, WARNING, ERROR or CRITICAL");
}

void set_deterministic(const YAML::Node& node, Options& options) {
  try {
    options.deterministic = codecs::read_bool(node) ? "strict" : "relaxed";
  } catch (const BadValue&) {
    throw BadValue("True or False");
  }
}

void check_model(const YAML::Node& node, Options&) {
  if (!node.IsScalar() || node.Scalar() != "GRU4Rec") throw BadValue("GRU4Rec, the one model of this program");
}

void add_general(std::vector<RecBoleKey>& keys) {
  const auto ignored = [&](const char* key, const char* reason) {
    keys.push_back({key, kOverall, Treatment::ignored, {}, reason});
  };
  const auto refused = [&](const char* key, std::vector<std::string> harmless, const char* reason) {
    keys.push_back({key, kOverall, Treatment::refused, std::move(harmless), reason});
  };
  const auto translated = [&](const char* key, const char* reason, auto translate) {
    keys.push_back({key, kOverall, Treatment::translated, {}, reason, translate});
  };
  ignored("gpu_id", "the ranks of a host take its GPUs in turn; CUDA_VISIBLE_DEVICES says which there are");
  ignored("worker", "batches are packed by the rank that uses them, by a second thread where batches_ahead says so");
  ignored("use_gpu", "the option device says what computes");
  translated("state", "sets log_level", set_log_level);
  translated("reproducibility", "True sets deterministic to strict, False to relaxed", set_deterministic);
  ignored("save_dataset", "ingest always writes a session store");
  ignored("dataset_save_path", "the session store lies where the option store says");
  ignored("save_dataloaders", "train reads the session store itself");
  ignored("dataloaders_save_path", "train reads the session store itself");
  ignored("log_wandb", "metrics go to RUN_DIR/metrics.jsonl and to TensorBoard's files in RUN_DIR/tensorboard");
  ignored("wandb_project", "metrics go to RUN_DIR/metrics.jsonl");
  refused("shuffle", {"True"}, "each epoch is shuffled, and no other order is implemented");
  ignored("loss_decimal_place", "losses are printed with four decimals and written to metrics.jsonl in full");
  ignored("require_pow", "it belongs to a regulariser that GRU4Rec does not have");
  refused("enable_amp", {"False"}, "float16 is not computed; precision: bf16 multiplies in half the bits");
  refused("enable_scaler", {"False"}, "neither fp32 nor bf16 needs its losses scaled");
  refused("transform", {"None"}, "no transformation of item lists is implemented");
  refused("repeatable", {"True"}, "items of the history stay among the candidates, as in RecBole's runs of sequential models");
  refused("valid_metric_bigger", {"True"}, "a larger value is better for each of the metrics");
}

void add_dataset(std::vector<RecBoleKey>& keys) {
  const auto ignored = [&](const char* key, const char* reason) {
    keys.push_back({key, kSample, Treatment::ignored, {}, reason});
  };
  const char* const other_columns = "only the columns of the *_FIELD options and of val_interval are read";
  const char* const no_labels = "every event is a positive one; val_interval drops those that are not";
  const char* const no_graph = "GRU4Rec uses no knowledge graph";
  const char* const internal = "sequences are not stored as extra columns";
  const char* const one_index = "only items and sessions are numbered, each by themselves";
  for (const char* key : {"seq_separator", "RATING_FIELD", "seq_len", "numerical_features", "load_col", "unload_col",
                          "unused_col", "additional_feat_suffix"})
    ignored(key, other_columns);
  for (const char* key : {"LABEL_FIELD", "threshold"}) ignored(key, no_labels);
  ignored("NEG_PREFIX", internal);
  ignored("filter_inter_by_user_or_item", "only the file of events is read, no .user or .item file");
  for (const char* key : {"alias_of_user_id", "alias_of_item_id", "alias_of_entity_id", "alias_of_relation_id"})
    ignored(key, one_index);
  keys.push_back({"preload_weight",
                  kSample,
                  Treatment::refused,
                  {"None"},
                  "item_embeddings_from takes the item vectors of a checkpoint or of a .pth file"});
  for (const char* key : {"normalize_field", "normalize_all"})
    ignored(key, "values are used as they stand; the order that RecBole's normalised times give is time_order: recbole");
  ignored("discretization", other_columns);
  for (const char* key : {"ITEM_LIST_LENGTH_FIELD", "LIST_SUFFIX", "POSITION_FIELD"}) ignored(key, internal);
  for (const char* key : {"HEAD_ENTITY_ID_FIELD", "TAIL_ENTITY_ID_FIELD", "RELATION_ID_FIELD", "ENTITY_ID_FIELD",
                          "kg_reverse_r", "entity_kg_num_interval", "relation_kg_num_interval"})
    ignored(key, no_graph);
}

void add_others(std::vector<RecBoleKey>& keys) {
  keys.push_back({"model", kCommandLine, Treatment::translated, {}, "GRU4Rec is the one model", check_model});
  for (const char* key : {"nproc", "world_size", "ip", "port", "group_offset"})
    keys.push_back({key, kCommandLine, Treatment::ignored, {}, "mpirun says how many processes run and where"});
  keys.push_back({"neg_sampling", kOlder, Treatment::translated, {}, "read as train_neg_sample_args", set_negatives});
  keys.push_back({"training_neg_sample_num", kOlder, Treatment::refused, {"0", "None"}, "train_neg_sample_args says how many"});
}

}  // namespace

const std::vector<RecBoleKey>& recbole_keys() {
  static const std::vector<RecBoleKey> table = [] {
    std::vector<RecBoleKey> keys;
    add_general(keys);
    add_dataset(keys);
    add_others(keys);
    return keys;
  }();
  return table;
}

const RecBoleKey* find_recbole_key(std::string_view key) {
  for (const RecBoleKey& each : recbole_keys())
    if (each.key == key) return &each;
  return nullptr;
}

}  // namespace gru4rec

#include "results.h"

#include <algorithm>

#include "gru4rec/base/text.h"

namespace gru4rec {
namespace {

// What every result has, whatever topk and metrics say.
const std::vector<std::string> kAlways = {"recall@20", "mrr@20"};

// Metrics by name, rounded as they are printed.
nlohmann::json metrics_json(const RankHistogram& histogram, const Options& options) {
  nlohmann::json values = compute_metrics(histogram, options.metrics, options.topk);
  for (const std::string& name : kAlways) values[name] = compute_metric(histogram, name);
  for (auto& [name, value] : values.items()) value = round_decimal(value.get<double>(), options.metric_decimal_place);
  return values;
}

}  // namespace

std::string metrics_text(const RankHistogram& histogram, const Options& options, const std::vector<std::string>& names) {
  std::string text;
  std::vector<std::string> written;
  for (const std::string& any_case : names) {
    const std::string name = lower(any_case);
    if (std::find(written.begin(), written.end(), name) != written.end()) continue;
    text += fmt::format("{}{} {:.{}f}", text.empty() ? "" : "  ", name, compute_metric(histogram, name),
                        options.metric_decimal_place);
    written.push_back(name);
  }
  return text;
}

std::string split_text(const std::string& split, const RankHistogram& histogram, const Options& options) {
  std::vector<std::string> names = kAlways;
  for (const std::string& metric : options.metrics)
    for (int64_t k : options.topk) names.push_back(fmt::format("{}@{}", metric, k));
  return fmt::format("{}: {}", split, metrics_text(histogram, options, names));
}

std::string result_text(const Outcome& outcome, const Options& options) {
  if (outcome.test) return split_text("test", *outcome.test, options);
  if (outcome.valid) return split_text("valid", *outcome.valid, options);
  return "trained; the store has neither valid nor test targets";
}

nlohmann::json result_json(const Outcome& outcome, const Options& options, int64_t replicas, int world_size) {
  nlohmann::json result = {{"epochs", outcome.epochs},
                           {"train_seconds", outcome.train_seconds},
                           {"events_per_second", outcome.targets_per_second},
                           {"world_size", world_size},
                           {"replicas", replicas}};
  if (outcome.valid) {
    result["best_valid"] = metrics_json(*outcome.valid, options);
    result["best_valid_score"] = compute_metric(*outcome.valid, options.valid_metric);
  }
  if (outcome.test) result["test"] = metrics_json(*outcome.test, options);
  return result;
}

}  // namespace gru4rec

#include "gru4rec/eval/metrics.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "gru4rec/base/error.h"
#include "gru4rec/base/text.h"

namespace gru4rec {
namespace {

struct MetricName {
  std::string metric;
  int64_t k;
};

MetricName parse(const std::string& name) {
  const size_t at = name.find('@');
  MetricName result{lower(name.substr(0, at)), 0};
  if (at != std::string::npos) std::from_chars(name.data() + at + 1, name.data() + name.size(), result.k);
  if (result.k < 1) throw UserError("metric '{}' has no cut-off. Write it as NAME@K, for example MRR@10.", name);
  return result;
}

// Σ gain(rank) over the first k places, ÷ targets. Terms are added in the order of the places.
template <typename Gain>
double mean_gain(const RankHistogram& histogram, int64_t k, Gain gain) {
  if (k > static_cast<int64_t>(histogram.at.size()))
    throw BugError("a metric at {} was asked of a histogram that holds {} places", k, histogram.at.size());
  if (histogram.targets == 0) return 0;
  double sum = 0;
  for (int64_t rank = 1; rank <= k; ++rank) sum += static_cast<double>(histogram.at[rank - 1]) * gain(rank);
  return sum / static_cast<double>(histogram.targets);
}

}  // namespace

void RankHistogram::add(int64_t rank) {
  ++targets;
  if (rank >= 1 && rank <= static_cast<int64_t>(at.size())) ++at[rank - 1];
}

RankHistogram& RankHistogram::operator+=(const RankHistogram& other) {
  if (at.size() != other.at.size()) throw BugError("histograms of {} and {} places were added", at.size(), other.at.size());
  for (size_t i = 0; i < at.size(); ++i) at[i] += other.at[i];
  targets += other.targets;
  return *this;
}

double RankHistogram::recall(int64_t k) const {
  return mean_gain(*this, k, [](int64_t) { return 1.0; });
}
double RankHistogram::precision(int64_t k) const { return recall(k) / static_cast<double>(k); }
double RankHistogram::mrr(int64_t k) const {
  return mean_gain(*this, k, [](int64_t rank) { return 1.0 / static_cast<double>(rank); });
}
double RankHistogram::ndcg(int64_t k) const {
  return mean_gain(*this, k, [](int64_t rank) { return 1.0 / std::log2(static_cast<double>(rank) + 1.0); });
}

double compute_metric(const RankHistogram& histogram, const std::string& name) {
  const auto [metric, k] = parse(name);
  if (metric == "recall" || metric == "hit") return histogram.recall(k);
  if (metric == "precision") return histogram.precision(k);
  if (metric == "mrr") return histogram.mrr(k);
  if (metric == "ndcg") return histogram.ndcg(k);
  throw UserError("unknown metric '{}'. Known are Recall, Hit, Precision, MRR and NDCG.", name);
}

Metrics compute_metrics(const RankHistogram& histogram, std::span<const std::string> metrics, std::span<const int64_t> topk) {
  Metrics values;
  for (const std::string& metric : metrics) {
    for (int64_t k : topk) {
      const std::string name = fmt::format("{}@{}", lower(metric), k);
      values[name] = compute_metric(histogram, name);
    }
  }
  return values;
}

int64_t largest_k(std::span<const int64_t> topk, const std::string& valid_metric) {
  int64_t largest = std::max<int64_t>(20, parse(valid_metric).k);
  for (int64_t k : topk) largest = std::max(largest, k);
  return largest;
}

}  // namespace gru4rec

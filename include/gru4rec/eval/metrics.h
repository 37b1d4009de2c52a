// Ranking metrics out of an integer histogram. Integers travel between ranks, averages are made at the end, once.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace gru4rec {

// How often a target came at each place of the ranking. Local.
struct RankHistogram {
  explicit RankHistogram(int64_t max_k = 0) : at(static_cast<size_t>(max_k)) {}

  std::vector<int64_t> at;  // at[r - 1]: targets ranked r-th, r = 1…max_k
  int64_t targets = 0;      // all of them, misses included

  // rank >= 1; 0 stands for a target that is not in the catalogue.
  void add(int64_t rank);
  RankHistogram& operator+=(const RankHistogram& other);  // BugError if max_k differs

  // One relevant item a target, as in RecBole (recbole/evaluator/metrics.py):
  double recall(int64_t k) const;     // targets ranked in the first k; the same as hit
  double precision(int64_t k) const;  // recall / k
  double mrr(int64_t k) const;        // mean of 1/rank, 0 beyond k
  double ndcg(int64_t k) const;       // mean of 1/log2(rank + 1), 0 beyond k (the ideal DCG is 1)
};

// Values by lower-case name: "recall@20".
using Metrics = std::map<std::string, double>;

// All `metrics` (Recall, MRR, NDCG, Hit, Precision; any case) at all `topk`.
Metrics compute_metrics(const RankHistogram& histogram, std::span<const std::string> metrics, std::span<const int64_t> topk);

// One metric by name, "MRR@10"; the name's case does not matter. UserError if there is no such metric.
double compute_metric(const RankHistogram& histogram, const std::string& name);

// Largest k that any of the names and `topk` need, and at least 20, which every result shows.
int64_t largest_k(std::span<const int64_t> topk, const std::string& valid_metric);

}  // namespace gru4rec

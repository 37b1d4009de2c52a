#include "gru4rec/serve/recommender.h"

#include <ATen/ops/mm.h>

#include <algorithm>
#include <bit>
#include <limits>
#include <numeric>

#include "gru4rec/base/error.h"
#include "gru4rec/model/table_blocks.h"

namespace gru4rec {
namespace {

constexpr int64_t kQueriesAtOnce = 256;  // against a block of the table: 4 MiB of scores

bool better(const ScoredItem& a, const ScoredItem& b) { return a.score != b.score ? a.score > b.score : a.item < b.item; }

// The k best of the scores it is offered, in the order of ids. Keeps up to 2k candidates; when there are as many, the k best of
// them stay and the worst of those is what others must exceed.
class BestItems {
 public:
  BestItems(const SessionQuery& query, int64_t items)
      : k_(static_cast<size_t>(std::min(query.k, items))), excluded_(query.excluded) {
    std::sort(excluded_.begin(), excluded_.end());
  }

  // scores[i] is that of item first + i. False: one of them is NaN or infinite.
  bool offer(const float* scores, int64_t first, int64_t count) {
    constexpr int64_t kTile = 64;
    constexpr uint32_t kExponent = 0x7f800000;
    for (int64_t begin = 0; begin < count; begin += kTile) {
      const int64_t end = std::min(begin + kTile, count);
      uint32_t above = 0, non_finite = 0;
      for (int64_t i = begin; i < end; ++i) {  // most tiles have none: this loop has no branches
        above |= scores[i] > floor_;
        non_finite |= (std::bit_cast<uint32_t>(scores[i]) & kExponent) == kExponent;
      }
      if (non_finite) return false;
      if (!above) continue;
      for (int64_t i = begin; i < end; ++i)
        if (scores[i] > floor_) add({first + i, scores[i]});
    }
    return true;
  }

  std::vector<ScoredItem> take() {
    keep_best();
    std::sort(candidates_.begin(), candidates_.end(), better);
    return std::move(candidates_);
  }

 private:
  void add(const ScoredItem& candidate) {
    if (std::binary_search(excluded_.begin(), excluded_.end(), candidate.item)) return;
    candidates_.push_back(candidate);
    if (candidates_.size() >= 2 * k_) keep_best();
  }
  void keep_best() {
    if (candidates_.size() < k_) return;
    const auto worst = candidates_.begin() + static_cast<std::ptrdiff_t>(k_) - 1;
    std::nth_element(candidates_.begin(), worst, candidates_.end(), better);
    candidates_.resize(k_);
    floor_ = candidates_.back().score;  // later items have higher ids: an equal score comes too late
  }

  size_t k_;
  std::vector<int64_t> excluded_;
  std::vector<ScoredItem> candidates_;
  float floor_ = -std::numeric_limits<float>::infinity();
};

// The sequences of queries as a packed batch, with a target after the last item of each. Returns which query each target
// belongs to.
std::vector<size_t> pack_queries(std::span<const SessionQuery> queries, Batch& batch) {
  for (const SessionQuery& query : queries)
    if (query.items.empty() || query.k < 1) throw BugError("a query of {} items for {}", query.items.size(), query.k);
  std::vector<size_t> order(queries.size());
  std::iota(order.begin(), order.end(), size_t{0});
  const auto length = [&](size_t query) { return queries[query].items.size(); };
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return length(a) > length(b); });
  batch.target_rows.resize(order.size());
  for (size_t step = 0; step < length(order.front()); ++step) {
    const int64_t first_row = batch.inputs();
    for (size_t s = 0; s < order.size() && length(order[s]) > step; ++s) {
      batch.target_rows[s] = batch.inputs();
      batch.items.push_back(queries[order[s]].items[step]);
    }
    batch.step_sizes.push_back(batch.inputs() - first_row);
  }
  batch.labels.resize(order.size());
  return order;
}

}  // namespace

std::vector<std::vector<ScoredItem>> Recommender::recommend(std::span<const SessionQuery> queries) const {
  std::vector<std::vector<ScoredItem>> lists(queries.size());
  if (queries.empty()) return lists;
  Batch batch;
  const std::vector<size_t> order = pack_queries(queries, batch);
  const at::Tensor vectors = scorer_.queries(batch), &table = scorer_.table();
  for (int64_t first = 0; first < vectors.size(0); first += kQueriesAtOnce) {
    const int64_t some = std::min(kQueriesAtOnce, vectors.size(0) - first);
    std::vector<BestItems> best;
    for (int64_t i = 0; i < some; ++i) best.emplace_back(queries[order[first + i]], table.size(0));
    for (int64_t block = 0; block < block_count(table.size(0)); ++block) {
      RowRange rows = block_rows(block, table.size(0));
      if (block == 0) rows.first = 1;  // the padding row is no item
      const at::Tensor scores =
          at::mm(vectors.narrow(0, first, some), table.narrow(0, rows.first, rows.size()).t()).contiguous();
      for (int64_t i = 0; i < some; ++i) {
        if (!best[i].offer(scores.const_data_ptr<float>() + i * rows.size(), rows.first, rows.size()))
          throw SurroundingsError(
              "a score is NaN or infinite (rows {}…{} of the item table). The model has diverged: take an earlier checkpoint.",
              rows.first, rows.last - 1);
      }
    }
    for (int64_t i = 0; i < some; ++i) lists[order[first + i]] = best[i].take();
  }
  return lists;
}

}  // namespace gru4rec

// The best next items of sessions: the scores of an evaluation (fp32, without dropout), partly sorted. Local; one thread.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "gru4rec/model/gru4rec.h"

namespace gru4rec {

struct SessionQuery {
  std::vector<int64_t> items;     // ids 1…catalogue in time order, all of which the model reads; not empty
  std::vector<int64_t> excluded;  // ids that shall not be recommended, in any order
  int64_t k = 20;                 // how many at most
};

struct ScoredItem {
  int64_t item;  // id
  float score;
  bool operator==(const ScoredItem&) const = default;
};

//   Recommender recommender(model);
//   std::vector<std::vector<ScoredItem>> lists = recommender.recommend(queries);
class Recommender {
 public:
  // The model must outlive this and stay as it is.
  explicit Recommender(const Gru4Rec& model) : scorer_(model) {}

  // A list for each query, highest score first, equal scores by id; shorter than k where no more items are left.
  // Memory: the scores of at most 256 queries against a block of the table at a time. The queries are one batch, whose size may
  // change the last bits of a score.
  // Throws SurroundingsError if a score is NaN or infinite.
  std::vector<std::vector<ScoredItem>> recommend(std::span<const SessionQuery> queries) const;

 private:
  Scorer scorer_;
};

}  // namespace gru4rec

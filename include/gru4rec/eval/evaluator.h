// Full-ranking evaluation, divided over ranks: every rank scores its tiles against all items, integer histograms meet.
//
// The sessions of a split are cut into fixed tiles of about 256 targets by session index, and whole tiles are dealt to ranks
// as contiguous ranges. A tile is packed and scored alone, so its scores do not depend on who scores it, on how many ranks
// there are, or on eval_batch_size.
//
// The rank of a target is 1 + the number of other items that are *not scored below* it; ties count against us. The padding
// row is no item. History is not masked. A target that is not in the catalogue is a miss.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "gru4rec/comm/communicator.h"
#include "gru4rec/data/batch.h"
#include "gru4rec/data/store.h"
#include "gru4rec/eval/metrics.h"
#include "gru4rec/model/gru4rec.h"

namespace gru4rec {

enum class Split { valid, test };

struct EvaluatorOptions {
  uint32_t max_length = 50;  // events a leave_one_out target sees
  int64_t max_k = 20;        // places of the histogram
  Direction direction = Direction::forward;
  int64_t batch_targets = 4096;  // targets read and packed ahead, between two calls of `progress`; memory, not results
  // [catalogue of the store + 1] of a model of another catalogue: its number of each item, or 0
  std::vector<uint32_t> numbers = {};
};

// The rank of one target.
struct TargetRank {
  uint64_t session;  // global index
  int64_t rank;      // 0: not in the catalogue
};

class Evaluator {
 public:
  // Reads the shapes of the store once; `store` must outlive the evaluator. Local.
  Evaluator(const Store& store, Split split, const EvaluatorOptions& options);

  // Called after each batch of tiles with the number of targets just done.
  void set_progress(std::function<void(int64_t targets)> progress) { progress_ = std::move(progress); }

  // Local: the part of rank `rank` of `world`. `each`, if set, is called for every target in order of tiles.
  RankHistogram run_part(const Gru4Rec& model, int rank, int world,
                         const std::function<void(const TargetRank&)>& each = {}) const;

  // Collective: every rank its part; all get the whole histogram. Throws SurroundingsError for a non-finite score on all ranks.
  RankHistogram run(const Gru4Rec& model, Communicator& comm) const;

  // Collective: the rank of every target, in store order, on rank 0; elsewhere empty.
  std::vector<TargetRank> ranks(const Gru4Rec& model, Communicator& comm) const;

  uint64_t targets() const { return targets_; }

 private:
  struct Tile {
    uint64_t first_session;
    uint64_t sessions;
    uint64_t targets;
  };
  std::vector<Segment> segments(const Tile& tile) const;

  const Store& store_;
  Split split_;
  EvaluatorOptions options_;
  std::vector<Tile> tiles_;
  uint64_t targets_ = 0;
  std::function<void(int64_t)> progress_;
};

// Ranks of the labels among rows 1…items of the table; one per query, 0 for label 0. queries [targets, E]. Throws Error if a
// score is NaN or infinite; queries and table are on one device. Local.
std::vector<int64_t> rank_targets(const at::Tensor& queries, const at::Tensor& table, const std::vector<int64_t>& labels);

}  // namespace gru4rec

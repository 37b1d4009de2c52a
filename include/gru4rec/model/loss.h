// The loss of a batch, given the vectors of its targets and a table of item vectors: one interface for the whole softmax and
// the sampled losses.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <span>

#include "gru4rec/base/options.h"
#include "gru4rec/data/batch.h"
#include "gru4rec/data/row_set.h"
#include "gru4rec/model/full_softmax.h"

namespace gru4rec {

// What the randomness of a step is keyed by, besides session and position.
struct StepKey {
  uint64_t seed = 0;
  uint64_t epoch = 0;
  int64_t step = 0;
};

// Local; const functions may be called by several threads.
class OutputLoss {
 public:
  virtual ~OutputLoss() = default;
  // queries [targets, E], table [items + 1, E]; the scores are their products. Adds to grad_table [items + 1, E]; undefined,
  // the table is constant and its gradient is not wanted. A pure function of its arguments: a batch divided into shares has the
  // same sum, whoever works on them.
  // `rows`, for losses that move few rows: `table` and `grad_table` are [rows->size(), E], those rows of the item table and no
  // others. `done`: may be called as rows of grad_table become final, before the loss is done.
  virtual SoftmaxLoss operator()(const at::Tensor& queries, const at::Tensor& table, const Batch& batch, const StepKey& key,
                                 at::Tensor& grad_table, const RowSet* rows = nullptr, const RowsDone& done = {}) const = 0;
  // The negatives of a batch in a step, for batch.negatives, so that they can be drawn before it, by another thread than the
  // one that works with the loss meanwhile. Where those are empty the loss draws them itself; nothing where it has none.
  virtual std::vector<int64_t> draw(const Batch& batch, const StepKey& key) const;
  // The only rows that can have a gradient from it. BugError unless moves_few_rows().
  virtual void name_rows(const Batch& batch, const StepKey& key, RowSet& rows) const;
  // Whether it makes cosines by itself, of the rows it needs: then it gets queries and table as they are, whatever the score,
  // and nothing is done for the whole catalogue.
  virtual bool makes_cosines() const { return false; }
};

// Whether only the rows of the table that it names can have a gradient from a loss of this type.
bool moves_few_rows(LossType type);

struct LossOptions {
  LossType type = LossType::ce;
  bool score_padding = true;              // CE: the padding row is a class
  NegativeSampling negatives = {};        // BPR: drawn for each target, keyed by (seed, epoch, session, position)
  int64_t n_sample = 2048;                // the others: shared by the targets of a step, keyed by (seed, step)
  double sample_alpha = 0.5;              // their probability is ∝ popularity^alpha
  bool logq_correction = true;            // sampled softmax
  double bpreg = 1.0;                     // λ of BPR-max
  double ranking_margin = 0.5;            // of cosine_ranking
  Precision precision = Precision::fp32;  // or bf16: of products with the table and with shared negatives

  bool needs_popularity() const;
};

// `popularity` [items + 1] as training_popularity() gives it where needs_popularity(), else only its length counts.
std::shared_ptr<const OutputLoss> make_loss(const LossOptions& options, std::span<const uint64_t> popularity);

}  // namespace gru4rec

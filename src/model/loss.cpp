#include "gru4rec/model/loss.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <cmath>
#include <span>
#include <vector>

#include "gru4rec/base/error.h"
#include "gru4rec/data/negatives.h"
#include "gru4rec/model/device.h"
#include "gru4rec/model/sampled_losses.h"

namespace gru4rec {
namespace {

using at::Tensor;

// Where the rows of these ids stand in a table: of all rows, or of those of a set.
Tensor places_of(const Tensor& ids, const RowSet* rows) {
  if (!rows) return ids;
  const Tensor places = at::empty(ids.sizes(), at::kLong);
  for (int64_t i = 0; i < ids.numel(); ++i) places.data_ptr<int64_t>()[i] = rows->place_of(ids.const_data_ptr<int64_t>()[i]);
  return places;
}

// On the device of `queries`, as all that a loss works with.
Tensor labels_of(const Batch& batch, const Tensor& queries, const RowSet* rows = nullptr) {
  const Tensor labels = at::from_blob(const_cast<int64_t*>(batch.labels.data()), {batch.targets()}, at::kLong);
  return uploaded(places_of(labels, rows), queries.device());
}
Tensor weights_of(const Batch& batch, const Tensor& queries) {
  return uploaded(at::tensor(batch.weights, at::kFloat), queries.device());
}

void refuse_rows(const RowSet* rows) {
  if (rows) throw BugError("a loss that moves the whole table was given {} rows of it", rows->size());
}

// Those of a batch, so many, drawn before or now.
class Negatives {
 public:
  Negatives(const OutputLoss& loss, const Batch& batch, const StepKey& key, int64_t count)
      : drawn_(batch.negatives.empty() ? loss.draw(batch, key) : std::vector<int64_t>()),
        items_(batch.negatives.empty() ? drawn_ : batch.negatives) {
    if (static_cast<int64_t>(items_.size()) != count)
      throw BugError("a batch has {} negatives, its loss wanted {}", items_.size(), count);
  }
  std::span<const int64_t> items() const { return items_; }
  Tensor tensor() const {  // valid as long as these
    return at::from_blob(const_cast<int64_t*>(items_.data()), {static_cast<int64_t>(items_.size())}, at::kLong);
  }

 private:
  const std::vector<int64_t> drawn_;
  const std::span<const int64_t> items_;
};

class FullSoftmax : public OutputLoss {
 public:
  FullSoftmax(bool score_padding, Precision precision) : score_padding_(score_padding), precision_(precision) {}
  SoftmaxLoss operator()(const Tensor& queries, const Tensor& table, const Batch& batch, const StepKey&, Tensor& grad_table,
                         const RowSet* rows, const RowsDone& done) const override {
    refuse_rows(rows);
    const SoftmaxOptions options{score_padding_, softmax_schedule(table.size(0), precision_), precision_};
    return softmax_cross_entropy(queries, table, labels_of(batch, queries), weights_of(batch, queries), options, grad_table,
                                 {0}, done);
  }

 private:
  bool score_padding_;
  Precision precision_;
};

class Bpr : public OutputLoss {
 public:
  Bpr(NegativeSampler sampler, int64_t each) : sampler_(std::move(sampler)), each_(each) {}
  SoftmaxLoss operator()(const Tensor& queries, const Tensor& table, const Batch& batch, const StepKey& key, Tensor& grad_table,
                         const RowSet* rows, const RowsDone&) const override {
    const Negatives drawn(*this, batch, key, batch.targets() * each_);
    const Tensor negatives = drawn.tensor().view({batch.targets(), each_});
    return bpr_loss(queries, table, labels_of(batch, queries, rows), uploaded(places_of(negatives, rows), queries.device()),
                    weights_of(batch, queries), grad_table);
  }
  // [targets · each]
  std::vector<int64_t> draw(const Batch& batch, const StepKey& key) const override {
    std::vector<int64_t> negatives;
    negatives.reserve(static_cast<size_t>(batch.targets() * each_));
    for (int64_t i = 0; i < batch.targets(); ++i) {
      const Stream stream{key.seed, Purpose::negatives, key.epoch, batch.sessions[i], batch.positions[i]};
      for (int64_t j = 0; j < each_; ++j)
        negatives.push_back(sampler_.draw_except(stream, static_cast<uint64_t>(j), batch.labels[i]));
    }
    return negatives;
  }
  void name_rows(const Batch& batch, const StepKey& key, RowSet& rows) const override {
    rows.add(batch.labels);
    rows.add(Negatives(*this, batch, key, batch.targets() * each_).items());
  }

 private:
  NegativeSampler sampler_;
  int64_t each_;
};

// The losses whose negatives all targets of a step share.
class SharedNegatives : public OutputLoss {
 public:
  SharedNegatives(const LossOptions& options, NegativeSampler sampler) : options_(options), sampler_(std::move(sampler)) {}
  SoftmaxLoss operator()(const Tensor& queries, const Tensor& table, const Batch& batch, const StepKey& key, Tensor& grad_table,
                         const RowSet* rows, const RowsDone&) const override {
    const Negatives drawn(*this, batch, key, options_.n_sample);
    const Tensor log_expected = at::zeros({options_.n_sample}, at::kFloat);
    for (int64_t j = 0; j < options_.n_sample && options_.logq_correction; ++j) {
      const double expected = static_cast<double>(options_.n_sample) * sampler_.probability(drawn.items()[j]);
      log_expected.data_ptr<float>()[j] = static_cast<float>(std::log(expected));
    }
    const Tensor negatives = uploaded(places_of(drawn.tensor(), rows), queries.device());
    const Tensor correction = uploaded(log_expected, queries.device());
    const Tensor labels = labels_of(batch, queries, rows), weights = weights_of(batch, queries);
    if (options_.type == LossType::bpr_max)
      return bpr_max_loss(queries, table, labels, negatives, options_.bpreg, weights, grad_table, options_.precision);
    if (options_.type == LossType::cosine_ranking)
      return cosine_ranking_loss(queries, table, labels, negatives, options_.ranking_margin, weights, grad_table,
                                 options_.precision);
    return sampled_softmax_loss(queries, table, labels, negatives, correction, weights, grad_table, options_.precision);
  }
  bool makes_cosines() const override { return options_.type == LossType::cosine_ranking; }
  void name_rows(const Batch& batch, const StepKey& key, RowSet& rows) const override {
    rows.add(batch.labels);
    rows.add(Negatives(*this, batch, key, options_.n_sample).items());
  }
  // [n_sample]
  std::vector<int64_t> draw(const Batch&, const StepKey& key) const override {
    const Stream stream{key.seed, Purpose::shared_negatives, static_cast<uint64_t>(key.step)};
    std::vector<int64_t> negatives;
    negatives.reserve(static_cast<size_t>(options_.n_sample));
    for (int64_t j = 0; j < options_.n_sample; ++j) negatives.push_back(sampler_.draw(stream, static_cast<uint64_t>(j)));
    return negatives;
  }

 private:
  LossOptions options_;
  NegativeSampler sampler_;
};

class CosineEmbedding : public OutputLoss {
 public:
  SoftmaxLoss operator()(const Tensor& queries, const Tensor& table, const Batch& batch, const StepKey&, Tensor& grad_table,
                         const RowSet* rows, const RowsDone&) const override {
    refuse_rows(rows);
    if (grad_table.defined()) throw BugError("the cosine embedding loss is for a table that is constant");
    return cosine_embedding_loss(queries, table, labels_of(batch, queries), weights_of(batch, queries));
  }
  bool makes_cosines() const override { return true; }
};

}  // namespace

bool moves_few_rows(LossType type) { return type != LossType::ce && type != LossType::cosine_embedding; }

std::vector<int64_t> OutputLoss::draw(const Batch&, const StepKey&) const { return {}; }

void OutputLoss::name_rows(const Batch&, const StepKey&, RowSet&) const {
  throw BugError("a loss that moves the whole table was asked which rows it moves");
}

bool LossOptions::needs_popularity() const {
  if (type == LossType::bpr) return negatives.distribution == NegativeDistribution::popularity;
  return moves_few_rows(type) && sample_alpha != 0;
}

std::shared_ptr<const OutputLoss> make_loss(const LossOptions& options, std::span<const uint64_t> popularity) {
  if (options.precision == Precision::automatic) throw BugError("the precision of a loss was left open");
  switch (options.type) {
    case LossType::ce:
      return std::make_shared<FullSoftmax>(options.score_padding, options.precision);
    case LossType::bpr: {
      const bool popular = options.negatives.distribution == NegativeDistribution::popularity;
      return std::make_shared<Bpr>(NegativeSampler(popularity, popular ? options.negatives.alpha : 0),
                                   options.negatives.sample_num);
    }
    case LossType::sampled_softmax:
    case LossType::bpr_max:
    case LossType::cosine_ranking:
      return std::make_shared<SharedNegatives>(options, NegativeSampler(popularity, options.sample_alpha));
    case LossType::cosine_embedding:
      return std::make_shared<CosineEmbedding>();
  }
  throw BugError("loss type {} is not known", static_cast<int>(options.type));
}

}  // namespace gru4rec

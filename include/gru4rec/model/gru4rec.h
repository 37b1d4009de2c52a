// The model: item embedding → dropout → GRU layers → (dropout) → dense → scores against the item table. RecBole's GRU4Rec to
// the letter (recbole/model/sequential_recommender/gru4rec.py of 1.2.1): one bias in `dense`, none in the GRU, scores without
// bias, dropout on the embedded input only, and a dense layer, unless output_dropout_prob or dense_layer say otherwise, which
// RecBole does not have. Hidasi et al. 2016; Tan, Xu, Liu 2016.
//
//   Gru4Rec model(shape);
//   model.initialise(seed);
//   LossSum loss = model.forward_backward(batch, {seed, epoch}, gradient);
//
// On a GPU (model/device.h) the flat buffer stays in the memory of the host, and a gradient that is handed in there: a step
// begins with a copy of the former to the device and ends with one of the latter back, and everything between is on the device.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "gru4rec/base/random.h"
#include "gru4rec/data/batch.h"
#include "gru4rec/model/loss.h"
#include "gru4rec/model/parameters.h"

namespace gru4rec {

// A loss is a sum and a count until the very end; nobody averages averages.
struct LossSum {
  double sum = 0;
  int64_t count = 0;
  LossSum& operator+=(const LossSum& other) {
    sum += other.sum;
    count += other.count;
    return *this;
  }
};

// Local; one thread. Holds parameters, no gradients and no optimizer state.
class Gru4Rec {
 public:
  // Called with each tensor between modules and its name ("gru_layers.0", "dense", …), and with each gradient ("dense.grad",
  // "dense.weight.grad", …): debug mode checks through it.
  using Probe = std::function<void(const std::string& name, const at::Tensor& tensor)>;

  // Parameters are zero until initialise() or a checkpoint fills them. `device`: where it computes.
  explicit Gru4Rec(const ModelShape& shape, at::Device device = at::kCPU);

  const ModelShape& shape() const { return shape_; }
  at::Device device() const { return device_; }
  const ParameterLayout& layout() const { return layout_; }
  std::span<float> parameters();  // the flat buffer
  // The flat buffer is in this memory from now on, [layout().parameter_floats()], which lives longer than the model; views of
  // the former one are void. On the CPU.
  void move_parameters(float* memory);
  std::span<const float> parameters() const;
  at::Tensor parameter(const std::string& name) const;  // view of the flat buffer

  // RecBole's initial values: xavier_normal over the whole table, row 0 included, unless its rows are wanted at unit length;
  // xavier_uniform for the GRU's layer 0 (on the stacked gates), torch's default for further layers; torch's default for dense.
  // Drawn from counter streams by row.
  void initialise(uint64_t seed, EmbeddingInit table = EmbeddingInit::xavier_normal);

  // Loss of a batch (sum over targets); adds its gradient to `gradient` [layout().gradient_floats()], or
  // [layout().gradient_floats(true)] where the table is constant: then none is made for it.
  // `loss`: for this batch, instead of the one that is set.
  // `rows`: of the inputs, all that the batch has, or more; of the output layer, for losses of few rows, all that it can move.
  // `gradient` is then one by rows, [layout().gradient_floats_by_rows(rows)], and its rows have the bits of those in one of the
  // whole table.
  LossSum forward_backward(const Batch& batch, const StepKey& key, std::span<float> gradient, const OutputLoss* loss = nullptr,
                           const GradientRows& rows = {});
  // The same; `gradient`, flat, may also be where the model computes, and is then not copied.
  // `done`: called with rising numbers while the rest of the gradient is still being made: of the output layer's gradient of
  // the table the first so many rows are final. Not for a batch without targets, for a constant table or where `gradient` is
  // copied.
  LossSum forward_backward(const Batch& batch, const StepKey& key, const at::Tensor& gradient, const OutputLoss* loss = nullptr,
                           const GradientRows& rows = {}, const RowsDone& done = {});

  // Those of a Scorer made now.
  at::Tensor queries(const Batch& batch) const;
  at::Tensor score_table() const;

  // Another loss than cross-entropy over all items.
  void set_loss(std::shared_ptr<const OutputLoss> loss) { loss_ = std::move(loss); }
  // Of the encoder's products in training, fp32 or bf16; the loss has its own. Scores for ranks are always in fp32.
  void set_precision(Precision precision) { precision_ = precision; }

  void set_probe(Probe probe) { probe_ = std::move(probe); }

 private:
  friend class Scorer;
  bool computes_apart() const;      // from the memory of the host
  at::Tensor working_copy() const;  // the flat buffer where the model computes: itself, or a copy made now
  at::Tensor parameter(const std::string& name, const at::Tensor& flat) const;  // view of `flat`
  at::Tensor embed(const Batch& batch, const at::Tensor& flat,
                   const at::Tensor& mask = {}) const;  // [inputs, E], times the mask
  // The loss of a batch; adds its gradient to `gradient`, which is where `flat` is.
  double add_gradient(const Batch& batch, const StepKey& key, const OutputLoss& loss_of, const at::Tensor& flat,
                      const at::Tensor& gradient, const GradientRows& rows, const RowsDone& done) const;
  // The loss of queries against the table; adds to the gradients of the table, if it has one, and of score_scale. grad_queries
  // is that of `queries`, whatever the score.
  SoftmaxLoss output_loss(const OutputLoss& loss_of, const at::Tensor& queries, const at::Tensor& flat, const Batch& batch,
                          const StepKey& key, const at::Tensor& gradient, const RowSet* rows, const RowsDone& done) const;
  bool table_is_constant(const at::Tensor& gradient) const;  // the gradient has no part for the table, which is constant
  double score_scale() const;
  std::vector<at::Tensor> state_masks(const Batch& batch, const StepKey& key) const;  // by layer
  std::vector<at::Tensor> encoder_weights(const at::Tensor& flat) const;  // views, in the order of the layout; or of a gradient
  void probe(const std::string& name, const at::Tensor& tensor) const;
  Probe shown() const;  // probe(), or nothing

  ModelShape shape_;
  ParameterLayout layout_;
  at::Device device_;
  at::Tensor flat_;  // [layout_.parameter_floats()], in the memory of the host
  std::shared_ptr<const OutputLoss> loss_;
  Precision precision_ = Precision::fp32;
  Probe probe_;
};

// What scores are products of, without dropout, with the parameters that the model has when this is made. While it lives they
// must not change, nor may the model move. Local.
class Scorer {
 public:
  explicit Scorer(const Gru4Rec& model);
  // The item table, or its rows at unit length for cosine scores; [items + 1, embedding].
  const at::Tensor& table() const { return table_; }
  // The vectors whose dot products with the rows of table() are the scores, [targets, embedding].
  at::Tensor queries(const Batch& batch) const;

 private:
  const Gru4Rec& model_;
  at::Tensor flat_, table_;
};

// Mask of inverted dropout for a batch: 0 or 1 / (1 - p); [inputs, size]. A pure function of purpose, key, session, segment and
// position.
at::Tensor dropout_mask(const Batch& batch, int64_t size, double p, Purpose purpose, const StepKey& key, uint64_t layer = 0);

}  // namespace gru4rec

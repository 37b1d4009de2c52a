#include "encoder.h"

#include <ATen/ops/addmm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>

#include <utility>

#include "gru4rec/base/error.h"
#include "gru4rec/model/device.h"
#include "gru4rec/model/row_kernels.h"
#include "gru4rec/model/table_rows.h"
#include "gru4rec/model/tensor_views.h"

namespace gru4rec {

using at::Tensor;

namespace {

// Whether the targets' rows are all rows in order, so that no gather is needed.
bool every_row_once(const Batch& batch) {
  if (batch.targets() != batch.inputs()) return false;
  for (int64_t i = 0; i < batch.targets(); ++i)
    if (batch.target_rows[i] != i) return false;
  return true;
}

}  // namespace

Encoder::Encoder(const ModelShape& shape, const Batch& batch, std::vector<Tensor> weights, std::vector<Tensor> masks,
                 Precision precision, Gru4Rec::Probe probe)
    : shape_(shape),
      batch_(batch),
      weights_(std::move(weights)),
      masks_(std::move(masks)),
      precision_(precision),
      probe_(std::move(probe)) {}

void Encoder::probe(const char* name, const Tensor& tensor) const {
  if (probe_) probe_(name, tensor);
}

void Encoder::probe_layer(const char* name, size_t layer, const Tensor& tensor) const {
  if (probe_) probe_(fmt::format(fmt::runtime(name), layer), tensor);
}

Tensor Encoder::queries(const Tensor& embedded, bool for_gradients) {
  layers_.clear();
  Tensor states = embedded;
  for (size_t layer = 0; layer < static_cast<size_t>(shape_.num_layers); ++layer) {
    GruTrace trace = gru_forward(states, batch_.step_sizes, weights_[2 * layer], weights_[2 * layer + 1], precision_);
    if (for_gradients) layers_.push_back({states, trace});
    states = trace.states;
    probe_layer("gru_layers.{}", layer, states);
    if (has_mask(layer)) {
      states = at::mul(states, masks_[layer]);
      probe_layer("dropout.{}", layer, states);
    }
  }
  target_states_ = rows_of_targets(states);
  if (!shape_.dense_layer) return target_states_;
  const Tensor &weight = weights_[weights_.size() - 2], &bias = weights_.back();
  const Tensor queries = at::addmm(bias, target_states_, weight.t());
  probe("dense", queries);
  return queries;
}

// A target may stand before the first input: a row of zeros.
Tensor Encoder::rows_of_targets(const Tensor& states) {
  target_rows_.reset();
  if (every_row_once(batch_)) return states;
  int64_t* rows = const_cast<int64_t*>(batch_.target_rows.data());
  target_rows_ = uploaded(at::from_blob(rows, {batch_.targets()}, at::kLong), states.device());
  const Tensor zero_state = at::zeros({1, shape_.hidden_size}, states.options());
  return rows_of_ids(at::cat({states, zero_state}), target_rows_);
}

Tensor Encoder::gradient_of_states(const Tensor& grad_of_targets) const {
  if (!target_rows_.defined()) return grad_of_targets;
  Tensor sums = at::zeros({batch_.inputs() + 1, shape_.hidden_size}, grad_of_targets.options());
  add_rows(grad_of_targets, target_rows_, sums);
  return rows_at(sums, 0, batch_.inputs());
}

Tensor Encoder::add_gradients(const Tensor& grad_queries, const std::vector<Tensor>& gradients, bool wants_embedded) const {
  if (layers_.size() != static_cast<size_t>(shape_.num_layers))
    throw BugError("gradients were asked of an encoder that kept the traces of {} of {} layers", layers_.size(),
                   shape_.num_layers);
  Tensor grad = grad_queries;
  if (shape_.dense_layer) {
    const Tensor of_bias = grad.sum(0), of_weight = at::mm(grad.t(), target_states_);
    probe("dense.bias.grad", of_bias);
    probe("dense.weight.grad", of_weight);
    add_to(gradients.back(), of_bias);
    add_to(gradients[gradients.size() - 2], of_weight);
    grad = at::mm(grad, weights_[weights_.size() - 2]);
    probe("dense.grad", grad);
  }
  grad = gradient_of_states(grad);
  for (size_t layer = layers_.size(); layer-- > 0;) {
    if (has_mask(layer)) grad = at::mul(grad, masks_[layer]);
    const auto& [input, trace] = layers_[layer];
    const GruGradients of_layer = gru_backward(grad, input, batch_.step_sizes, weights_[2 * layer], weights_[2 * layer + 1],
                                               trace, precision_, wants_embedded || layer > 0);
    probe_layer("gru_layers.weight_ih_l{}.grad", layer, of_layer.weight_ih);
    probe_layer("gru_layers.weight_hh_l{}.grad", layer, of_layer.weight_hh);
    add_to(gradients[2 * layer], of_layer.weight_ih);
    add_to(gradients[2 * layer + 1], of_layer.weight_hh);
    grad = of_layer.input;
    if (grad.defined()) probe_layer("gru_layers.{}.grad", layer, grad);
  }
  return grad;
}

}  // namespace gru4rec

#include "gru4rec/model/gru4rec.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <cmath>

#include "encoder.h"
#include "gru4rec/base/error.h"
#include "gru4rec/base/heap.h"
#include "gru4rec/model/device.h"
#include "gru4rec/model/row_kernels.h"
#include "gru4rec/model/table_rows.h"
#include "gru4rec/model/tensor_views.h"
#include "gru4rec/model/unit_rows.h"

namespace gru4rec {
namespace {

using at::Tensor;

constexpr const char* kScoreScale = "score_scale";

Tensor int64_tensor(std::span<const int64_t> values) {
  return at::from_blob(const_cast<int64_t*>(values.data()), {static_cast<int64_t>(values.size())}, at::kLong);
}

// What stands at `offset` of a flat gradient buffer: rows of the table, all or those of a set.
Tensor rows_of(const Tensor& gradient, int64_t offset, const ParameterInfo& table, const RowSet* rows) {
  const int64_t count = rows ? rows->size() : table.shape[0];
  return view_at(gradient, offset, {count, table.shape[1]});
}

// The part of a flat gradient buffer that begins at `offset`, in the shape of a parameter.
Tensor part_of(const Tensor& gradient, int64_t offset, const ParameterInfo& info) {
  return view_at(gradient, offset, info.shape);
}

void fill_uniform(std::span<float> values, double bound, const Stream& stream) {
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(bound * (2.0 * stream.uniform(i) - 1.0));
}

}  // namespace

Gru4Rec::Gru4Rec(const ModelShape& shape, at::Device device)
    : shape_(shape), layout_(shape), device_(device), loss_(make_loss({.score_padding = shape.score_padding}, {})) {
  flat_ = at::empty({layout_.parameter_floats()}, at::kFloat);
  want_huge_pages(flat_.data_ptr(), flat_.nbytes());
  flat_.zero_();
  if (!device_.is_cpu()) flat_ = flat_.pin_memory();  // from where a copy to the device is fast
}

void Gru4Rec::move_parameters(float* memory) {
  const Tensor moved = at::from_blob(memory, flat_.sizes(), flat_.options());
  moved.copy_(flat_);
  flat_ = moved;
}

std::span<float> Gru4Rec::parameters() { return {flat_.data_ptr<float>(), static_cast<size_t>(flat_.size(0))}; }
std::span<const float> Gru4Rec::parameters() const {
  return {flat_.const_data_ptr<float>(), static_cast<size_t>(flat_.size(0))};
}

Tensor Gru4Rec::parameter(const std::string& name) const { return parameter(name, flat_); }

Tensor Gru4Rec::parameter(const std::string& name, const Tensor& flat) const {
  const ParameterInfo& info = layout_.find(name);
  return view_at(flat, info.offset, info.shape);
}

bool Gru4Rec::computes_apart() const { return uses_tensor_kernels(device_); }

Tensor Gru4Rec::working_copy() const {
  return computes_apart() ? flat_.to(device_, at::kFloat, /*non_blocking=*/false, /*copy=*/true) : flat_;
}

void Gru4Rec::initialise(uint64_t seed, EmbeddingInit table) {
  std::span<float> values = parameters();
  std::fill(values.begin(), values.end(), 0.0f);
  uint64_t index = 0;
  for (const ParameterInfo& info : layout_.parameters()) {
    std::span<float> out = values.subspan(info.offset, info.size());
    const Stream stream{seed, Purpose::parameter_init, index++};
    if (info.name == layout_.table().name) {
      const double deviation = table == EmbeddingInit::unit
                                   ? 1.0 / std::sqrt(static_cast<double>(info.shape[1]))
                                   : std::sqrt(2.0 / static_cast<double>(info.shape[0] + info.shape[1]));
      for (int64_t row = 0; row < info.shape[0]; ++row) {
        const Stream by_row{seed, Purpose::parameter_init, UINT64_MAX, static_cast<uint64_t>(row)};
        for (int64_t e = 0; e < info.shape[1]; ++e)
          out[row * info.shape[1] + e] = static_cast<float>(deviation * by_row.normal(e));
      }
    } else if (info.name == kScoreScale) {
      out[0] = static_cast<float>(shape_.score_scale);
    } else if (info.name.ends_with("_l0")) {
      fill_uniform(out, std::sqrt(6.0 / static_cast<double>(info.shape[0] + info.shape[1])), stream);
    } else {  // torch's default for GRU and Linear: ±1/√hidden, both of whose fan-in is the hidden size
      fill_uniform(out, 1.0 / std::sqrt(static_cast<double>(shape_.hidden_size)), stream);
    }
  }
}

Tensor dropout_mask(const Batch& batch, int64_t size, double p, Purpose purpose, const StepKey& key, uint64_t layer) {
  Tensor mask = at::empty({batch.inputs(), size}, at::kFloat);
  float* out = mask.data_ptr<float>();
  const float kept = static_cast<float>(1.0 / (1.0 - p));
  const auto dropped = static_cast<uint32_t>(p * 0x1.0p32);
  for (const InputKey& input : batch.keys) {
    const Stream stream{mix64(key.seed) ^ key.epoch ^ (layer << 48), purpose, input.session, input.first_target,
                        input.position};
    dropout_row(stream, dropped, kept, out, size);
    out += size;
  }
  return mask;
}

Gru4Rec::Probe Gru4Rec::shown() const {
  if (!probe_) return {};
  return [this](const std::string& name, const Tensor& tensor) { probe(name, tensor); };
}

void Gru4Rec::probe(const std::string& name, const Tensor& tensor) const {
  if (probe_) probe_(name, downloaded(tensor));
}

Tensor Gru4Rec::embed(const Batch& batch, const Tensor& flat, const Tensor& mask) const {
  return rows_of_ids(parameter(layout_.table().name, flat), uploaded(int64_tensor(batch.items), device_), mask);
}

std::vector<Tensor> Gru4Rec::encoder_weights(const Tensor& flat) const {
  std::vector<Tensor> weights;
  for (const ParameterInfo& info : layout_.parameters())
    if (info.name != layout_.table().name && info.name != kScoreScale) weights.push_back(part_of(flat, info.offset, info));
  return weights;
}

double Gru4Rec::score_scale() const {
  return shape_.learn_score_scale ? parameter(kScoreScale).const_data_ptr<float>()[0] : shape_.score_scale;
}

SoftmaxLoss Gru4Rec::output_loss(const OutputLoss& loss_of, const Tensor& queries, const Tensor& flat, const Batch& batch,
                                 const StepKey& key, const Tensor& gradient, const RowSet* rows, const RowsDone& done) const {
  Tensor table = parameter(layout_.table().name, flat);
  if (rows) table = rows_of_ids(table, uploaded(int64_tensor(rows->ids()), device_));
  Tensor table_grad;  // stays undefined where the table is constant
  if (!table_is_constant(gradient)) table_grad = rows_of(gradient, layout_.table_output_gradient(), layout_.table(), rows);
  if (!shape_.cosine || loss_of.makes_cosines()) return loss_of(queries, table, batch, key, table_grad, rows, done);

  const UnitRows query(queries), item(table);
  const double scale = score_scale();
  Tensor unit_grad = table_grad.defined() ? at::zeros_like(table) : Tensor();
  SoftmaxLoss loss = loss_of(query.unit.mul(scale), item.unit, batch, key, unit_grad, rows);
  if (table_grad.defined()) item.add_gradient(unit_grad, table_grad);
  if (shape_.learn_score_scale) {
    const ParameterInfo& info = layout_.find(kScoreScale);
    part_of(gradient, info.offset, info).add_(loss.grad_queries.mul(query.unit).sum());
  }
  loss.grad_queries = query.gradient(loss.grad_queries.mul_(scale));
  return loss;
}

bool Gru4Rec::table_is_constant(const Tensor& gradient) const {
  return gradient.size(0) == layout_.gradient_floats(/*frozen_table=*/true);
}

std::vector<Tensor> Gru4Rec::state_masks(const Batch& batch, const StepKey& key) const {
  std::vector<Tensor> masks(shape_.num_layers);
  for (int64_t layer = 0; layer < shape_.num_layers; ++layer) {
    const bool last = layer + 1 == shape_.num_layers;
    const double p = last ? shape_.output_dropout_prob : shape_.hidden_dropout_prob;
    const Purpose purpose = last ? Purpose::output_dropout : Purpose::hidden_dropout;
    if (p == 0) continue;
    const Tensor mask = dropout_mask(batch, shape_.hidden_size, p, purpose, key, last ? 0 : static_cast<uint64_t>(layer));
    masks[layer] = uploaded(mask, device_);
  }
  return masks;
}

LossSum Gru4Rec::forward_backward(const Batch& batch, const StepKey& key, std::span<float> gradient, const OutputLoss* loss_of,
                                  const GradientRows& rows) {
  return forward_backward(batch, key, at::from_blob(gradient.data(), {static_cast<int64_t>(gradient.size())}, at::kFloat),
                          loss_of, rows);
}

LossSum Gru4Rec::forward_backward(const Batch& batch, const StepKey& key, const Tensor& gradient, const OutputLoss* loss_of,
                                  const GradientRows& rows, const RowsDone& done) {
  if (batch.targets() == 0) return {};
  const Tensor flat = working_copy();
  const bool elsewhere = computes_apart() && gradient.is_cpu();
  const Tensor working_gradient = elsewhere ? at::zeros(gradient.sizes(), flat.options()) : gradient;
  const RowsDone none;
  const double loss =
      add_gradient(batch, key, loss_of ? *loss_of : *loss_, flat, working_gradient, rows, elsewhere ? none : done);
  if (elsewhere) gradient.add_(downloaded(working_gradient));
  return {loss, batch.count()};
}

double Gru4Rec::add_gradient(const Batch& batch, const StepKey& key, const OutputLoss& loss_of, const Tensor& flat,
                             const Tensor& gradient, const GradientRows& rows, const RowsDone& done) const {
  const at::AutoDispatchBelowADInplaceOrView no_autograd;  // nothing here needs it, and each operation would ask
  if (probe_) probe("item_embedding", embed(batch, flat));
  Tensor mask;
  if (shape_.dropout_prob > 0)
    mask = uploaded(dropout_mask(batch, shape_.embedding_size, shape_.dropout_prob, Purpose::embedding_dropout, key), device_);
  const Tensor embedded = embed(batch, flat, mask);
  if (mask.defined()) probe("emb_dropout", embedded);
  const bool constant_table = table_is_constant(gradient);
  Encoder encoder(shape_, batch, encoder_weights(flat), state_masks(batch, key), precision_, shown());
  const Tensor queries = encoder.queries(embedded, /*for_gradients=*/true);

  const SoftmaxLoss loss = output_loss(loss_of, queries, flat, batch, key, gradient, rows.output(), done);
  if (done && !constant_table) done(rows.output() ? rows.output()->size() : shape_.table_rows());
  probe("loss.grad_queries", loss.grad_queries);

  const Tensor embedded_grad = encoder.add_gradients(loss.grad_queries, encoder_weights(gradient), !constant_table);
  if (constant_table) return loss.sum;
  if (probe_) probe("item_embedding.grad", mask.defined() ? embedded_grad.mul(mask) : embedded_grad);
  Tensor table_grad = rows_of(gradient, layout_.table_input_gradient(rows), layout_.table(), rows.input());
  std::vector<int64_t> places = batch.items;
  if (rows.input())
    std::transform(places.begin(), places.end(), places.begin(), [&](int64_t id) { return rows.input()->place_of(id); });
  add_rows(embedded_grad, uploaded(int64_tensor(places), device_), table_grad, mask);
  return loss.sum;
}

Tensor Gru4Rec::queries(const Batch& batch) const { return Scorer(*this).queries(batch); }
Tensor Gru4Rec::score_table() const { return Scorer(*this).table(); }

Scorer::Scorer(const Gru4Rec& model) : model_(model), flat_(model.working_copy()) {
  const Tensor table = model_.parameter(model_.layout().table().name, flat_);
  table_ = model_.shape().cosine ? UnitRows(table).unit : table;
}

Tensor Scorer::queries(const Batch& batch) const {
  const at::AutoDispatchBelowADInplaceOrView no_autograd;
  Encoder encoder(model_.shape(), batch, model_.encoder_weights(flat_), {}, Precision::fp32, model_.shown());
  const Tensor queries = encoder.queries(model_.embed(batch, flat_), /*for_gradients=*/false);
  return model_.shape().cosine ? UnitRows(queries).unit.mul_(model_.score_scale()) : queries;
}

}  // namespace gru4rec

#include "gru4rec/model/distillation.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <map>

#include "gru4rec/base/error.h"

namespace gru4rec {

using at::Tensor;

TeacherView view_of_teacher(const Gru4Rec& teacher, const Tensor& table, const Batch& batch, const Batch& backward) {
  std::map<std::pair<uint64_t, uint32_t>, int64_t> place;  // of a target, by session and position, in the backward batch
  for (int64_t i = 0; i < backward.targets(); ++i) place[{backward.sessions[i], backward.positions[i]}] = i;
  std::vector<int64_t> rows;
  std::vector<float> has_future;
  for (int64_t i = 0; i < batch.targets(); ++i) {
    const auto found = place.find({batch.sessions[i], batch.positions[i]});
    if (found == place.end())
      throw BugError("position {} of session {} is no target of the backward batch", batch.positions[i], batch.sessions[i]);
    rows.push_back(found->second);
    has_future.push_back(backward.target_rows[found->second] < backward.inputs() ? 1.0f : 0.0f);
  }
  return {teacher.queries(backward).index_select(0, at::tensor(rows)), table, at::tensor(has_future)};
}

SoftmaxLoss DistilledLoss::operator()(const Tensor& queries, const Tensor& table, const Batch& batch, const StepKey&,
                                      Tensor& grad_table) const {
  const int64_t first_class = options_.score_padding ? 0 : 1, classes = table.size(0) - first_class;
  const Tensor items = table.narrow(0, first_class, classes), teacher_items = teacher_.table.narrow(0, first_class, classes);
  Tensor grad_items = grad_table.narrow(0, first_class, classes);
  const Tensor labels = at::tensor(batch.labels) - first_class, weights = at::tensor(batch.weights, at::kFloat);
  const double t = options_.temperature, factor = options_.t_squared ? t * t : 1.0;

  SoftmaxLoss result;
  result.grad_queries = at::empty_like(queries);
  const int64_t chunk = std::max<int64_t>(1, softmax_chunk_rows(table.size(0)) / 4);  // four matrices of scores are alive
  for (int64_t first = 0; first < queries.size(0); first += chunk) {
    const int64_t rows = std::min(chunk, queries.size(0) - first);
    const Tensor query = queries.narrow(0, first, rows), label = labels.narrow(0, first, rows).unsqueeze(1);
    const Tensor weight = weights.narrow(0, first, rows).unsqueeze(1);
    const Tensor lambda = teacher_.has_future.narrow(0, first, rows).unsqueeze(1) * options_.lambda;
    const Tensor of_label = weight * (1 - lambda), of_teacher = weight * lambda * factor;
    const Tensor scores = at::mm(query, items.t());
    const Tensor taught = at::softmax(at::mm(teacher_.queries.narrow(0, first, rows), teacher_items.t()).div_(t), 1);

    const Tensor log_softened = at::log_softmax(scores / t, 1);
    const Tensor log_probability = at::log_softmax(scores, 1);
    const Tensor loss = of_label * log_probability.gather(1, label).neg() - of_teacher * (taught * log_softened).sum(1, true);
    const Tensor plain = loss.contiguous();
    for (int64_t i = 0; i < rows; ++i) result.sum += plain.const_data_ptr<float>()[i];

    Tensor grad = log_probability.exp().mul_(of_label).scatter_add_(1, label, of_label.neg());
    grad.add_(log_softened.exp().sub_(taught).mul_(of_teacher / t));
    result.grad_queries.narrow(0, first, rows).copy_(at::mm(grad, items));
    grad_items.addmm_(grad.t(), query);
  }
  return result;
}

}  // namespace gru4rec

#include "gru4rec/model/distillation.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <map>

#include "gru4rec/base/error.h"
#include "gru4rec/model/device.h"
#include "gru4rec/model/loss_total.h"
#include "gru4rec/model/products.h"
#include "gru4rec/model/row_kernels.h"
#include "gru4rec/model/table_blocks.h"

namespace gru4rec {

using at::Tensor;

namespace {

// Turns scores [rows, classes] into exp(score - max) where they stand.
struct Exponentials {
  Tensor max, sum;  // [rows]
  explicit Exponentials(const Tensor& scores) : max(at::empty({scores.size(0)}, scores.options())), sum(at::empty_like(max)) {
    exp_rows(scores, max, sum);
  }
  Tensor log_sum() const { return sum.log().add_(max); }
};

// a_i · b_i for each row; [rows].
Tensor row_dots(const Tensor& a, const Tensor& b) {
  if (uses_tensor_kernels(a)) return (a * b).sum(1);
  Tensor dots = at::empty({a.size(0)}, a.options());
  const int64_t size = a.size(1);
  for (int64_t i = 0; i < a.size(0); ++i)
    dots.data_ptr<float>()[i] = dot(a.const_data_ptr<float>() + i * size, b.const_data_ptr<float>() + i * size, size);
  return dots;
}

}  // namespace

TeacherView view_of_teacher(const Scorer& teacher, const Batch& batch, const Batch& backward) {
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
  const at::Device device = teacher.table().device();
  return {teacher.queries(backward).index_select(0, uploaded(at::tensor(rows), device)), teacher.table(),
          uploaded(at::tensor(has_future), device)};
}

SoftmaxLoss DistilledLoss::operator()(const Tensor& queries, const Tensor& table, const Batch& batch, const StepKey&,
                                      Tensor& grad_table, const RowSet* some_rows, const RowsDone&) const {
  if (some_rows) throw BugError("distillation moves the whole table, and was given {} rows of it", some_rows->size());
  const int64_t first_class = options_.score_padding ? 0 : 1, classes = table.size(0) - first_class;
  const Tensor items = table.narrow(0, first_class, classes), teacher_items = teacher_.table.narrow(0, first_class, classes);
  const Tensor labels = uploaded(at::tensor(batch.labels) - first_class, queries.device());
  const Tensor weights = uploaded(at::tensor(batch.weights, at::kFloat), queries.device());
  const double t = options_.temperature, factor = options_.t_squared ? t * t : 1.0;

  LossTotal total;
  SoftmaxLoss result;
  result.grad_queries = at::empty_like(queries);
  const int64_t chunk = std::max<int64_t>(1, score_rows_at_once(table.size(0)) / 2);  // two or three matrices are alive
  for (int64_t first = 0; first < queries.size(0); first += chunk) {
    const int64_t rows = std::min(chunk, queries.size(0) - first);
    const Tensor query = queries.narrow(0, first, rows), label = labels.narrow(0, first, rows);
    const Tensor weight = weights.narrow(0, first, rows), lambda = teacher_.has_future.narrow(0, first, rows) * options_.lambda;
    const Tensor of_label = weight * (1 - lambda), of_teacher = weight * lambda * factor;

    const Tensor scores = product(query, items.t(), options_.precision);
    const Tensor softened = t == 1 ? scores : scores / t;
    const Tensor taught = product(teacher_.queries.narrow(0, first, rows), teacher_items.t(), options_.precision).div_(t);
    const Tensor label_score = scores.gather(1, label.unsqueeze(1)).squeeze(1);
    const Exponentials of_taught(taught);
    const Tensor taught_score = row_dots(taught, softened).div_(of_taught.sum);  // Σ softmax(taught) · softened
    const Exponentials of_scores(scores);
    const Exponentials of_softened = t == 1 ? of_scores : Exponentials(softened);

    total.add(of_label * (of_scores.log_sum() - label_score) + of_teacher * (of_softened.log_sum() - taught_score));

    const auto per_row = [](const Tensor& values) { return values.unsqueeze(1); };
    Tensor grad = scores;  // by the scores, in their place
    if (t == 1) {
      grad.mul_(per_row((of_label + of_teacher) / of_scores.sum));
    } else {
      grad.mul_(per_row(of_label / of_scores.sum)).addcmul_(softened, per_row(of_teacher / t / of_softened.sum));
    }
    grad.addcmul_(taught, per_row(of_teacher / t / of_taught.sum), -1);
    grad.scatter_add_(1, per_row(label), per_row(of_label.neg()));
    result.grad_queries.narrow(0, first, rows).copy_(product(grad, items, options_.precision));
    if (!grad_table.defined()) continue;
    Tensor grad_items = grad_table.narrow(0, first_class, classes);
    add_product(grad_items, grad.t(), query, options_.precision);
  }
  result.sum = total.value();
  return result;
}

}  // namespace gru4rec

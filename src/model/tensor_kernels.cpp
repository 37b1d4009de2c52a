#include "gru4rec/model/tensor_kernels.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/List.h>
#include <ATen/ops/amax.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/tanh.h>

#include <optional>

namespace gru4rec::tensor_kernels {

using at::Tensor;

void gru_forward_step(const GruForwardStep& step) {
  const int64_t hidden = step.after.size(1);
  Tensor both = step.gates.narrow(1, 0, 2 * hidden), n = step.gates.narrow(1, 2 * hidden, hidden);
  const Tensor r = step.gates.narrow(1, 0, hidden), z = step.gates.narrow(1, hidden, hidden);
  if (step.recurrent.defined()) {
    both.add_(step.recurrent.narrow(1, 0, 2 * hidden)).sigmoid_();
    step.recurrent_n.copy_(step.recurrent.narrow(1, 2 * hidden, hidden));
    n.addcmul_(r, step.recurrent_n).tanh_();
    step.after.copy_(n).addcmul_(z, step.before - n);
  } else {
    both.sigmoid_();
    step.recurrent_n.zero_();
    n.tanh_();
    step.after.copy_(n).addcmul_(z, n, -1);
  }
}

void gru_backward_step(const GruBackwardStep& step) {
  const int64_t hidden = step.grad.size(1);
  const auto gate = [&](const Tensor& gates, int64_t number) { return gates.narrow(1, number * hidden, hidden); };
  const Tensor r = gate(step.gates, 0), z = gate(step.gates, 1), n = gate(step.gates, 2);
  const Tensor& h = step.kept_before;
  step.before.defined() ? h.copy_(step.before) : h.zero_();
  const Tensor grad = step.grad.clone();
  grad.narrow(0, 0, step.carried_rows).add_(step.carried.narrow(0, 0, step.carried_rows));
  step.carried.copy_(grad * z);
  const Tensor grad_n = (grad - step.carried) * (1 - n * n);  // through tanh
  const Tensor grad_z = grad * (h - n) * (z - z * z);         // through the sigmoids
  const Tensor grad_r = grad_n * step.recurrent_n * (r - r * r);
  gate(step.grad_input, 0).copy_(grad_r);
  gate(step.grad_input, 1).copy_(grad_z);
  gate(step.grad_input, 2).copy_(grad_n);
  gate(step.grad_recurrent, 0).copy_(grad_r);
  gate(step.grad_recurrent, 1).copy_(grad_z);
  gate(step.grad_recurrent, 2).copy_(grad_n * r);
}

void exp_rows(const Tensor& scores, Tensor& max, Tensor& sum) {
  at::amax_out(max, scores, 1);
  scores.sub_(max.unsqueeze(1)).exp_();
  at::sum_out(sum, scores, 1);
}

void add_rows(const Tensor& rows, const Tensor& ids, Tensor& table) {
  table.index_put_(c10::List<std::optional<Tensor>>({ids}), rows, /*accumulate=*/true);
}

}  // namespace gru4rec::tensor_kernels

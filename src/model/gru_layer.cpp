#include "gru4rec/model/gru_layer.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/addcmul.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/lerp.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

namespace gru4rec {
namespace {

using at::Tensor;

// What backward needs, one row an input: gates, the recurrent part of n, and the state before the input.
struct Trace {
  Tensor gates;        // [inputs, 3·hidden] r, z, n after their nonlinearity
  Tensor recurrent_n;  // [inputs, hidden] W_hn h
  Tensor before;       // [inputs, hidden] h
};

// The forward pass; fills `trace` row by row.
Tensor forward_steps(const Tensor& input, const std::vector<int64_t>& step_sizes, const Tensor& weight_ih,
                     const Tensor& weight_hh, Trace& trace) {
  const int64_t hidden = weight_hh.size(1);
  trace.gates = at::mm(input, weight_ih.t());
  trace.recurrent_n = at::empty({input.size(0), hidden}, input.options());
  trace.before = at::zeros({input.size(0), hidden}, input.options());
  Tensor states = at::empty({input.size(0), hidden}, input.options());
  const Tensor weight_hh_t = weight_hh.t();
  int64_t row = 0;
  int64_t previous_row = 0;
  for (size_t step = 0; step < step_sizes.size(); ++step) {
    const int64_t running = step_sizes[step];
    Tensor gates = trace.gates.narrow(0, row, running);
    Tensor h = trace.before.narrow(0, row, running);
    Tensor r_z = gates.narrow(1, 0, 2 * hidden);
    Tensor n = gates.narrow(1, 2 * hidden, hidden);
    Tensor recurrent_n = trace.recurrent_n.narrow(0, row, running);
    if (step == 0) {
      recurrent_n.zero_();
      r_z.sigmoid_();
      n.tanh_();
    } else {
      h.copy_(states.narrow(0, previous_row, running));
      const Tensor recurrent = at::mm(h, weight_hh_t);
      recurrent_n.copy_(recurrent.narrow(1, 2 * hidden, hidden));
      r_z.add_(recurrent.narrow(1, 0, 2 * hidden)).sigmoid_();
      n.addcmul_(gates.narrow(1, 0, hidden), recurrent_n).tanh_();
    }
    Tensor after = states.narrow(0, row, running);
    at::lerp_out(after, n, h, gates.narrow(1, hidden, hidden));
    previous_row = row;
    row += running;
  }
  return states;
}

// Gradients of the gates before their nonlinearity, one row an input: of the input product and of the recurrent product.
struct GateGradients {
  Tensor input;      // [inputs, 3·hidden]
  Tensor recurrent;  // [inputs, 3·hidden]; differs in the n part by the factor r
};

GateGradients backward_steps(const Tensor& grad_states, const std::vector<int64_t>& step_sizes, const Tensor& weight_hh,
                             const Trace& trace) {
  const int64_t hidden = weight_hh.size(1);
  GateGradients grads{at::empty_like(trace.gates), at::empty_like(trace.gates)};
  Tensor carried;  // gradient of the state before the step that was handled last, [its sequences, hidden]
  int64_t row = trace.gates.size(0);
  for (size_t step = step_sizes.size(); step-- > 0;) {
    const int64_t running = step_sizes[step];
    row -= running;
    Tensor grad = grad_states.narrow(0, row, running).clone();
    if (carried.defined()) grad.narrow(0, 0, carried.size(0)).add_(carried);
    const Tensor gates = trace.gates.narrow(0, row, running);
    const Tensor r = gates.narrow(1, 0, hidden);
    const Tensor z = gates.narrow(1, hidden, hidden);
    const Tensor n = gates.narrow(1, 2 * hidden, hidden);
    const Tensor h = trace.before.narrow(0, row, running);
    Tensor grad_input = grads.input.narrow(0, row, running);
    Tensor grad_recurrent = grads.recurrent.narrow(0, row, running);
    // n: dL/dn (1 - z), through tanh
    Tensor grad_n = grad_input.narrow(1, 2 * hidden, hidden);
    at::mul_out(grad_n, grad - grad * z, 1 - n * n);
    // z: dL/dz = grad (h - n), through the sigmoid
    Tensor grad_z = grad_input.narrow(1, hidden, hidden);
    at::mul_out(grad_z, grad * (h - n), z - z * z);
    // r: dL/dr = grad_n W_hn h, through the sigmoid
    Tensor grad_r = grad_input.narrow(1, 0, hidden);
    at::mul_out(grad_r, grad_n * trace.recurrent_n.narrow(0, row, running), r - r * r);
    grad_recurrent.narrow(1, 0, 2 * hidden).copy_(grad_input.narrow(1, 0, 2 * hidden));
    Tensor grad_recurrent_n = grad_recurrent.narrow(1, 2 * hidden, hidden);
    at::mul_out(grad_recurrent_n, grad_n, r);
    if (step > 0) carried = at::mm(grad_recurrent, weight_hh).addcmul_(grad, z);
  }
  return grads;
}

struct GruLayer : torch::autograd::Function<GruLayer> {
  static Tensor forward(torch::autograd::AutogradContext* context, const Tensor& input, const std::vector<int64_t>& step_sizes,
                        const Tensor& weight_ih, const Tensor& weight_hh) {
    Trace trace;
    Tensor states = forward_steps(input, step_sizes, weight_ih, weight_hh, trace);
    context->save_for_backward({input, weight_ih, weight_hh, trace.gates, trace.recurrent_n, trace.before});
    context->saved_data["step_sizes"] = step_sizes;
    return states;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& grad_outputs) {
    const auto saved = context->get_saved_variables();
    const Tensor& input = saved[0];
    const Tensor& weight_ih = saved[1];
    const Tensor& weight_hh = saved[2];
    const Trace trace{saved[3], saved[4], saved[5]};
    const GateGradients grads =
        backward_steps(grad_outputs[0], context->saved_data["step_sizes"].toIntVector(), weight_hh, trace);
    const Tensor grad_input = context->needs_input_grad(0) ? at::mm(grads.input, weight_ih) : Tensor();
    return {grad_input, Tensor(), at::mm(grads.input.t(), input), at::mm(grads.recurrent.t(), trace.before)};
  }
};

}  // namespace

Tensor gru_layer(const Tensor& input, const std::vector<int64_t>& step_sizes, const Tensor& weight_ih,
                 const Tensor& weight_hh) {
  return GruLayer::apply(input, step_sizes, weight_ih, weight_hh);
}

}  // namespace gru4rec

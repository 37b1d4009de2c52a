#include "gru4rec/model/gru_layer.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/csrc/autograd/custom_function.h>

#include "gru4rec/model/device.h"
#include "gru4rec/model/gru_kernels.h"
#include "gru4rec/model/products.h"
#include "gru4rec/model/tensor_kernels.h"

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
                     const Tensor& weight_hh, Precision precision, Trace& trace) {
  const int64_t hidden = weight_hh.size(1);
  trace.gates = product(input, weight_ih.t(), precision);
  trace.recurrent_n = at::empty({input.size(0), hidden}, input.options());
  trace.before = at::empty({input.size(0), hidden}, input.options());
  Tensor states = at::empty({input.size(0), hidden}, input.options());
  const RepeatedProduct with_weight(weight_hh.t(), precision);
  Tensor products = at::empty({step_sizes.size() > 1 ? step_sizes[1] : 0, 3 * hidden}, input.options());
  int64_t row = 0;
  int64_t previous_row = 0;
  for (size_t step = 0; step < step_sizes.size(); ++step) {
    const int64_t running = step_sizes[step];
    if (uses_tensor_kernels(states)) {
      const auto rows = [&](const Tensor& all) { return all.narrow(0, row, running); };
      Tensor recurrent;
      if (step > 0) {
        recurrent = products.narrow(0, 0, running);
        with_weight(recurrent, states.narrow(0, previous_row, running));
      }
      tensor_kernels::gru_forward_step({.gates = rows(trace.gates),
                                        .recurrent = recurrent,
                                        .before = step > 0 ? states.narrow(0, previous_row, running) : Tensor(),
                                        .recurrent_n = rows(trace.recurrent_n),
                                        .kept_before = rows(trace.before),
                                        .after = rows(states)});
    } else {
      float* recurrent = step > 0 ? products.data_ptr<float>() : nullptr;
      const float* before = step > 0 ? states.const_data_ptr<float>() + previous_row * hidden : nullptr;
      if (step > 0) with_weight(recurrent, before, running);
      gru_forward_step({.rows = running,
                        .hidden = hidden,
                        .gates = trace.gates.data_ptr<float>() + 3 * row * hidden,
                        .recurrent = recurrent,
                        .before = before,
                        .recurrent_n = trace.recurrent_n.data_ptr<float>() + row * hidden,
                        .kept_before = trace.before.data_ptr<float>() + row * hidden,
                        .after = states.data_ptr<float>() + row * hidden});
    }
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

GateGradients backward_steps(const Tensor& grad_of_states, const std::vector<int64_t>& step_sizes, const Tensor& weight_hh,
                             Precision precision, const Trace& trace) {
  const int64_t hidden = weight_hh.size(1);
  GateGradients grads{at::empty_like(trace.gates), at::empty_like(trace.gates)};
  const Tensor grad_states = grad_of_states.contiguous();
  const RepeatedProduct with_weight(weight_hh, precision);
  // Gradient of the state before the step that was handled last, in its rows.
  const Tensor carried = at::empty({step_sizes.empty() ? 0 : step_sizes.front(), hidden}, trace.gates.options());
  int64_t row = trace.gates.size(0);
  for (size_t step = step_sizes.size(); step-- > 0;) {
    const int64_t running = step_sizes[step];
    row -= running;
    const int64_t carried_rows = step + 1 < step_sizes.size() ? step_sizes[step + 1] : 0;
    if (uses_tensor_kernels(grad_states)) {
      const auto rows = [&](const Tensor& all) { return all.narrow(0, row, running); };
      tensor_kernels::gru_backward_step({.gates = rows(trace.gates),
                                         .recurrent_n = rows(trace.recurrent_n),
                                         .before = rows(trace.before),
                                         .grad = rows(grad_states),
                                         .carried = carried.narrow(0, 0, running),
                                         .carried_rows = carried_rows,
                                         .grad_input = rows(grads.input),
                                         .grad_recurrent = rows(grads.recurrent)});
      Tensor before = carried.narrow(0, 0, running);
      if (step > 0) with_weight(before, rows(grads.recurrent), /*add=*/true);
    } else {
      float* grad_recurrent = grads.recurrent.data_ptr<float>() + 3 * row * hidden;
      gru_backward_step({.rows = running,
                         .hidden = hidden,
                         .gates = trace.gates.const_data_ptr<float>() + 3 * row * hidden,
                         .recurrent_n = trace.recurrent_n.const_data_ptr<float>() + row * hidden,
                         .before = trace.before.const_data_ptr<float>() + row * hidden,
                         .grad = grad_states.const_data_ptr<float>() + row * hidden,
                         .carried = carried.data_ptr<float>(),
                         .carried_rows = carried_rows,
                         .grad_input = grads.input.data_ptr<float>() + 3 * row * hidden,
                         .grad_recurrent = grad_recurrent});
      if (step > 0) with_weight(carried.data_ptr<float>(), grad_recurrent, running, /*add=*/true);
    }
  }
  return grads;
}

struct GruLayer : torch::autograd::Function<GruLayer> {
  static Tensor forward(torch::autograd::AutogradContext* context, const Tensor& input, const std::vector<int64_t>& step_sizes,
                        const Tensor& weight_ih, const Tensor& weight_hh, Precision precision) {
    Trace trace;
    Tensor states = forward_steps(input, step_sizes, weight_ih, weight_hh, precision, trace);
    context->save_for_backward({input, weight_ih, weight_hh, trace.gates, trace.recurrent_n, trace.before});
    context->saved_data["step_sizes"] = step_sizes;
    context->saved_data["precision"] = static_cast<int64_t>(precision);
    return states;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& grad_outputs) {
    const auto saved = context->get_saved_variables();
    const Tensor& input = saved[0];
    const Tensor& weight_ih = saved[1];
    const Tensor& weight_hh = saved[2];
    const Trace trace{saved[3], saved[4], saved[5]};
    const auto precision = static_cast<Precision>(context->saved_data["precision"].toInt());
    const GateGradients grads =
        backward_steps(grad_outputs[0], context->saved_data["step_sizes"].toIntVector(), weight_hh, precision, trace);
    const Tensor grad_input = context->needs_input_grad(0) ? product(grads.input, weight_ih, precision) : Tensor();
    return {grad_input, Tensor(), product(grads.input.t(), input, precision),
            product(grads.recurrent.t(), trace.before, precision), Tensor()};
  }
};

}  // namespace

Tensor gru_layer(const Tensor& input, const std::vector<int64_t>& step_sizes, const Tensor& weight_ih, const Tensor& weight_hh,
                 Precision precision) {
  return GruLayer::apply(input, step_sizes, weight_ih, weight_hh, precision);
}

}  // namespace gru4rec

#include "gru4rec/model/gru_layer.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <optional>

#include "gate_gradients.h"
#include "gru4rec/model/device.h"
#include "gru4rec/model/gru_kernels.h"
#include "gru4rec/model/products.h"
#include "gru4rec/model/tensor_kernels.h"

namespace gru4rec {
namespace {

using at::Tensor;

// Rows that are multiplied at once: what steps and products hand each other should be in cache.
constexpr int64_t kRowsInCache = 256;
int64_t rows_at_once(const Tensor& input) { return uses_tensor_kernels(input) ? input.size(0) : kRowsInCache; }

const float* row_of(const Tensor& matrix, int64_t row) { return matrix.const_data_ptr<float>() + row * matrix.size(1); }
float* row_to(const Tensor& matrix, int64_t row) { return matrix.data_ptr<float>() + row * matrix.size(1); }

Tensor rows_like(const Tensor& like, int64_t rows, int64_t size) { return at::empty({rows, size}, like.options()); }

// Rows of the packed batch that one time step handles.
struct Step {
  int64_t first, rows;
  int64_t before;        // the first row of the step before; its first `rows` rows are of the same sequences
  bool has_before;       // there is one
  int64_t carried_rows;  // rows of the step after it
};

std::vector<Step> steps_of(const std::vector<int64_t>& sizes) {
  std::vector<Step> steps;
  int64_t row = 0;
  for (size_t i = 0; i < sizes.size(); row += sizes[i++])
    steps.push_back({.first = row,
                     .rows = sizes[i],
                     .before = i > 0 ? row - sizes[i - 1] : 0,
                     .has_before = i > 0,
                     .carried_rows = i + 1 < sizes.size() ? sizes[i + 1] : 0});
  return steps;
}

class Forward {
 public:
  Forward(const Tensor& input, const std::vector<Step>& steps, const Tensor& weight_ih, const Tensor& weight_hh,
          Precision precision)
      : input_(input),
        with_input_weight_(weight_ih.t(), precision),
        with_weight_(weight_hh.t(), precision),
        trace_{rows_like(input, input.size(0), weight_hh.size(0)), rows_like(input, input.size(0), weight_hh.size(1)),
               rows_like(input, input.size(0), weight_hh.size(1))},
        recurrent_(rows_like(input, steps.size() > 1 ? steps[1].rows : 0, weight_hh.size(0))) {
    for (const Step& step : steps) {
      if (step.first + step.rows > multiplied_) multiply_input(step);
      if (step.has_before) with_weight_(recurrent_, 0, trace_.states, step.before, step.rows);
      uses_tensor_kernels(input) ? pointwise_of_tensors(step) : pointwise_in_host(step);
    }
  }
  const GruTrace& trace() const { return trace_; }

 private:
  void multiply_input(const Step& step) {
    const int64_t wanted = std::max(step.first + step.rows - multiplied_, rows_at_once(input_));
    const int64_t rows = std::min(wanted, input_.size(0) - multiplied_);
    with_input_weight_(trace_.gates, multiplied_, input_, multiplied_, rows);
    multiplied_ += rows;
  }

  void pointwise_of_tensors(const Step& step) {
    const auto rows = [&](const Tensor& all) { return all.narrow(0, step.first, step.rows); };
    tensor_kernels::gru_forward_step({.gates = rows(trace_.gates),
                                      .recurrent = step.has_before ? recurrent_.narrow(0, 0, step.rows) : Tensor(),
                                      .before = step.has_before ? trace_.states.narrow(0, step.before, step.rows) : Tensor(),
                                      .recurrent_n = rows(trace_.recurrent_n),
                                      .after = rows(trace_.states)});
  }

  void pointwise_in_host(const Step& step) {
    gru_forward_step({.rows = step.rows,
                      .hidden = trace_.states.size(1),
                      .gates = row_to(trace_.gates, step.first),
                      .recurrent = step.has_before ? row_of(recurrent_, 0) : nullptr,
                      .before = step.has_before ? row_of(trace_.states, step.before) : nullptr,
                      .recurrent_n = row_to(trace_.recurrent_n, step.first),
                      .after = row_to(trace_.states, step.first)});
  }

  const Tensor& input_;
  const RepeatedProduct with_input_weight_, with_weight_;
  int64_t multiplied_ = 0;  // rows of the gates that have their input product
  GruTrace trace_;
  Tensor recurrent_;  // of a step [rows, 3·hidden]
};

// From the last step to the first. What the gradients of input and weights are made of is held for some steps, one row an
// input, and fills its memory from the end.
class Backward {
 public:
  Backward(const Tensor& grad_states, const std::vector<Step>& steps, const Tensor& input, bool wants_input,
           const Tensor& weight_ih, const Tensor& weight_hh, Precision precision, const GruTrace& trace)
      : grad_states_(grad_states.contiguous()),
        input_(input),
        precision_(precision),
        trace_(trace),
        sums_{wants_input ? at::empty_like(input) : Tensor(), at::zeros_like(weight_ih), at::zeros_like(weight_hh)},
        carried_(rows_like(input, steps.empty() ? 0 : steps.front().rows, weight_hh.size(1))),
        capacity_(std::min(input.size(0), rows_at_once(input) + carried_.size(0))),
        before_(rows_like(input, capacity_, weight_hh.size(1))) {
    if (GateGradients::are_for(input, weight_hh.size(1), precision)) {
      in_tiles_.emplace(weight_ih, weight_hh, capacity_);
    } else {
      with_input_weight_.emplace(weight_ih, precision);
      with_weight_.emplace(weight_hh, precision);
      grad_input_ = rows_like(input, capacity_, weight_hh.size(0));
      grad_recurrent_ = rows_like(input, capacity_, weight_hh.size(0));
    }
    for (auto step = steps.rbegin(); step != steps.rend(); ++step) {
      held_ += step->rows;
      take(*step);
      if (held_ >= rows_at_once(input) || !step->has_before) multiply_held(step->first);
    }
  }
  const GruGradients& gradients() const { return sums_; }

 private:
  int64_t place() const { return capacity_ - held_; }  // of the step handled last, in what is held

  void take(const Step& step) {
    if (in_tiles_) return in_tiles_->take(in_host(step), place());
    uses_tensor_kernels(input_) ? pointwise_of_tensors(step) : pointwise_in_host(step);
    if (step.has_before) (*with_weight_)(carried_, 0, grad_recurrent_, place(), step.rows, /*add=*/true);
  }

  void pointwise_of_tensors(const Step& step) {
    const auto rows = [&](const Tensor& all) { return all.narrow(0, step.first, step.rows); };
    const auto held = [&](const Tensor& all) { return all.narrow(0, place(), step.rows); };
    tensor_kernels::gru_backward_step({.gates = rows(trace_.gates),
                                       .recurrent_n = rows(trace_.recurrent_n),
                                       .before = step.has_before ? trace_.states.narrow(0, step.before, step.rows) : Tensor(),
                                       .grad = rows(grad_states_),
                                       .carried = carried_.narrow(0, 0, step.rows),
                                       .carried_rows = step.carried_rows,
                                       .grad_input = held(grad_input_),
                                       .grad_recurrent = held(grad_recurrent_),
                                       .kept_before = held(before_)});
  }

  void pointwise_in_host(const Step& step) {
    GruBackwardStep all = in_host(step);
    all.grad_input = row_to(grad_input_, place());
    all.grad_recurrent = row_to(grad_recurrent_, place());
    gru_backward_step(all);
  }

  // But for where the gradients of gates go.
  GruBackwardStep in_host(const Step& step) const {
    return {.rows = step.rows,
            .hidden = trace_.states.size(1),
            .gates = row_of(trace_.gates, step.first),
            .recurrent_n = row_of(trace_.recurrent_n, step.first),
            .before = step.has_before ? row_of(trace_.states, step.before) : nullptr,
            .grad = row_of(grad_states_, step.first),
            .carried = row_to(carried_, 0),
            .carried_rows = step.carried_rows,
            .grad_input = nullptr,
            .grad_recurrent = nullptr,
            .kept_before = row_to(before_, place())};
  }

  // The rows of inputs from `first` on are held.
  void multiply_held(int64_t first) {
    if (in_tiles_) {
      float* grad_input = sums_.input.defined() ? row_to(sums_.input, first) : nullptr;
      in_tiles_->multiply(place(), held_, row_of(input_, first), row_of(before_, place()), grad_input, sums_);
    } else {
      if (sums_.input.defined()) (*with_input_weight_)(sums_.input, first, grad_input_, place(), held_);
      add_product_of_rows(sums_.weight_ih, grad_input_, place(), input_, first, held_, precision_);
      add_product_of_rows(sums_.weight_hh, grad_recurrent_, place(), before_, place(), held_, precision_);
    }
    held_ = 0;
  }

  const Tensor grad_states_;
  const Tensor& input_;
  const Precision precision_;
  const GruTrace& trace_;
  GruGradients sums_;
  Tensor carried_;  // [rows, hidden] gradient of the state before the step that was handled last
  const int64_t capacity_;
  Tensor before_;                          // [capacity, hidden] the state before the input
  int64_t held_ = 0;                       // rows
  std::optional<GateGradients> in_tiles_;  // what follows is not there with it
  std::optional<RepeatedProduct> with_input_weight_, with_weight_;
  Tensor grad_input_;      // [capacity, 3·hidden] gradients of the gates before their nonlinearity: of the input product
  Tensor grad_recurrent_;  // [capacity, 3·hidden] of the recurrent product; differs in the n part by the factor r
};

}  // namespace

GruTrace gru_forward(const Tensor& input, const std::vector<int64_t>& step_sizes, const Tensor& weight_ih,
                     const Tensor& weight_hh, Precision precision) {
  return Forward(input, steps_of(step_sizes), weight_ih, weight_hh, precision).trace();
}

GruGradients gru_backward(const Tensor& grad_states, const Tensor& input, const std::vector<int64_t>& step_sizes,
                          const Tensor& weight_ih, const Tensor& weight_hh, const GruTrace& trace, Precision precision,
                          bool wants_input) {
  return Backward(grad_states, steps_of(step_sizes), input, wants_input, weight_ih, weight_hh, precision, trace).gradients();
}

}  // namespace gru4rec

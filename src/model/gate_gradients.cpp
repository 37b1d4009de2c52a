#include "gate_gradients.h"

#include <ATen/Parallel.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <initializer_list>
#include <vector>

#include "bf16_tiles.h"
#include "gru4rec/model/device.h"
#include "gru4rec/model/products.h"

namespace gru4rec {

using at::Tensor;

namespace {

constexpr int64_t kRowsInNearestCache = 4;

// Grows and stays, as in tile_products.cpp.
struct Memory {
  bf16::Values weight_ih, weight_hh, held, left, right, transposed;
};
Memory& memory() {
  thread_local Memory memory;
  return memory;
}

// [3·gate, n] of [3·hidden, n]: rows of zeros after those of each gate.
Tensor with_padded_gates(const Tensor& weight, int64_t hidden, int64_t gate) {
  if (gate == hidden) return weight;
  Tensor padded = at::zeros({3 * gate, weight.size(1)}, weight.options());
  for (int64_t g = 0; g < 3; ++g) padded.narrow(0, g * gate, hidden).copy_(weight.narrow(0, g * hidden, hidden));
  return padded;
}

void lay_out(const Tensor& weight, int64_t hidden, int64_t gate, bf16::Values& out) {
  const Tensor padded = with_padded_gates(weight, hidden, gate);
  const int64_t rows = padded.size(0), columns = padded.size(1);
  bf16::right_of({padded.const_data_ptr<float>(), rows, columns, columns}, out.reserve(rows * bf16::padded(columns)));
}

GruBackwardStep rows_of(const GruBackwardStep& step, int64_t first, int64_t rows) {
  const int64_t h = first * step.hidden;
  return {.rows = rows,
          .hidden = step.hidden,
          .gates = step.gates + 3 * h,
          .recurrent_n = step.recurrent_n + h,
          .before = step.before ? step.before + h : nullptr,
          .grad = step.grad + h,
          .carried = step.carried + h,
          .carried_rows = step.carried_rows - first,
          .grad_input = step.grad_input,
          .grad_recurrent = step.grad_recurrent,
          .kept_before = step.kept_before + h,
          .rows_to_come = step.rows - first - rows};
}

}  // namespace

bool GateGradients::are_for(const Tensor& like, Precision precision) {
  return precision == Precision::bf16 && !uses_tensor_kernels(like) && bf16_in_hardware();
}

GateGradients::GateGradients(const Tensor& weight_ih, const Tensor& weight_hh, int64_t capacity)
    : in_(weight_ih.size(1)), hidden_(weight_hh.size(1)), gate_(bf16::padded(hidden_)) {
  lay_out(weight_ih, hidden_, gate_, memory().weight_ih);
  lay_out(weight_hh, hidden_, gate_, memory().weight_hh);
  memory().held.reserve(capacity * columns());
}

void GateGradients::take(const GruBackwardStep& step, int64_t place) {
  Memory& operands = memory();
  bf16::Value* held = operands.held.values() + place * columns();
  const int64_t of_a_thread = 1 + 8192 / std::max<int64_t>(1, hidden_);
  at::parallel_for(0, step.rows, of_a_thread, [&](int64_t first, int64_t last) {
    thread_local std::vector<float> gradients;
    gradients.resize(static_cast<size_t>(6 * kRowsInNearestCache * hidden_));
    float *of_input = gradients.data(), *of_recurrent = of_input + 3 * kRowsInNearestCache * hidden_;
    for (int64_t at = first; at < last; at += kRowsInNearestCache) {
      GruBackwardStep part = rows_of(step, at, std::min(kRowsInNearestCache, last - at));
      part.grad_input = of_input;
      part.grad_recurrent = of_recurrent;
      gru_backward_step(part);
      const auto round = [&](const float* values, int64_t column) {
        bf16::round_rows({values, part.rows, hidden_, 3 * hidden_}, held + at * columns() + column * gate_, columns());
      };
      for (int64_t g = 0; g < 3; ++g) round(of_input + g * hidden_, g);
      round(of_recurrent + 2 * hidden_, 3);
    }
  });
  if (!step.before) return;
  bf16::Value* left = operands.left.reserve(bf16::padded(step.rows) * 3 * gate_);
  bf16::left_of_rows(held, columns(), step.rows, 2 * gate_, left, 3 * gate_, 0);
  bf16::left_of_rows(held + 3 * gate_, columns(), step.rows, gate_, left, 3 * gate_, 2 * gate_);
  bf16::multiply({.left = left,
                  .right = operands.weight_hh.values(),
                  .m = step.rows,
                  .n = hidden_,
                  .k = 3 * gate_,
                  .out = step.carried,
                  .stride = hidden_,
                  .store = bf16::Store::add});
}

void GateGradients::multiply(int64_t place, int64_t rows, const float* input, const float* before, float* grad_input,
                             const GruGradients& sums) const {
  Memory& operands = memory();
  const bf16::Value* held = operands.held.values() + place * columns();
  if (grad_input) {
    bf16::Value* left = operands.left.reserve(bf16::padded(rows) * 3 * gate_);
    bf16::left_of_rows(held, columns(), rows, 3 * gate_, left, 3 * gate_, 0);
    bf16::multiply({.left = left,
                    .right = operands.weight_ih.values(),
                    .m = rows,
                    .n = in_,
                    .k = 3 * gate_,
                    .out = grad_input,
                    .stride = in_});
  }
  bf16::Value* right = operands.right.reserve(bf16::padded(rows) * columns());
  bf16::right_of_rows(held, columns(), rows, columns(), right);

  // sum [3·hidden, width] += gradientsᵀ · from, by gate, or by those gates together that have no padding between them.
  const auto add = [&](const float* from, int64_t width, std::initializer_list<int64_t> gates, const Tensor& sum) {
    bf16::Value* left = operands.transposed.reserve(bf16::padded(rows) * bf16::padded(width));
    bf16::left_of_transposed({from, rows, width, width}, nullptr, left);
    float* out = sum.data_ptr<float>();
    for (const int64_t* gate = gates.begin(); gate != gates.end();) {
      const int64_t* next = gate + 1;
      while (gate_ == hidden_ && next != gates.end() && *next == next[-1] + 1) ++next;
      const int64_t columns_together = (next - gate) * hidden_;
      bf16::multiply({.left = left,
                      .right = right + *gate * gate_ / bf16::kUnit * bf16::panel_values(rows),
                      .m = width,
                      .n = columns_together,
                      .k = rows,
                      .out = out,
                      .stride = width,
                      .store = bf16::Store::add_transposed});
      out += columns_together * width;
      gate = next;
    }
  };
  add(input, in_, {0, 1, 2}, sums.weight_ih);
  add(before, hidden_, {0, 1, 3}, sums.weight_hh);
}

}  // namespace gru4rec

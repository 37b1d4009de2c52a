#include "gate_gradients.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <vector>

#include "bf16_tiles.h"
#include "gru4rec/base/error.h"
#include "gru4rec/model/device.h"
#include "gru4rec/model/products.h"

namespace gru4rec {

using at::Tensor;

namespace {

constexpr int64_t kRowsInNearestCache = 4;

// Grows and stays, as in tile_products.cpp.
struct Memory {
  bf16::Values weight_ih, weight_hh, held, left, right, transposed;
  const GateGradients* owner = nullptr;
};
Memory& memory() {
  thread_local Memory memory;
  return memory;
}

void lay_out(const Tensor& weight, bf16::Values& out) {
  const int64_t rows = weight.size(0), columns = weight.size(1);
  bf16::right_of({weight.const_data_ptr<float>(), rows, columns, columns}, out.reserve(rows * bf16::padded(columns)));
}

}  // namespace

bool GateGradients::are_for(const Tensor& like, int64_t hidden, Precision precision) {
  return precision == Precision::bf16 && !uses_tensor_kernels(like) && bf16_in_hardware() && hidden % bf16::kUnit == 0;
}

GateGradients::GateGradients(const Tensor& weight_ih, const Tensor& weight_hh, int64_t capacity)
    : in_(weight_ih.size(1)), hidden_(weight_hh.size(1)) {
  lay_out(weight_ih, memory().weight_ih);
  lay_out(weight_hh, memory().weight_hh);
  memory().held.reserve(capacity * columns());
  memory().owner = this;
}

void GateGradients::take(const GruBackwardStep& step, int64_t place) {
  Memory& operands = memory();
  if (operands.owner != this) throw BugError("the gradients of gates of two layers were made by turns");
  bf16::Value* held = operands.held.values() + place * columns();
  const int64_t of_a_thread = 1 + 8192 / std::max<int64_t>(1, hidden_);
  at::parallel_for(0, step.rows, of_a_thread, [&](int64_t first, int64_t last) {
    thread_local std::vector<float> gradients;
    gradients.resize(static_cast<size_t>(6 * kRowsInNearestCache * hidden_));
    float *of_input = gradients.data(), *of_recurrent = of_input + 3 * kRowsInNearestCache * hidden_;
    for (int64_t at = first; at < last; at += kRowsInNearestCache) {
      GruBackwardStep part = step.part(at, std::min(kRowsInNearestCache, last - at));
      part.grad_input = of_input;
      part.grad_recurrent = of_recurrent;
      gru_backward_step(part);
      bf16::Value* rounded = held + at * columns();
      bf16::round_rows({of_input, part.rows, 3 * hidden_, 3 * hidden_}, rounded, columns());
      bf16::round_rows({of_recurrent + 2 * hidden_, part.rows, hidden_, 3 * hidden_}, rounded + 3 * hidden_, columns());
    }
  });
  if (!step.before) return;
  bf16::Value* left = operands.left.reserve(bf16::padded(step.rows) * 3 * hidden_);
  bf16::left_of_rows(held, columns(), step.rows, 2 * hidden_, left, 3 * hidden_, 0);
  bf16::left_of_rows(held + 3 * hidden_, columns(), step.rows, hidden_, left, 3 * hidden_, 2 * hidden_);
  bf16::multiply({.left = left,
                  .right = operands.weight_hh.values(),
                  .m = step.rows,
                  .n = hidden_,
                  .k = 3 * hidden_,
                  .out = step.carried,
                  .stride = hidden_,
                  .store = bf16::Store::add});
}

void GateGradients::multiply(int64_t place, int64_t rows, const float* input, const float* before, float* grad_input,
                             const GruGradients& sums) const {
  Memory& operands = memory();
  const bf16::Value* held = operands.held.values() + place * columns();
  if (grad_input) {
    bf16::Value* left = operands.left.reserve(bf16::padded(rows) * 3 * hidden_);
    bf16::left_of_rows(held, columns(), rows, 3 * hidden_, left, 3 * hidden_, 0);
    bf16::multiply({.left = left,
                    .right = operands.weight_ih.values(),
                    .m = rows,
                    .n = in_,
                    .k = 3 * hidden_,
                    .out = grad_input,
                    .stride = in_});
  }
  bf16::Value* right = operands.right.reserve(bf16::padded(rows) * columns());
  bf16::right_of_rows(held, columns(), rows, columns(), right);

  // sum [gates · hidden, width] += gradientsᵀ · from, of some gates.
  const auto add = [&](const bf16::Value* from, int64_t width, int64_t first_gate, int64_t gates, float* sum) {
    bf16::multiply({.left = from,
                    .right = right + first_gate * hidden_ / bf16::kUnit * bf16::panel_values(rows),
                    .m = width,
                    .n = gates * hidden_,
                    .k = rows,
                    .out = sum,
                    .stride = width,
                    .store = bf16::Store::add_transposed});
  };
  bf16::Value* from = operands.transposed.reserve(bf16::padded(rows) * std::max(bf16::padded(in_), hidden_));
  bf16::left_of_transposed({input, rows, in_, in_}, nullptr, from);
  add(from, in_, 0, 3, sums.weight_ih.data_ptr<float>());
  bf16::left_of_transposed({before, rows, hidden_, hidden_}, nullptr, from);
  float* of_recurrent = sums.weight_hh.data_ptr<float>();
  add(from, hidden_, 0, 2, of_recurrent);
  add(from, hidden_, 3, 1, of_recurrent + 2 * hidden_ * hidden_);
}

}  // namespace gru4rec

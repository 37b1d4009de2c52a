#include "gru4rec/model/products.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <torch/version.h>

#include <algorithm>

#include "bf16_tiles.h"
#include "gru4rec/model/device.h"

namespace gru4rec {

using at::Tensor;

namespace {

// A matrix, or its transposition.
struct Operand {
  bf16::Matrix matrix;
  bool transposed = false;

  int64_t rows() const { return transposed ? matrix.columns : matrix.rows; }
  int64_t columns() const { return transposed ? matrix.rows : matrix.columns; }
  Operand t() const { return {matrix, !transposed}; }
};

// Rows of a contiguous tensor.
Operand rows_of(const Tensor& t, int64_t row, int64_t rows) {
  return {{t.const_data_ptr<float>() + row * t.size(1), rows, t.size(1), t.size(1)}};
}

// The values of each row lie side by side.
bool has_rows(const Tensor& t) { return t.stride(1) == 1 || t.size(1) <= 1; }
bool has_columns(const Tensor& t) { return !has_rows(t) && t.stride(0) == 1; }

// What operand_of() takes: the tensor, or a copy where neither its rows nor its columns lie side by side.
Tensor operand_memory(const Tensor& t) { return has_rows(t) || has_columns(t) ? t : t.contiguous(); }
Operand operand_of(const Tensor& t) {
  const Tensor rows = has_columns(t) ? t.t() : t;
  return {{rows.const_data_ptr<float>(), rows.size(0), rows.size(1), rows.stride(0)}, has_columns(t)};
}

const bf16::Value* laid_out_left(const Operand& a) {
  thread_local bf16::Values memory;
  bf16::Value* out = memory.reserve(bf16::padded(a.rows()) * bf16::padded(a.columns()));
  a.transposed ? bf16::left_of_transposed(a.matrix, nullptr, out) : bf16::left_of(a.matrix, out);
  return out;
}

int64_t right_values(const Operand& b) { return bf16::padded(b.rows()) * bf16::padded(b.columns()); }
void lay_out_right(const Operand& b, bf16::Value* out) {
  b.transposed ? bf16::right_of_transposed(b.matrix, out) : bf16::right_of(b.matrix, out);
}

// `right` [k, n] as lay_out_right left it; rows of `out` are `stride` apart. With Store::add_transposed out is [n, m].
void multiply_in_tiles(float* out, int64_t stride, const Operand& a, const bf16::Value* right, int64_t n, bf16::Store store) {
  bf16::multiply({.left = laid_out_left(a),
                  .right = right,
                  .m = a.rows(),
                  .n = n,
                  .k = a.columns(),
                  .out = out,
                  .stride = stride,
                  .store = store});
}

void multiply_in_tiles(float* out, int64_t stride, const Operand& a, const Operand& b, bool add) {
  // Of two matrices whose rows are summed over, one has to be transposed: the smaller one.
  const bool swapped = a.transposed && !b.transposed && b.columns() < a.rows();
  const Operand from = swapped ? a.t() : b;
  thread_local bf16::Values memory;
  bf16::Value* right = memory.reserve(right_values(from));
  lay_out_right(from, right);
  if (!swapped) return multiply_in_tiles(out, stride, a, right, b.columns(), add ? bf16::Store::add : bf16::Store::replace);
  if (!add)
    for (int64_t i = 0; i < a.rows(); ++i) std::fill_n(out + i * stride, b.columns(), 0.0f);
  multiply_in_tiles(out, stride, b.t(), right, a.rows(), bf16::Store::add_transposed);
}

void multiply_in_tiles(Tensor& out, const Tensor& a, const Tensor& b, bool add) {
  const Tensor left = operand_memory(a), right = operand_memory(b), target = has_rows(out) ? out : out.contiguous();
  multiply_in_tiles(target.data_ptr<float>(), target.stride(0), operand_of(left), operand_of(right), add);
  if (!target.is_same(out)) out.copy_(target);
}

}  // namespace

bool bf16_in_hardware() { return bf16::multiplier() != bf16::Multiplier::none; }

void bf16_product(Tensor& out, const Tensor& a, const Tensor& b, bool add) {
  if (!uses_tensor_kernels(out) && bf16_in_hardware()) return multiply_in_tiles(out, a, b, add);
  const Tensor left = a.to(at::kBFloat16), right = b.to(at::kBFloat16);
#if TORCH_VERSION_MAJOR > 2 || TORCH_VERSION_MINOR >= 8
  if (out.is_cuda()) {  // with sums and results in fp32, which at::mm has there only
    const Tensor result = at::mm(left, right, at::kFloat);
    add ? out.add_(result) : out.copy_(result);
    return;
  }
#endif
  const Tensor rounded_left = left.to(at::kFloat), rounded_right = right.to(at::kFloat);
  if (add)
    out.addmm_(rounded_left, rounded_right);
  else
    at::mm_out(out, rounded_left, rounded_right);
}

RepeatedProduct::RepeatedProduct(const Tensor& b, Precision precision) : b_(b) {
  if (precision != Precision::bf16) return;
  if (!uses_tensor_kernels(b) && bf16_in_hardware()) {
    const Tensor memory = operand_memory(b);
    in_tiles_ = at::empty({right_values(operand_of(memory))}, at::kBFloat16);
    lay_out_right(operand_of(memory), in_tiles_.data_ptr<bf16::Value>());
  } else {
    rounded_ = true;
  }
}

void RepeatedProduct::operator()(const Tensor& out, int64_t out_row, const Tensor& a, int64_t a_row, int64_t rows,
                                 bool add) const {
  if (in_tiles_.defined()) {
    const int64_t n = b_.size(1);
    return multiply_in_tiles(out.data_ptr<float>() + out_row * n, n, rows_of(a, a_row, rows),
                             in_tiles_.const_data_ptr<bf16::Value>(), n, add ? bf16::Store::add : bf16::Store::replace);
  }
  Tensor to = out.narrow(0, out_row, rows);
  const Tensor from = a.narrow(0, a_row, rows);
  if (rounded_) return bf16_product(to, from, b_, add);
  add ? void(to.addmm_(from, b_)) : void(at::mm_out(to, from, b_));
}

Tensor product(const Tensor& a, const Tensor& b, Precision precision) {
  if (precision != Precision::bf16) return at::mm(a, b);
  Tensor out = at::empty({a.size(0), b.size(1)}, a.options());
  bf16_product(out, a, b);
  return out;
}

void add_product_of_rows(Tensor& sum, const Tensor& a, int64_t a_row, const Tensor& b, int64_t b_row, int64_t rows,
                         Precision precision) {
  if (precision != Precision::bf16 || uses_tensor_kernels(sum) || !bf16_in_hardware())
    return add_product(sum, a.narrow(0, a_row, rows).t(), b.narrow(0, b_row, rows), precision);
  multiply_in_tiles(sum.data_ptr<float>(), sum.size(1), rows_of(a, a_row, rows).t(), rows_of(b, b_row, rows), /*add=*/true);
}

void add_product(Tensor& sum, const Tensor& a, const Tensor& b, Precision precision) {
  precision == Precision::bf16 ? bf16_product(sum, a, b, /*add=*/true) : void(sum.addmm_(a, b));
}

}  // namespace gru4rec

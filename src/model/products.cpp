#include "gru4rec/model/products.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/mm.h>
#include <torch/version.h>

#include "bf16_tiles.h"
#include "gru4rec/model/device.h"

namespace gru4rec {

using at::Tensor;

namespace {

// The values of a matrix, and whether it is their transposition.
struct Rows {
  Tensor keeps;
  bf16::Matrix matrix;
  bool transposed;
};

Rows rows_of(const Tensor& t) {
  const bool transposed = t.stride(1) != 1 && t.size(1) > 1 && t.stride(0) == 1;
  const Tensor rows = transposed ? t.t() : t.stride(1) == 1 || t.size(1) <= 1 ? t : t.contiguous();
  return {rows, {rows.const_data_ptr<float>(), rows.size(0), rows.size(1), rows.stride(0)}, transposed};
}

void lay_out_right(const Tensor& b, bf16::Value* out) {
  const Rows right = rows_of(b);
  right.transposed ? bf16::right_of_transposed(right.matrix, out) : bf16::right_of(right.matrix, out);
}

int64_t right_values(const Tensor& b) { return bf16::padded(b.size(0)) * bf16::padded(b.size(1)); }

bf16::Values& left_memory() {
  thread_local bf16::Values memory;
  return memory;
}

bf16::Values& right_memory() {
  thread_local bf16::Values memory;
  return memory;
}

// `right` [k, n] as lay_out_right left it. With Store::add_transposed out is [n, m].
void multiply_in_tiles(Tensor& out, const Tensor& a, const bf16::Value* right, int64_t n, bf16::Store store) {
  const Rows left = rows_of(a);
  bf16::Value* operand = left_memory().reserve(bf16::padded(a.size(0)) * bf16::padded(a.size(1)));
  left.transposed ? bf16::left_of_transposed(left.matrix, nullptr, operand) : bf16::left_of(left.matrix, operand);
  Tensor target = out.stride(1) == 1 || out.size(1) <= 1 ? out : out.contiguous();
  bf16::multiply({.left = operand,
                  .right = right,
                  .m = a.size(0),
                  .n = n,
                  .k = a.size(1),
                  .out = target.data_ptr<float>(),
                  .stride = target.stride(0),
                  .store = store});
  if (!target.is_same(out)) out.copy_(target);
}

void multiply_in_tiles(Tensor& out, const Tensor& a, const Tensor& b, bool add) {
  // Of two matrices whose rows are summed over, one has to be transposed: the smaller one, as in add_product_of_rows.
  const bool swapped = rows_of(a).transposed && !rows_of(b).transposed && b.size(1) < a.size(0);
  const Tensor from = swapped ? a.t() : b;
  bf16::Value* right = right_memory().reserve(right_values(from));
  lay_out_right(from, right);
  if (!swapped) return multiply_in_tiles(out, a, right, b.size(1), add ? bf16::Store::add : bf16::Store::replace);
  if (!add) out.zero_();
  multiply_in_tiles(out, b.t(), right, a.size(0), bf16::Store::add_transposed);
}

}  // namespace

bool bf16_in_hardware() { return bf16::tiles_available(); }

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
    in_tiles_ = at::empty({right_values(b)}, at::kBFloat16);
    lay_out_right(b, in_tiles_.data_ptr<bf16::Value>());
  } else {
    rounded_ = true;
  }
}

void RepeatedProduct::operator()(const Tensor& out, int64_t out_row, const Tensor& a, int64_t a_row, int64_t rows,
                                 bool add) const {
  const int64_t k = b_.size(0), n = b_.size(1);
  if (in_tiles_.defined()) {
    bf16::Value* left = left_memory().reserve(bf16::padded(rows) * bf16::padded(k));
    bf16::left_of({a.const_data_ptr<float>() + a_row * k, rows, k, k}, left);
    return bf16::multiply({.left = left,
                           .right = in_tiles_.const_data_ptr<bf16::Value>(),
                           .m = rows,
                           .n = n,
                           .k = k,
                           .out = out.data_ptr<float>() + out_row * n,
                           .stride = n,
                           .store = add ? bf16::Store::add : bf16::Store::replace});
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
  const int64_t m = a.size(1), n = b.size(1);
  const bf16::Matrix of_a{a.const_data_ptr<float>() + a_row * m, rows, m, m},
      of_b{b.const_data_ptr<float>() + b_row * n, rows, n, n};
  const bool swapped = n < m;
  const bf16::Matrix &left = swapped ? of_b : of_a, &right = swapped ? of_a : of_b;
  bf16::Value* left_operand = left_memory().reserve(bf16::padded(left.columns) * bf16::padded(rows));
  bf16::Value* right_operand = right_memory().reserve(bf16::padded(rows) * bf16::padded(right.columns));
  bf16::left_of_transposed(left, nullptr, left_operand);
  bf16::right_of(right, right_operand);
  bf16::multiply({.left = left_operand,
                  .right = right_operand,
                  .m = left.columns,
                  .n = right.columns,
                  .k = rows,
                  .out = sum.data_ptr<float>(),
                  .stride = n,
                  .store = swapped ? bf16::Store::add_transposed : bf16::Store::add});
}

void add_product(Tensor& sum, const Tensor& a, const Tensor& b, Precision precision) {
  precision == Precision::bf16 ? bf16_product(sum, a, b, /*add=*/true) : void(sum.addmm_(a, b));
}

}  // namespace gru4rec

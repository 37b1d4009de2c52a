#include "gru4rec/model/products.h"

#include <ATen/Parallel.h>
#include <ATen/native/CPUBlas.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/remainder.h>
#include <torch/version.h>

#include <algorithm>

namespace gru4rec {

using at::Tensor;

namespace {

namespace blas = at::native::cpublas;

constexpr int64_t kColumns = 64;  // of a packed block of b: the widest that the library packs
constexpr int64_t kDepth = 32;    // bf16 in a row of a tile register

int64_t rounded_up(int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; }

// The same with zeros below and to the right.
Tensor padded(const Tensor& matrix, int64_t rows, int64_t columns) {
  if (matrix.size(0) == rows && matrix.size(1) == columns) return matrix.contiguous();
  return at::constant_pad_nd(matrix, {0, columns - matrix.size(1), 0, rows - matrix.size(0)}).contiguous();
}

// Blocks of 64 columns of b are laid out as the processor takes them, and multiplied by all rows of a.
void multiply_in_hardware(Tensor& out, const Tensor& a, const Tensor& b, bool add) {
  const int64_t m = a.size(0), k = rounded_up(a.size(1), kDepth), n = rounded_up(b.size(1), kColumns);
  const Tensor left = padded(a, m, k), right = padded(b, k, n);
  const bool whole = out.size(1) == n && out.stride(1) == 1;
  Tensor target = whole ? out : at::empty({m, n}, at::kFloat);
  const Tensor packed = at::empty({n / kColumns, k * kColumns}, at::kBFloat16);
  const auto* from = left.const_data_ptr<at::BFloat16>();
  const auto* source = right.const_data_ptr<at::BFloat16>();
  auto* blocks = packed.data_ptr<at::BFloat16>();
  auto* to = target.data_ptr<float>();
  at::parallel_for(0, n / kColumns, 1, [&](int64_t first, int64_t last) {
    for (int64_t block = first; block < last; ++block) {
      auto* right_block = blocks + block * k * kColumns;
      blas::pack(k, kColumns, n, kColumns, at::kBFloat16, at::kBFloat16, source + block * kColumns, right_block);
      blas::brgemm(m, kColumns, k, k, kColumns, target.stride(0), whole && add, from, right_block, to + block * kColumns);
    }
    blas::brgemm_release();  // what it has set up in this thread would not survive another library call that uses the tiles
  });
  if (whole) return;
  const Tensor result = target.narrow(1, 0, out.size(1));
  add ? out.add_(result) : out.copy_(result);
}

// Small integers: exact whatever the order of the sums.
bool hardware_is_right() {
  const auto integers = [](int64_t rows, int64_t columns, int64_t period) {
    return at::remainder(at::arange(rows * columns, at::kFloat), period).sub_(period / 2).view({rows, columns});
  };
  const Tensor a = integers(33, 70, 7), b = integers(70, 97, 11), expected = at::mm(a, b);
  Tensor got = at::empty({33, 97}, at::kFloat);
  multiply_in_hardware(got, a.to(at::kBFloat16), b.to(at::kBFloat16), false);
  return at::equal(got, expected);
}

}  // namespace

bool bf16_in_hardware() {
  static const bool yes = blas::could_pack(at::kBFloat16) && hardware_is_right();
  return yes;
}

void bf16_product(Tensor& out, const Tensor& a, const Tensor& b, bool add) {
#if TORCH_VERSION_MAJOR > 2 || TORCH_VERSION_MINOR >= 8
  if (out.is_cuda()) {  // with sums and results in fp32, which at::mm has there only
    const Tensor result = at::mm(a, b, at::kFloat);
    add ? out.add_(result) : out.copy_(result);
    return;
  }
#endif
  if (out.is_cpu() && bf16_in_hardware()) return multiply_in_hardware(out, a, b, add);
  const Tensor left = a.to(at::kFloat), right = b.to(at::kFloat);
  if (add)
    out.addmm_(left, right);
  else
    at::mm_out(out, left, right);
}

Tensor product(const Tensor& a, const Tensor& b, Precision precision) {
  if (precision != Precision::bf16) return at::mm(a, b);
  Tensor out = at::empty({a.size(0), b.size(1)}, a.options());
  bf16_product(out, a.to(at::kBFloat16), b.to(at::kBFloat16));
  return out;
}

void add_product(Tensor& sum, const Tensor& a, const Tensor& b, Precision precision) {
  if (precision != Precision::bf16)
    sum.addmm_(a, b);
  else
    bf16_product(sum, a.to(at::kBFloat16), b.to(at::kBFloat16), /*add=*/true);
}

}  // namespace gru4rec

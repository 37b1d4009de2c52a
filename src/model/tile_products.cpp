#include "tile_products.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/mul.h>

#include "gru4rec/model/device.h"
#include "gru4rec/model/products.h"
#include "gru4rec/model/row_kernels.h"

namespace gru4rec {

using at::Tensor;

namespace {

// The factors go to the queries and to the product, so that the matrix itself is only read.
class Fp32Products : public TileProducts {
 public:
  explicit Fp32Products(const Tensor& queries)
      : queries_(queries), product_(at::empty_like(queries)), scaled_(at::empty_like(queries)) {}

  void scores(const Tensor& items, Tensor& scores) override { at::mm_out(scores, queries_, items.t()); }

  void gradients(const Tensor& items, const Tensor& exponentials, const Tensor& factor, Tensor& grad_queries,
                 Tensor grad_items) override {
    const Tensor per_row = factor.unsqueeze(1);
    at::mm_out(product_, exponentials, items);
    grad_queries.addcmul_(product_, per_row);
    if (!grad_items.defined()) return;
    at::mul_out(scaled_, queries_, per_row);
    grad_items.addmm_(exponentials.t(), scaled_);
  }

 private:
  Tensor queries_, product_, scaled_;
};

// The matrix must be rounded anyway, so that it takes the factors on the way. The gradient of the items is made transposed: as
// right operand the matrix needs no transposition of its own.
class Bf16Products : public TileProducts {
 public:
  explicit Bf16Products(const Tensor& queries)
      : queries_(queries.to(at::kBFloat16)), transposed_queries_(queries_.t().contiguous()) {}

  void scores(const Tensor& items, Tensor& scores) override {
    bf16_product(scores, queries_, items.to(at::kBFloat16).t().contiguous());
  }

  void gradients(const Tensor& items, const Tensor& exponentials, const Tensor& factor, Tensor& grad_queries,
                 Tensor grad_items) override {
    const Tensor gradient = scaled_to_bf16(exponentials, factor);
    bf16_product(grad_queries, gradient, items.to(at::kBFloat16), /*add=*/true);
    if (!grad_items.defined()) return;
    Tensor transposed = at::empty({items.size(1), items.size(0)}, items.options());
    bf16_product(transposed, transposed_queries_, gradient);
    grad_items.add_(transposed.t());
  }

 private:
  static Tensor scaled_to_bf16(const Tensor& exponentials, const Tensor& factor) {
    if (uses_tensor_kernels(exponentials)) return at::mul(exponentials, factor.unsqueeze(1)).to(at::kBFloat16);
    const int64_t rows = exponentials.size(0), tile = exponentials.size(1);
    Tensor scaled = at::empty({rows, tile}, at::kBFloat16);
    scale_rows_to_bf16(exponentials.const_data_ptr<float>(), rows, tile, factor.const_data_ptr<float>(),
                       scaled.data_ptr<at::BFloat16>());
    return scaled;
  }

  Tensor queries_;             // [rows, E] bf16
  Tensor transposed_queries_;  // [E, rows] bf16
};

}  // namespace

std::unique_ptr<TileProducts> tile_products(const Tensor& queries, Precision precision) {
  if (precision == Precision::bf16) return std::make_unique<Bf16Products>(queries);
  return std::make_unique<Fp32Products>(queries);
}

}  // namespace gru4rec

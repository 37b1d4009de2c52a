#include "tile_products.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>

#include "bf16_tiles.h"
#include "gru4rec/base/error.h"
#include "gru4rec/model/device.h"
#include "gru4rec/model/products.h"
#include "gru4rec/model/row_kernels.h"
#include "gru4rec/model/tensor_views.h"

namespace gru4rec {

using at::Tensor;

namespace {

// Of each row, its score of the target where the tile holds it, else 0.
Tensor target_scores(const Tensor& scores, const Tensor& labels, int64_t first_item) {
  const int64_t tile = scores.size(1);
  if (uses_tensor_kernels(scores)) {
    const Tensor place = labels - first_item;
    const Tensor score = scores.gather(1, place.clamp(0, tile - 1).unsqueeze(1)).squeeze(1);
    return at::where(place.ge(0).logical_and_(place.lt(tile)), score, 0.0);
  }
  Tensor targets = at::zeros({scores.size(0)}, at::kFloat);
  const int64_t* label = labels.const_data_ptr<int64_t>();
  const float* score = scores.const_data_ptr<float>();
  for (int64_t i = 0; i < scores.size(0); ++i)
    if (const int64_t place = label[i] - first_item; place >= 0 && place < tile)
      targets.data_ptr<float>()[i] = score[i * tile + place];
  return targets;
}

// Products as tensor operations.
class TensorProducts : public TileProducts {
 public:
  explicit TensorProducts(const Tensor& queries) : TileProducts(queries) {}

  BlockStatistics exponentials(const Tensor& items, const Tensor& labels, int64_t first_item, const Tensor&, const Tensor& kept,
                               const LaidOut& laid_out) override {
    if (laid_out.values.defined()) throw BugError("exponentials were to be laid out in a form that these products do not have");
    const Tensor place = matrix(kept, items);
    const bool in_place = kept_type() == at::kFloat;
    Tensor scores = in_place ? place : at::empty_like(place, at::kFloat);
    make_scores(items, scores);
    const Tensor target = target_scores(scores, labels, first_item);  // before they are overwritten
    BlockStatistics statistics{at::empty_like(target), at::empty_like(target), target};
    exp_rows(scores, statistics.max, statistics.sum_exp);
    if (!in_place) place.copy_(scores);
    return statistics;
  }

 protected:
  Tensor matrix(const Tensor& kept, const Tensor& items) const { return kept.view({queries_.size(0), items.size(0)}); }
  virtual void make_scores(const Tensor& items, Tensor& scores) = 0;
};

// The factors go to the queries and to the product, so that the matrix itself is only read.
class Fp32Products : public TensorProducts {
 public:
  explicit Fp32Products(const Tensor& queries) : TensorProducts(queries), scaled_(at::empty_like(queries)) {}

  void multiply_items(const Tensor& items, const Tensor& kept, bool add, Tensor& product) override {
    add ? product.addmm_(matrix(kept, items), items) : at::mm_out(product, matrix(kept, items), items);
  }
  void add_item_gradients(const Tensor& kept, bool, const Tensor& factor, bool same_factor, Tensor grad_items) override {
    if (!same_factor) at::mul_out(scaled_, queries_, factor.unsqueeze(1));
    grad_items.addmm_(matrix(kept, grad_items).t(), scaled_);
  }

 private:
  void make_scores(const Tensor& items, Tensor& scores) override { at::mm_out(scores, queries_, items.t()); }

  Tensor scaled_;
};

// The same with operands rounded to bf16, for processors without such products and for GPUs.
class RoundedProducts : public TensorProducts {
 public:
  explicit RoundedProducts(const Tensor& queries) : TensorProducts(queries) {}
  at::ScalarType kept_type() const override { return at::kBFloat16; }

  void multiply_items(const Tensor& items, const Tensor& kept, bool add, Tensor& product) override {
    bf16_product(product, matrix(kept, items), items, add);
  }
  void add_item_gradients(const Tensor& kept, bool, const Tensor& factor, bool, Tensor grad_items) override {
    bf16_product(grad_items, matrix(kept, grad_items).t(), at::mul(queries_, factor.unsqueeze(1)), /*add=*/true);
  }

 private:
  void make_scores(const Tensor& items, Tensor& scores) override { bf16_product(scores, queries_, items.t()); }
};

// The same where the processor multiplies bf16 (bf16_tiles.h). Scores never leave the nearest cache: some are made, and
// their exponentials are kept in bf16, as one or both of the next products take them.
class Bf16TileProducts : public TileProducts {
 public:
  explicit Bf16TileProducts(const Tensor& queries) : TileProducts(queries) {
    memory().queries_of = memory().scaled_of = nullptr;
  }

  at::ScalarType kept_type() const override { return at::kBFloat16; }
  int64_t kept_values(int64_t items) const override { return bf16::padded(rows()) * bf16::padded(items); }

  BlockStatistics exponentials(const Tensor& items, const Tensor& labels, int64_t first_item, const Tensor& near,
                               const Tensor& kept, const LaidOut& laid_out) override {
    Memory& operands = memory();
    bf16::Value* right = operands.items.reserve(bf16::padded(items.size(0)) * bf16::padded(size()));
    bf16::right_of_transposed(matrix(items), right);
    const Tensor all = at::empty({3 * rows()}, at::kFloat);
    BlockStatistics statistics{rows_at(all, 0, rows()), rows_at(all, rows(), rows()), rows_at(all, 2 * rows(), rows())};
    const bool other = bf16::exponentials({.queries = own_queries(),
                                           .items = right,
                                           .rows = rows(),
                                           .columns = items.size(0),
                                           .depth = size(),
                                           .labels = labels.const_data_ptr<int64_t>(),
                                           .first_item = first_item,
                                           .near = near.defined() ? near.const_data_ptr<float>() : nullptr,
                                           .out = kept.data_ptr<bf16::Value>(),
                                           .laid_out = values_of(laid_out),
                                           .far = laid_out.far,
                                           .max = statistics.max.data_ptr<float>(),
                                           .sum = statistics.sum_exp.data_ptr<float>(),
                                           .target = statistics.target.data_ptr<float>()});
    if (!other) statistics.max = near;
    return statistics;
  }

  bool shares_maxima() const override { return true; }

  void multiply_items(const Tensor& items, const Tensor& kept, bool add, Tensor& product) override {
    Memory& operands = memory();
    bf16::Value* right = operands.items.reserve(bf16::padded(items.size(0)) * bf16::padded(size()));
    bf16::right_of(matrix(items), right);
    bf16::multiply({.left = kept.const_data_ptr<bf16::Value>(),
                    .right = right,
                    .m = rows(),
                    .n = size(),
                    .k = items.size(0),
                    .out = product.data_ptr<float>(),
                    .stride = size(),
                    .store = add ? bf16::Store::add : bf16::Store::replace});
  }

  void add_item_gradients(const Tensor& exponentials, bool are_laid_out, const Tensor& factor, bool same_factor,
                          Tensor grad_items) override {
    Memory& operands = memory();
    if (!same_factor || operands.scaled_of != this) {
      bf16::left_of_transposed(matrix(queries_), factor.const_data_ptr<float>(), operands.scaled.reserve(query_values()));
      operands.scaled_of = this;
    }
    bf16::add_item_gradients({.queries = operands.scaled.values(),
                              .laid_out = are_laid_out ? exponentials.const_data_ptr<bf16::Value>() : nullptr,
                              .made = are_laid_out ? nullptr : exponentials.const_data_ptr<bf16::Value>(),
                              .rows = rows(),
                              .columns = grad_items.size(0),
                              .depth = size(),
                              .out = grad_items.data_ptr<float>(),
                              .stride = grad_items.stride(0)});
  }

 private:
  // Of all chunks of a thread; queries are those of the chunk that was last at work.
  struct Memory {
    bf16::Values queries, items, scaled;
    const void *queries_of = nullptr, *scaled_of = nullptr;
  };
  static Memory& memory() {
    thread_local Memory memory;
    return memory;
  }
  const bf16::Value* own_queries() {
    Memory& operands = memory();
    if (operands.queries_of != this) bf16::left_of(matrix(queries_), operands.queries.reserve(query_values()));
    operands.queries_of = this;
    return operands.queries.values();
  }
  static bf16::Value* values_of(const LaidOut& laid_out) {
    return laid_out.values.defined() ? laid_out.values.data_ptr<bf16::Value>() : nullptr;
  }
  int64_t query_values() const { return bf16::padded(rows()) * bf16::padded(size()); }
  int64_t rows() const { return queries_.size(0); }
  int64_t size() const { return queries_.size(1); }
  static bf16::Matrix matrix(const Tensor& t) { return {t.const_data_ptr<float>(), t.size(0), t.size(1), t.stride(0)}; }
};

}  // namespace

std::unique_ptr<TileProducts> tile_products(const Tensor& queries, Precision precision) {
  if (precision != Precision::bf16) return std::make_unique<Fp32Products>(queries);
  if (!uses_tensor_kernels(queries) && bf16_in_hardware()) return std::make_unique<Bf16TileProducts>(queries);
  return std::make_unique<RoundedProducts>(queries);
}

}  // namespace gru4rec

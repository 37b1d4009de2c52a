// What full_softmax.cpp does with a chunk of queries and a tile of the item table, in one precision on one kind of processor.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>

#include "gru4rec/base/options.h"
#include "gru4rec/model/full_softmax.h"

namespace gru4rec {

// Where exponentials also go, in the form that add_item_gradients() likes best.
struct LaidOut {
  at::Tensor values;  // a vector of kept_values(tile); undefined: nowhere
  bool far = false;   // they have no room in caches until they are wanted
};

class TileProducts {
 public:
  virtual ~TileProducts() = default;
  // How the exponentials of a tile of `items` are kept: their type, and how many values.
  virtual at::ScalarType kept_type() const { return at::kFloat; }
  virtual int64_t kept_values(int64_t items) const { return queries_.size(0) * items; }

  // Scores = queries · itemsᵀ; items [tile, E]. Their statistics, and in `kept`, a vector of kept_values(tile), exp(score -
  // max). labels [rows] table rows, the first of the tile being `first_item`. `near` [rows] is the maximum of the tile before
  // it in the block, undefined for the first: it may be taken, and then the very same tensor is the statistics' maximum.
  virtual BlockStatistics exponentials(const at::Tensor& items, const at::Tensor& labels, int64_t first_item,
                                       const at::Tensor& near, const at::Tensor& kept, const LaidOut& laid_out) = 0;
  // Whether tiles often have the maximum of the one before them. Only who does is asked to lay exponentials out.
  virtual bool shares_maxima() const { return false; }
  // product [rows, E] = exponentials · items, or += if `add`.
  virtual void multiply_items(const at::Tensor& items, const at::Tensor& kept, bool add, at::Tensor& product) = 0;
  // Adds Gᵀ · queries to grad_items [tile, E], where the gradient of the scores is G = diag(factor) · exponentials, with factor
  // [rows]. `same_factor`: as in the call before. exponentials: as kept, or, if they are, laid out.
  virtual void add_item_gradients(const at::Tensor& exponentials, bool are_laid_out, const at::Tensor& factor, bool same_factor,
                                  at::Tensor grad_items) = 0;

 protected:
  explicit TileProducts(const at::Tensor& queries) : queries_(queries) {}
  at::Tensor queries_;  // [rows, E] fp32
};

// queries [rows, E] fp32, contiguous; they must stay as they are. `precision` is fp32 or bf16.
std::unique_ptr<TileProducts> tile_products(const at::Tensor& queries, Precision precision);

}  // namespace gru4rec

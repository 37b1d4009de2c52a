// The three products between a chunk of queries and tiles of the item table that full_softmax.cpp is made of, in one precision.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>

#include "gru4rec/base/options.h"

namespace gru4rec {

class TileProducts {
 public:
  virtual ~TileProducts() = default;
  // scores [rows, tile] = queries · itemsᵀ; items [tile, E]
  virtual void scores(const at::Tensor& items, at::Tensor& scores) = 0;
  // Where the gradient of the scores is G = diag(factor) · exponentials, with exponentials [rows, tile] and factor [rows]: adds
  // G · items to grad_queries [rows, E] and Gᵀ · queries to grad_items [tile, E] (undefined: not wanted).
  virtual void gradients(const at::Tensor& items, const at::Tensor& exponentials, const at::Tensor& factor,
                         at::Tensor& grad_queries, at::Tensor grad_items) = 0;
};

// queries [rows, E] fp32, contiguous; they must stay as they are. `precision` is fp32 or bf16.
std::unique_ptr<TileProducts> tile_products(const at::Tensor& queries, Precision precision);

}  // namespace gru4rec

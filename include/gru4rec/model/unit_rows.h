// Rows divided by their length, and the way back for gradients: what cosine scores are made of.
#pragma once

#include <ATen/core/Tensor.h>

namespace gru4rec {

// u = x / max(|x|, 1e-12) for each row of x. fp32. Local.
struct UnitRows {
  explicit UnitRows(const at::Tensor& x);  // [rows, size]
  at::Tensor unit;                         // [rows, size]
  at::Tensor length;                       // [rows]

  // Adds dL/dx = (g - u (u · g)) / |x| to `grad`, from g = dL/du; both [rows, size], contiguous.
  void add_gradient(const at::Tensor& grad_unit, at::Tensor& grad) const;
};

}  // namespace gru4rec

// Rows divided by their length, and the way back for gradients: what cosine scores are made of.
#pragma once

#include <ATen/core/Tensor.h>

namespace gru4rec {

// u = x / max(|x|, 1e-12) for each row of x. fp32. Local.
struct UnitRows {
  explicit UnitRows(const at::Tensor& x);  // [rows, size]
  at::Tensor unit;                         // [rows, size]
  at::Tensor length;                       // [rows]

  // dL/dx = (g - u (u · g)) / |x| from g = dL/du; [rows, size], contiguous. The second adds it to `grad`.
  at::Tensor gradient(const at::Tensor& grad_unit) const;
  void add_gradient(const at::Tensor& grad_unit, at::Tensor& grad) const;
};

}  // namespace gru4rec

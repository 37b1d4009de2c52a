// Rows divided by their length, and the way back for gradients: what cosine scores are made of.
#pragma once

#include <ATen/core/Tensor.h>

namespace gru4rec {

// u = x / max(|x|, 1e-12) for each row of x. Local.
struct UnitRows {
  explicit UnitRows(const at::Tensor& x);  // [rows, size]
  at::Tensor unit;                         // [rows, size]
  at::Tensor length;                       // [rows, 1]

  // dL/dx from dL/du: (g - u (u · g)) / |x|.
  at::Tensor gradient(const at::Tensor& grad_unit) const;
};

}  // namespace gru4rec

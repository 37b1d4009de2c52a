#include "gru4rec/model/unit_rows.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/clamp_min.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/sum.h>

namespace gru4rec {

UnitRows::UnitRows(const at::Tensor& x)
    : length(at::linalg_vector_norm(x, 2, at::IntArrayRef{1}, /*keepdim=*/true).clamp_min_(1e-12)) {
  unit = x.div(length);
}

at::Tensor UnitRows::gradient(const at::Tensor& grad_unit) const {
  return grad_unit.addcmul(unit, unit.mul(grad_unit).sum(1, /*keepdim=*/true), -1).div_(length);
}

}  // namespace gru4rec

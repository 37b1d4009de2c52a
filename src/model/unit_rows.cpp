#include "gru4rec/model/unit_rows.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <cmath>

#include "gru4rec/model/device.h"
#include "gru4rec/model/row_kernels.h"

namespace gru4rec {
namespace {

int64_t rows_of_a_thread(int64_t size) { return 1 + 32768 / std::max<int64_t>(1, size); }

}  // namespace

UnitRows::UnitRows(const at::Tensor& x) {
  if (uses_tensor_kernels(x)) {
    length = (x * x).sum(1).sqrt_().clamp_min_(1e-12);
    unit = x / length.unsqueeze(1);
    return;
  }
  const at::Tensor plain = x.contiguous();
  const int64_t rows = plain.size(0), size = plain.size(1);
  unit = at::empty({rows, size}, plain.options());
  length = at::empty({rows}, plain.options());
  at::parallel_for(0, rows, rows_of_a_thread(size), [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      const float* in = plain.const_data_ptr<float>() + i * size;
      float* out = unit.data_ptr<float>() + i * size;
      const float norm = std::max(std::sqrt(dot(in, in, size)), 1e-12f);
      length.data_ptr<float>()[i] = norm;
      for (int64_t e = 0; e < size; ++e) out[e] = in[e] / norm;
    }
  });
}

at::Tensor UnitRows::gradient(const at::Tensor& grad_unit) const {
  at::Tensor grad = at::zeros_like(unit);
  add_gradient(grad_unit, grad);
  return grad;
}

void UnitRows::add_gradient(const at::Tensor& grad_unit, at::Tensor& grad) const {
  if (uses_tensor_kernels(unit)) {
    const at::Tensor along = (unit * grad_unit).sum(1, /*keepdim=*/true);
    grad.add_((grad_unit - unit * along).div_(length.unsqueeze(1)));
    return;
  }
  const int64_t rows = unit.size(0), size = unit.size(1);
  at::parallel_for(0, rows, rows_of_a_thread(size), [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      const float* g = grad_unit.const_data_ptr<float>() + i * size;
      const float* u = unit.const_data_ptr<float>() + i * size;
      float* out = grad.data_ptr<float>() + i * size;
      const float along = dot(u, g, size), norm = length.const_data_ptr<float>()[i];
      for (int64_t e = 0; e < size; ++e) out[e] += (g[e] - u[e] * along) / norm;
    }
  });
}

}  // namespace gru4rec

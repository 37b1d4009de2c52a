#include "gru4rec/model/loss_total.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/sum.h>

#include "gru4rec/model/device.h"

namespace gru4rec {

namespace {

at::Tensor both(const at::Tensor& a, const at::Tensor& b) {
  if (!a.defined() || !b.defined()) return a.defined() ? a : b;
  return a + b;
}

}  // namespace

void LossTotal::add(const at::Tensor& losses) {
  if (uses_tensor_kernels(losses)) {
    on_device_ = both(on_device_, losses.sum(at::kDouble));
    return;
  }
  const at::Tensor plain = losses.contiguous();
  const float* value = plain.const_data_ptr<float>();
  for (int64_t i = 0; i < plain.numel(); ++i) sum_ += value[i];
}

LossTotal& LossTotal::operator+=(const LossTotal& part) {
  sum_ += part.sum_;
  on_device_ = both(on_device_, part.on_device_);
  return *this;
}

double LossTotal::value() const { return on_device_.defined() ? sum_ + on_device_.item<double>() : sum_; }

}  // namespace gru4rec

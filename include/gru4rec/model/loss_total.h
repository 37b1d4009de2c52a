// A sum of losses in double that is fetched from the device once, at the end.
#pragma once

#include <ATen/core/Tensor.h>

namespace gru4rec {

// Local.
//
//   LossTotal total;
//   for (…) total.add(losses);    // fp32, of any shape
//   return total.value();
class LossTotal {
 public:
  LossTotal() = default;
  explicit LossTotal(const at::Tensor& losses) { add(losses); }
  void add(const at::Tensor& losses);  // on the processor one after the other
  LossTotal& operator+=(const LossTotal& part);
  double value() const;  // waits for the device

 private:
  double sum_ = 0;
  at::Tensor on_device_;  // [] double, besides sum_; undefined: nothing has been added there
};

}  // namespace gru4rec

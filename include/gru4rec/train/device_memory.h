// The memory of a model's device, for the sum of gradients: where ranks can send from GPU to GPU, a gradient is added where it
// was made, and only the sum comes down to the optimizer.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <cstdint>
#include <map>
#include <span>

#include "gru4rec/comm/sum_memory.h"

namespace gru4rec {

// Work is queued in the device's current stream, as that of the model is. One thread; Local.
class DeviceMemory : public SumMemory {
 public:
  explicit DeviceMemory(at::Device device) : device_(device) {}

  float* allocate(std::size_t floats) override;
  void release(float* memory) override { blocks_.erase(memory); }
  void zero(std::span<float> values) override;
  void add(float* to, const float* left, const float* right, std::size_t count) override;
  void wait() override;
  std::size_t piece() const override { return SIZE_MAX; }  // a kernel for each piece would cost more than it saves

 private:
  at::Device device_;
  std::map<float*, at::Tensor> blocks_;
};

// The floats as a tensor on the device in whose memory they are. Local.
at::Tensor tensor_over(std::span<float> values, at::Device device);

}  // namespace gru4rec

#include "gru4rec/train/device_memory.h"

#include <ATen/ops/add.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/zeros.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>

namespace gru4rec {

at::Tensor tensor_over(std::span<float> values, at::Device device) {
  return at::from_blob(values.data(), {static_cast<int64_t>(values.size())}, at::TensorOptions(at::kFloat).device(device));
}

// LibTorch's allocators start a block at a boundary of 64 bytes on the processor, and of 512 on a GPU.
float* DeviceMemory::allocate(std::size_t floats) {
  const at::Tensor block =
      at::zeros({std::max<int64_t>(1, static_cast<int64_t>(floats))}, at::TensorOptions(at::kFloat).device(device_));
  auto* memory = block.data_ptr<float>();
  blocks_.emplace(memory, block);
  return memory;
}

void DeviceMemory::zero(std::span<float> values) { tensor_over(values, device_).zero_(); }

void DeviceMemory::add(float* to, const float* left, const float* right, std::size_t count) {
  at::Tensor sum = tensor_over({to, count}, device_);
  at::add_out(sum, tensor_over({const_cast<float*>(left), count}, device_),
              tensor_over({const_cast<float*>(right), count}, device_));
}

void DeviceMemory::wait() {
  if (device_.is_cpu()) return;
  const c10::impl::VirtualGuardImpl guard(device_.type());
  guard.synchronizeStream(guard.getStream(device_));
}

}  // namespace gru4rec

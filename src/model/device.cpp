#include "gru4rec/model/device.h"

#include <ATen/Context.h>
#include <ATen/ops/empty.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include "gru4rec/base/error.h"

namespace gru4rec {
namespace {

thread_local int tensor_kernels_scopes = 0;

}  // namespace

at::Device compute_device(DeviceKind kind, int local_rank) {
  if (kind == DeviceKind::cpu) return at::kCPU;
  if (!c10::impl::hasDeviceGuardImpl(at::kCUDA))
    throw UserError(
        "device: got cuda, but this program was built with a LibTorch that has no CUDA. Build it with the CUDA one "
        "(launch/setup.sh --cuda, cmake --preset cuda), or set device to cpu.");
  const auto devices = static_cast<int>(at::getNumGPUs());
  if (devices == 0)
    throw UserError(
        "device: got cuda, wanted at least one GPU, but none is visible here. Look at nvidia-smi, the driver and "
        "CUDA_VISIBLE_DEVICES, or set device to cpu.");
  const at::Device device(at::kCUDA, static_cast<at::DeviceIndex>(local_rank % devices));
  c10::impl::VirtualGuardImpl(at::kCUDA).setDevice(device);
  return device;
}

bool uses_tensor_kernels(at::Device device) { return !device.is_cpu() || tensor_kernels_scopes > 0; }

TensorKernelsScope::TensorKernelsScope() { ++tensor_kernels_scopes; }
TensorKernelsScope::~TensorKernelsScope() { --tensor_kernels_scopes; }

at::Tensor uploaded(const at::Tensor& host, at::Device device) {
  return device.is_cpu() ? host : host.pin_memory().to(device, host.scalar_type(), /*non_blocking=*/true);
}

at::Tensor downloaded(const at::Tensor& tensor) {
  if (tensor.is_cpu()) return tensor;
  at::Tensor host = at::empty(tensor.sizes(), at::TensorOptions(tensor.scalar_type()).pinned_memory(true));
  return host.copy_(tensor);
}

}  // namespace gru4rec

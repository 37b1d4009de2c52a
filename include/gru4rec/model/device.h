// Where a model computes: on the processor, or on a GPU.
//
// On the processor the work between matrix products is done by loops over memory (model/row_kernels.h, model/gru_kernels.h).
// Elsewhere the same algorithm is made of ATen operations (model/tensor_kernels.h), which run wherever their tensors are.
// Parameters that others see stay in the memory of the host, and gradients unless NCCL carries them (train/device_memory.h).
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include "gru4rec/base/options.h"

namespace gru4rec {

// The device that `kind` means for rank `local_rank` of this host: of several GPUs each rank takes the next one, in turn. It
// becomes the thread's current one. Throws UserError if it is not there. Local.
at::Device compute_device(DeviceKind kind, int local_rank);

// Whether work on tensors of `device` is made of ATen operations.
bool uses_tensor_kernels(at::Device device);
inline bool uses_tensor_kernels(const at::Tensor& tensor) { return uses_tensor_kernels(tensor.device()); }

// While one lives, this thread works on the processor's tensors as on those of another device: for tests where there is no GPU.
class TensorKernelsScope {
 public:
  TensorKernelsScope();
  ~TensorKernelsScope();
  TensorKernelsScope(const TensorKernelsScope&) = delete;
  TensorKernelsScope& operator=(const TensorKernelsScope&) = delete;
};

// `host` on `device`; itself if that is the processor. The copy goes through pinned memory, so that neither this call nor what
// is done with `host` afterwards has to wait for it. Local.
at::Tensor uploaded(const at::Tensor& host, at::Device device);
// `tensor` in the memory of the host; waits for the work it depends on. Local.
at::Tensor downloaded(const at::Tensor& tensor);

}  // namespace gru4rec

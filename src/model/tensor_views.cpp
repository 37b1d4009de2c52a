#include "gru4rec/model/tensor_views.h"

#include <c10/core/TensorImpl.h>

#include <utility>

#include "gru4rec/base/error.h"

namespace gru4rec {

at::Tensor view_at(const at::Tensor& memory, int64_t offset, at::IntArrayRef shape) {
  int64_t values = 1;
  for (const int64_t size : shape) values *= size;
  if (offset < 0 || offset + values > memory.numel() || !memory.is_contiguous())
    throw BugError("a view of {} values from value {} on was asked of a {}contiguous tensor that has {}", values, offset,
                   memory.is_contiguous() ? "" : "not ", memory.numel());
  const c10::TensorImpl& from = *memory.unsafeGetTensorImpl();
  auto view = from.shallow_copy_and_detach(from.version_counter(), /*allow_tensor_metadata_change=*/true);
  view->set_storage_offset(memory.storage_offset() + offset);
  view->set_sizes_contiguous(shape);
  return at::Tensor(std::move(view));
}

at::Tensor rows_at(const at::Tensor& tensor, int64_t first, int64_t count) {
  if (tensor.dim() == 1) return view_at(tensor, first, {count});
  const int64_t size = tensor.size(1);
  return view_at(tensor, first * size, {count, size});
}

}  // namespace gru4rec

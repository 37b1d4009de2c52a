// Parts of a contiguous tensor, without LibTorch's dispatcher: between two matrix products its code has left the cache, and
// narrow() and view() take microseconds then, as much as a product of few rows.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace gru4rec {

// The values of `memory` from its value `offset` on, in this shape: the same memory, as Tensor::narrow and view give it, but
// never part of an autograd graph. `memory` is contiguous and holds them. Any device; Local.
at::Tensor view_at(const at::Tensor& memory, int64_t offset, at::IntArrayRef shape);

// The rows [first, first + count) of a contiguous tensor of one dimension or two.
at::Tensor rows_at(const at::Tensor& tensor, int64_t first, int64_t count);

}  // namespace gru4rec

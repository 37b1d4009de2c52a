// Adding gradients to rows of the item table.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "gru4rec/model/device.h"
#include "gru4rec/model/tensor_kernels.h"

namespace gru4rec {

// Adds row i of `rows` [n, E] to row ids[i] of `table` [items + 1, E], one after the other, so that the sum of rows with one id
// has one order. ids int64 [n]; table and ids are contiguous. fp32. Local.
inline void add_rows(const at::Tensor& rows, const at::Tensor& ids, at::Tensor& table) {
  if (uses_tensor_kernels(table)) return tensor_kernels::add_rows(rows, ids, table);
  const at::Tensor plain = rows.contiguous();
  const int64_t size = plain.size(1);
  const float* source = plain.const_data_ptr<float>();
  const int64_t* id = ids.const_data_ptr<int64_t>();
  float* first = table.data_ptr<float>();
  for (int64_t i = 0; i < plain.size(0); ++i, source += size) {
    float* row = first + id[i] * size;
    for (int64_t e = 0; e < size; ++e) row[e] += source[e];
  }
}

}  // namespace gru4rec

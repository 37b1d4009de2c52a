#include "gru4rec/model/table_rows.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/mul.h>

#include <algorithm>

#include "gru4rec/base/error.h"
#include "gru4rec/model/device.h"
#include "gru4rec/model/row_kernels.h"
#include "gru4rec/model/tensor_kernels.h"

namespace gru4rec {

using at::Tensor;

namespace {

constexpr int64_t kRowsAhead = 4;  // that are asked for

// Where row `id` begins.
template <typename Float>
Float* row_of(Float* table, int64_t rows, int64_t size, int64_t id) {
  if (id < 0 || id >= rows) throw BugError("row {} of a table of {} rows was asked for", id, rows);
  return table + id * size;
}

}  // namespace

Tensor rows_of_ids(const Tensor& table, const Tensor& ids, const Tensor& factors) {
  if (uses_tensor_kernels(table)) {
    Tensor rows = table.index_select(0, ids);
    return factors.defined() ? rows.mul_(factors) : rows;
  }
  const int64_t size = table.size(1);
  Tensor rows = at::empty({ids.size(0), size}, table.options());
  const float* first = table.const_data_ptr<float>();
  const float* factor = factors.defined() ? factors.const_data_ptr<float>() : nullptr;
  const int64_t* id = ids.const_data_ptr<int64_t>();
  float* out = rows.data_ptr<float>();
  for (int64_t i = 0; i < ids.size(0); ++i) {
    if (i + kRowsAhead < ids.size(0)) fetch(first + id[i + kRowsAhead] * size, size);
    const float* row = row_of(first, table.size(0), size, id[i]);
    factor ? multiply(row, factor + i * size, out + i * size, size) : void(std::copy_n(row, size, out + i * size));
  }
  return rows;
}

void add_rows(const Tensor& rows, const Tensor& ids, Tensor& table, const Tensor& factors) {
  if (uses_tensor_kernels(table))
    return tensor_kernels::add_rows(factors.defined() ? at::mul(rows, factors) : rows, ids, table);
  const Tensor plain = rows.contiguous();
  const int64_t size = plain.size(1);
  const float* row = plain.const_data_ptr<float>();
  const float* factor = factors.defined() ? factors.const_data_ptr<float>() : nullptr;
  const int64_t* id = ids.const_data_ptr<int64_t>();
  float* first = table.data_ptr<float>();
  for (int64_t i = 0; i < plain.size(0); ++i) {
    if (i + kRowsAhead < plain.size(0)) fetch(first + id[i + kRowsAhead] * size, size);
    float* out = row_of(first, table.size(0), size, id[i]);
    factor ? add_products(row + i * size, factor + i * size, out, size) : add_scaled(1.0f, row + i * size, out, size);
  }
}

}  // namespace gru4rec

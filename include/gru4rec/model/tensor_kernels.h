// The loops of model/gru_kernels.h, model/row_kernels.h and model/table_rows.h as ATen operations, for tensors of any device
// (model/device.h). The same formulas in the same order where an order is promised; other bits. No call waits for the device.
// fp32; views may have strides. Local.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace gru4rec::tensor_kernels {

// One time step of a GRU, one row a sequence that is still running; fields as in model/gru_kernels.h.
struct GruForwardStep {
  at::Tensor gates;               // [rows, 3·hidden] W_i x; becomes r, z, n
  at::Tensor recurrent;           // [rows, 3·hidden] W_h h; undefined: h is zero
  at::Tensor before;              // [rows, hidden] h; undefined with it
  at::Tensor recurrent_n, after;  // [rows, hidden] out
};
void gru_forward_step(const GruForwardStep& step);

struct GruBackwardStep {
  at::Tensor gates;        // [rows, 3·hidden] r, z, n
  at::Tensor recurrent_n;  // [rows, hidden]
  at::Tensor before;       // [rows, hidden] h; undefined: it is zero
  at::Tensor grad;         // [rows, hidden]
  at::Tensor carried;      // [rows, hidden], in and out
  int64_t carried_rows;
  at::Tensor grad_input, grad_recurrent;  // [rows, 3·hidden] out
  at::Tensor kept_before;                 // [rows, hidden] out
};
void gru_backward_step(const GruBackwardStep& step);

// scores [rows, columns] become exp(score - max of the row); max and sum [rows] out.
void exp_rows(const at::Tensor& scores, at::Tensor& max, at::Tensor& sum);

// Adds row i of `rows` [n, E] to row ids[i] of `table`, ids int64 [n]. Rows with one id are added in their order: CUDA sorts
// the ids for that, so that the sum has the same bits each time.
void add_rows(const at::Tensor& rows, const at::Tensor& ids, at::Tensor& table);

}  // namespace gru4rec::tensor_kernels

// Rows of a matrix by their ids: of the item table, or of states. On the processor an id beyond the matrix throws BugError.
#pragma once

#include <ATen/core/Tensor.h>

namespace gru4rec {

// [n, E]: row ids[i] of `table` [rows, E], multiplied by row i of `factors` [n, E] if those are defined. ids int64 [n].
// All are contiguous, fp32, on one device. Local.
at::Tensor rows_of_ids(const at::Tensor& table, const at::Tensor& ids, const at::Tensor& factors = {});

// Adds row i of `rows` [n, E], multiplied by row i of `factors` [n, E] if those are defined, to row ids[i] of `table`, one
// after the other, so that the sum of rows with one id has one order. A product is rounded before it is added. Local.
void add_rows(const at::Tensor& rows, const at::Tensor& ids, at::Tensor& table, const at::Tensor& factors = {});

}  // namespace gru4rec

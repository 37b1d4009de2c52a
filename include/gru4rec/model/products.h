// Matrix products in the precision that a run trains with.
//
// bf16 means that both operands are rounded to bf16 (8 bits of mantissa, to nearest, ties to even); their products and sums are
// fp32, and so is the result. Processors with AMX multiply so, several times as fast as in fp32, and those with
// the bf16 of AVX-512, about twice as fast; elsewhere the same is done in fp32 on rounded operands: no faster, but the same
// mathematics. On a GPU the library multiplies bf16.
#pragma once

#include <ATen/core/Tensor.h>

#include "gru4rec/base/options.h"

namespace gru4rec {

// Whether this processor multiplies bf16 by itself, within the instruction set that train/determinism.h has pinned. Asked once.
// Local.
bool bf16_in_hardware();

// a [m, k] · b [k, n] → [m, n], all fp32. `precision` is fp32 or bf16. Local.
at::Tensor product(const at::Tensor& a, const at::Tensor& b, Precision precision);
// sum [m, n] += a · b
void add_product(at::Tensor& sum, const at::Tensor& a, const at::Tensor& b, Precision precision);

// The following take `rows` rows of a matrix from a row on, because a view of them as a tensor costs about as much as a product
// of few rows. Matrices are contiguous.

// sum [m, n] += aᵀ · b for the rows of a [, m] from a_row and of b [, n] from b_row.
void add_product_of_rows(at::Tensor& sum, const at::Tensor& a, int64_t a_row, const at::Tensor& b, int64_t b_row, int64_t rows,
                         Precision precision);

// Many products with one right operand b [k, n], which is rounded and laid out once. Local.
class RepeatedProduct {
 public:
  RepeatedProduct(const at::Tensor& b, Precision precision);
  // The rows of out [, n] from out_row = those of a [, k] from a_row, times b; or += if `add`.
  void operator()(const at::Tensor& out, int64_t out_row, const at::Tensor& a, int64_t a_row, int64_t rows,
                  bool add = false) const;

 private:
  at::Tensor b_;          // fp32
  at::Tensor in_tiles_;   // as the processor's tiles take it, where they are used
  bool rounded_ = false;  // in each product
};

// out [m, n] = a · b, or += if `add`; a [m, k] and b [k, n] are fp32 and rounded to bf16 here. Local.
void bf16_product(at::Tensor& out, const at::Tensor& a, const at::Tensor& b, bool add = false);

}  // namespace gru4rec

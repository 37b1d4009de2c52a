// Pointwise loops over rows of floats, for what stands between matrix products.
//
// Sums run in 16 lanes, whatever the width of the processor's vectors, and all is made of single IEEE operations and fused
// multiply-adds: the same bits with AVX-512, AVX2 and neither.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "gru4rec/base/random.h"

namespace gru4rec {

// For each row of scores [rows, columns], contiguous: max[i] = the largest score, scores[i, j] = exp(scores[i, j] - max[i]),
// and sum[i] their sum. exp is a polynomial of degree 7 after reduction by ln 2 (Cephes, expf), within 2 ulp; below exp(-87) it
// is 0. A NaN in a row makes its sum NaN. Local.
void exp_rows(float* scores, int64_t rows, int64_t columns, float* max, float* sum);
// The same for tensors of any device (model/device.h): scores [rows, columns], max and sum [rows].
void exp_rows(const at::Tensor& scores, at::Tensor& max, at::Tensor& sum);

// Σ a[i] b[i]. Local.
float dot(const float* a, const float* b, int64_t size);

// out[i] += factor · row[i], the product rounded before it is added. `row` and `out` do not overlap. Local.
void add_scaled(float factor, const float* row, float* out, int64_t size);
// out[i] = a[i] · b[i], or += , the product rounded before it is added. `out` overlaps neither. Local.
void multiply(const float* a, const float* b, float* out, int64_t size);
void add_products(const float* a, const float* b, float* out, int64_t size);

// Asks for `count` values that are used a little later and lie where the processor does not foresee it.
inline void fetch(const float* values, int64_t count) {
  constexpr int64_t kOfACacheLine = 16;
  for (int64_t i = 0; i < count; i += kOfACacheLine) __builtin_prefetch(values + i);
}

// sum += values, for contiguous tensors of any device. Local.
void add_to(const at::Tensor& sum, const at::Tensor& values);

// One row of a dropout mask: out[i] = 0 where 32 random bits are below `dropped`, else `kept`. Element 2i has the low bits of
// stream.bits(i), element 2i + 1 the high ones. Local.
void dropout_row(const Stream& stream, uint32_t dropped, float kept, float* out, int64_t size);

// The same for one instruction set. Those that this processor has, the one that is used first.
struct RowKernels {
  const char* name;
  void (*exp_rows)(float* scores, int64_t rows, int64_t columns, float* max, float* sum);
  float (*dot)(const float* a, const float* b, int64_t size);
  void (*add_scaled)(float factor, const float* row, float* out, int64_t size);
  void (*multiply)(const float* a, const float* b, float* out, int64_t size);
  void (*add_products)(const float* a, const float* b, float* out, int64_t size);
  void (*dropout_row)(const Stream& stream, uint32_t dropped, float kept, float* out, int64_t size);
};
const std::vector<RowKernels>& row_kernels();

}  // namespace gru4rec

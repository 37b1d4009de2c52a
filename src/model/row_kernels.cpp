#include "gru4rec/model/row_kernels.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "gru4rec/base/error.h"
#include "gru4rec/model/device.h"
#include "gru4rec/model/tensor_kernels.h"
#include "vector_math.h"

namespace gru4rec {
namespace {

constexpr int64_t kLanes = 16;

GRU4REC_INLINE float sum_of(float (&lane)[kLanes]) {
  for (int64_t step = kLanes / 2; step > 0; step /= 2)
    for (int64_t k = 0; k < step; ++k) lane[k] += lane[k + step];
  return lane[0];
}

GRU4REC_INLINE void row_of(float* __restrict score, int64_t columns, float* max_out, float* sum_out) {
  const int64_t whole = columns - columns % kLanes;
  float lane[kLanes];
  for (float& value : lane) value = -std::numeric_limits<float>::infinity();
  for (int64_t j = 0; j < whole; j += kLanes)
    for (int64_t k = 0; k < kLanes; ++k) lane[k] = score[j + k] > lane[k] ? score[j + k] : lane[k];
  for (int64_t j = whole; j < columns; ++j) lane[j - whole] = score[j] > lane[j - whole] ? score[j] : lane[j - whole];
  float max = lane[0];
  for (int64_t k = 1; k < kLanes; ++k) max = lane[k] > max ? lane[k] : max;

  for (float& value : lane) value = 0.0f;
  for (int64_t j = 0; j < whole; j += kLanes)
    for (int64_t k = 0; k < kLanes; ++k) {
      const float value = exp_of(score[j + k] - max);
      score[j + k] = value;
      lane[k] += value;
    }
  for (int64_t j = whole; j < columns; ++j) {
    const float value = exp_of(score[j] - max);
    score[j] = value;
    lane[j - whole] += value;
  }
  *max_out = max;
  *sum_out = sum_of(lane);
}

GRU4REC_INLINE void all_rows(float* scores, int64_t rows, int64_t columns, float* max, float* sum) {
  for (int64_t i = 0; i < rows; ++i) row_of(scores + i * columns, columns, max + i, sum + i);
}

GRU4REC_INLINE float dot_of(const float* a, const float* b, int64_t size) {
  float lane[kLanes] = {};
  const int64_t whole = size - size % kLanes;
  for (int64_t i = 0; i < whole; i += kLanes)
    for (int64_t k = 0; k < kLanes; ++k) lane[k] = __builtin_fmaf(a[i + k], b[i + k], lane[k]);
  for (int64_t i = whole; i < size; ++i) lane[i - whole] = __builtin_fmaf(a[i], b[i], lane[i - whole]);
  return sum_of(lane);
}

GRU4REC_INLINE void scaled_to(float factor, const float* __restrict row, float* __restrict out, int64_t size) {
  for (int64_t i = 0; i < size; ++i) out[i] += factor * row[i];
}

GRU4REC_INLINE void product_of(const float* __restrict a, const float* __restrict b, float* __restrict out, int64_t size) {
  for (int64_t i = 0; i < size; ++i) out[i] = a[i] * b[i];
}

GRU4REC_INLINE void products_to(const float* __restrict a, const float* __restrict b, float* __restrict out, int64_t size) {
  for (int64_t i = 0; i < size; ++i) out[i] += a[i] * b[i];
}

GRU4REC_INLINE void dropout_of(const Stream& stream, uint32_t dropped, float kept, float* __restrict out, int64_t size) {
  constexpr int64_t kAtOnce = 128;
  uint64_t bits[kAtOnce / 2];
  uint32_t halves[kAtOnce];
  for (int64_t first = 0; first < size; first += kAtOnce) {
    const int64_t count = std::min(kAtOnce, size - first);
    for (int64_t i = 0; i < (count + 1) / 2; ++i) bits[i] = stream.bits(static_cast<uint64_t>(first / 2 + i));
    std::memcpy(halves, bits, sizeof(bits));  // the low half first, as on every processor this is for
    for (int64_t i = 0; i < count; ++i) out[first + i] = halves[i] < dropped ? 0.0f : kept;
  }
}
static_assert(std::endian::native == std::endian::little);

// One set of functions for each instruction set.
#define GRU4REC_KERNELS(name, ...)                                                                                    \
  __VA_ARGS__ void exp_rows_##name(float* scores, int64_t rows, int64_t columns, float* max, float* sum) {            \
    all_rows(scores, rows, columns, max, sum);                                                                        \
  }                                                                                                                   \
  __VA_ARGS__ float dot_##name(const float* a, const float* b, int64_t size) { return dot_of(a, b, size); }           \
  __VA_ARGS__ void add_scaled_##name(float factor, const float* row, float* out, int64_t size) {                      \
    scaled_to(factor, row, out, size);                                                                                \
  }                                                                                                                   \
  __VA_ARGS__ void multiply_##name(const float* a, const float* b, float* out, int64_t size) {                        \
    product_of(a, b, out, size);                                                                                      \
  }                                                                                                                   \
  __VA_ARGS__ void add_products_##name(const float* a, const float* b, float* out, int64_t size) {                    \
    products_to(a, b, out, size);                                                                                     \
  }                                                                                                                   \
  __VA_ARGS__ void dropout_row_##name(const Stream& stream, uint32_t dropped, float kept, float* out, int64_t size) { \
    dropout_of(stream, dropped, kept, out, size);                                                                     \
  }                                                                                                                   \
  constexpr RowKernels name{#name,           exp_rows_##name,     dot_##name,        add_scaled_##name,               \
                            multiply_##name, add_products_##name, dropout_row_##name};

GRU4REC_KERNELS(avx512, GRU4REC_AVX512)
GRU4REC_KERNELS(avx2, GRU4REC_AVX2)
GRU4REC_KERNELS(baseline, [[]])

}  // namespace

const std::vector<RowKernels>& row_kernels() {
  static const std::vector<RowKernels> those_of_this_processor = of_this_processor<RowKernels>(avx512, avx2, baseline);
  return those_of_this_processor;
}

void exp_rows(float* scores, int64_t rows, int64_t columns, float* max, float* sum) {
  static const RowKernels chosen = row_kernels().front();
  const int64_t rows_of_a_thread = 1 + 32768 / std::max<int64_t>(1, columns);
  at::parallel_for(0, rows, rows_of_a_thread, [&](int64_t first, int64_t last) {
    chosen.exp_rows(scores + first * columns, last - first, columns, max + first, sum + first);
  });
}

void exp_rows(const at::Tensor& scores, at::Tensor& max, at::Tensor& sum) {
  if (uses_tensor_kernels(scores)) return tensor_kernels::exp_rows(scores, max, sum);
  exp_rows(scores.data_ptr<float>(), scores.size(0), scores.size(1), max.data_ptr<float>(), sum.data_ptr<float>());
}

float dot(const float* a, const float* b, int64_t size) {
  static const RowKernels chosen = row_kernels().front();
  return chosen.dot(a, b, size);
}

void add_scaled(float factor, const float* row, float* out, int64_t size) {
  static const RowKernels chosen = row_kernels().front();
  chosen.add_scaled(factor, row, out, size);
}

void add_to(const at::Tensor& sum, const at::Tensor& values) {
  if (uses_tensor_kernels(sum)) return void(sum.add_(values));
  if (values.numel() != sum.numel() || !values.is_contiguous() || !sum.is_contiguous())
    throw BugError("{} values were to be added to {}, and both have to be contiguous", values.numel(), sum.numel());
  add_scaled(1.0f, values.const_data_ptr<float>(), sum.data_ptr<float>(), sum.numel());
}

void multiply(const float* a, const float* b, float* out, int64_t size) {
  static const RowKernels chosen = row_kernels().front();
  chosen.multiply(a, b, out, size);
}

void add_products(const float* a, const float* b, float* out, int64_t size) {
  static const RowKernels chosen = row_kernels().front();
  chosen.add_products(a, b, out, size);
}

void dropout_row(const Stream& stream, uint32_t dropped, float kept, float* out, int64_t size) {
  static const RowKernels chosen = row_kernels().front();
  chosen.dropout_row(stream, dropped, kept, out, size);
}

}  // namespace gru4rec

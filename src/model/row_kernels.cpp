#include "gru4rec/model/row_kernels.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

namespace gru4rec {
namespace {

constexpr int64_t kLanes = 16;

// Compiled once for each instruction set below: always_inline takes over the target of its caller.
#define GRU4REC_INLINE [[gnu::always_inline]] inline

GRU4REC_INLINE float exp_of(float x) {
  constexpr float kLowest = -87.0f;      // exp of less is denormal or 0
  constexpr float kRound = 12582912.0f;  // 1.5 · 2^23: adding it rounds to an integer in the low bits
  const bool vanishes = x < kLowest;
  const float y = vanishes ? kLowest : x;
  const float shifted = __builtin_fmaf(y, 1.44269504088896341f, kRound);
  const float n = shifted - kRound;
  float r = __builtin_fmaf(n, -0.693359375f, y);
  r = __builtin_fmaf(n, 2.12194440e-4f, r);
  float p = 1.9875691500e-4f;
  p = __builtin_fmaf(p, r, 1.3981999507e-3f);
  p = __builtin_fmaf(p, r, 8.3334519073e-3f);
  p = __builtin_fmaf(p, r, 4.1665795894e-2f);
  p = __builtin_fmaf(p, r, 1.6666665459e-1f);
  p = __builtin_fmaf(p, r, 5.0000001201e-1f);
  p = __builtin_fmaf(p, r * r, r) + 1.0f;
  const uint32_t power = std::bit_cast<uint32_t>(shifted) - std::bit_cast<uint32_t>(kRound);
  const float result = p * std::bit_cast<float>((power + 127u) << 23);  // a product, so that NaN stays NaN
  return vanishes ? 0.0f : result;
}

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

// One set of functions for each instruction set.
#define GRU4REC_KERNELS(name, ...)                                                                          \
  __VA_ARGS__ void exp_rows_##name(float* scores, int64_t rows, int64_t columns, float* max, float* sum) {  \
    all_rows(scores, rows, columns, max, sum);                                                              \
  }                                                                                                         \
  __VA_ARGS__ float dot_##name(const float* a, const float* b, int64_t size) { return dot_of(a, b, size); } \
  constexpr RowKernels name{#name, exp_rows_##name, dot_##name};

GRU4REC_KERNELS(avx512, [[gnu::target("avx512f,avx512vl,avx512dq,avx512bw,avx2,fma,prefer-vector-width=512")]])
GRU4REC_KERNELS(avx2, [[gnu::target("avx2,fma")]])
GRU4REC_KERNELS(baseline, [[]])

}  // namespace

const std::vector<RowKernels>& row_kernels() {
  static const std::vector<RowKernels> those_of_this_processor = [] {
    __builtin_cpu_init();
    std::vector<RowKernels> all;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq"))
      all.push_back(avx512);
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) all.push_back(avx2);
    all.push_back(baseline);
    return all;
  }();
  return those_of_this_processor;
}

void exp_rows(float* scores, int64_t rows, int64_t columns, float* max, float* sum) {
  static const RowKernels chosen = row_kernels().front();
  const int64_t rows_of_a_thread = 1 + 32768 / std::max<int64_t>(1, columns);
  at::parallel_for(0, rows, rows_of_a_thread, [&](int64_t first, int64_t last) {
    chosen.exp_rows(scores + first * columns, last - first, columns, max + first, sum + first);
  });
}

float dot(const float* a, const float* b, int64_t size) {
  static const RowKernels chosen = row_kernels().front();
  return chosen.dot(a, b, size);
}

}  // namespace gru4rec

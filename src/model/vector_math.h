// Functions of one float out of single IEEE operations and fused multiply-adds, for loops that the compiler vectorises: the
// same bits whatever the width of the vectors.
#pragma once

#include <bit>
#include <cstdint>

#include "gru4rec/base/instruction_sets.h"

namespace gru4rec {

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

// Within 3 ulp; from below without cancellation, as 1 / (1 + exp(-x)) is for x < 0 too.
GRU4REC_INLINE float sigmoid_of(float x) {
  const float e = exp_of(-__builtin_fabsf(x));  // at most 1: no overflow
  return (x < 0 ? e : 1.0f) / (1.0f + e);       // one division, which takes as long as an exponential
}

// Within 3 ulp: a series where the quotient would cancel.
GRU4REC_INLINE float tanh_of(float x) {
  const float size = __builtin_fabsf(x);
  const float e = exp_of(-2.0f * size);
  const float far = (1.0f - e) / (1.0f + e);
  const float square = x * x;
  float p = -8.8632355e-3f;  // -1382/155925
  p = __builtin_fmaf(p, square, 2.1869488e-2f);
  p = __builtin_fmaf(p, square, -5.3968254e-2f);
  p = __builtin_fmaf(p, square, 1.3333333e-1f);
  p = __builtin_fmaf(p, square, -3.3333333e-1f);
  const float near = __builtin_fmaf(p * square, size, size);
  return __builtin_copysignf(size < 0.35f ? near : far, x);
}

}  // namespace gru4rec

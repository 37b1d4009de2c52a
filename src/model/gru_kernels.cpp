#include "gru4rec/model/gru_kernels.h"

#include <ATen/Parallel.h>

#include <algorithm>

#include "gru4rec/model/row_kernels.h"
#include "vector_math.h"

namespace gru4rec {
namespace {

// kFirst: there is no state yet; `recurrent` and `before` are not read.
template <bool kFirst>
GRU4REC_INLINE void forward_row(int64_t hidden, float* __restrict gates, const float* __restrict recurrent,
                                const float* __restrict before, float* __restrict recurrent_n, float* __restrict after) {
  float* __restrict r = gates;
  float* __restrict z = gates + hidden;
  float* __restrict n = gates + 2 * hidden;
  for (int64_t k = 0; k < hidden; ++k) {
    const float h = kFirst ? 0.0f : before[k];
    const float product_n = kFirst ? 0.0f : recurrent[2 * hidden + k];
    r[k] = sigmoid_of(kFirst ? r[k] : r[k] + recurrent[k]);
    z[k] = sigmoid_of(kFirst ? z[k] : z[k] + recurrent[hidden + k]);
    n[k] = tanh_of(__builtin_fmaf(r[k], product_n, n[k]));
    recurrent_n[k] = product_n;
    after[k] = __builtin_fmaf(z[k], h - n[k], n[k]);
  }
}

template <bool kFirst>
GRU4REC_INLINE void forward_rows(const GruForwardStep& s) {
  for (int64_t i = 0; i < s.rows; ++i)
    forward_row<kFirst>(s.hidden, s.gates + 3 * i * s.hidden, kFirst ? nullptr : s.recurrent + 3 * i * s.hidden,
                        kFirst ? nullptr : s.before + i * s.hidden, s.recurrent_n + i * s.hidden, s.after + i * s.hidden);
}

GRU4REC_INLINE void forward_step(const GruForwardStep& s) { s.recurrent ? forward_rows<false>(s) : forward_rows<true>(s); }

template <bool kFirst>
GRU4REC_INLINE void backward_row(int64_t hidden, const float* __restrict gates, const float* __restrict recurrent_n,
                                 const float* __restrict before, const float* __restrict grad, float* __restrict carried,
                                 bool has_carried, float* __restrict grad_input, float* __restrict grad_recurrent,
                                 float* __restrict kept_before) {
  for (int64_t k = 0; k < hidden; ++k) {
    const float r = gates[k], z = gates[hidden + k], n = gates[2 * hidden + k];
    const float h = kFirst ? 0.0f : before[k];
    const float g = has_carried ? grad[k] + carried[k] : grad[k];
    carried[k] = g * z;
    const float grad_n = __builtin_fmaf(-g, z, g) * __builtin_fmaf(-n, n, 1.0f);  // through tanh
    const float grad_z = g * (h - n) * __builtin_fmaf(-z, z, z);                  // through the sigmoids
    const float grad_r = grad_n * recurrent_n[k] * __builtin_fmaf(-r, r, r);
    grad_input[k] = grad_r;
    grad_input[hidden + k] = grad_z;
    grad_input[2 * hidden + k] = grad_n;
    grad_recurrent[k] = grad_r;
    grad_recurrent[hidden + k] = grad_z;
    grad_recurrent[2 * hidden + k] = grad_n * r;
    kept_before[k] = h;
  }
}

constexpr int64_t kRowsAhead = 4;  // of what the forward pass left, which is far away by now

template <bool kFirst>
GRU4REC_INLINE void backward_rows(const GruBackwardStep& s) {
  for (int64_t i = 0; i < s.rows; ++i) {
    if (const int64_t next = i + kRowsAhead; next < s.rows + s.rows_to_come) {
      fetch(s.gates + 3 * next * s.hidden, 3 * s.hidden);
      fetch(s.recurrent_n + next * s.hidden, s.hidden);
      fetch(s.grad + next * s.hidden, s.hidden);
    }
    backward_row<kFirst>(s.hidden, s.gates + 3 * i * s.hidden, s.recurrent_n + i * s.hidden,
                         kFirst ? nullptr : s.before + i * s.hidden, s.grad + i * s.hidden, s.carried + i * s.hidden,
                         i < s.carried_rows, s.grad_input + 3 * i * s.hidden, s.grad_recurrent + 3 * i * s.hidden,
                         s.kept_before + i * s.hidden);
  }
}

GRU4REC_INLINE void backward_step(const GruBackwardStep& s) { s.before ? backward_rows<false>(s) : backward_rows<true>(s); }

// One set of functions for each instruction set.
#define GRU4REC_KERNELS(name, ...)                                                       \
  __VA_ARGS__ void forward_##name(const GruForwardStep& step) { forward_step(step); }    \
  __VA_ARGS__ void backward_##name(const GruBackwardStep& step) { backward_step(step); } \
  constexpr GruKernels name{#name, forward_##name, backward_##name};

GRU4REC_KERNELS(avx512, GRU4REC_AVX512)
GRU4REC_KERNELS(avx2, GRU4REC_AVX2)
GRU4REC_KERNELS(baseline, [[]])

int64_t rows_of_a_thread(int64_t hidden) { return 1 + 8192 / std::max<int64_t>(1, hidden); }

}  // namespace

const std::vector<GruKernels>& gru_kernels() {
  static const std::vector<GruKernels> those_of_this_processor = of_this_processor<GruKernels>(avx512, avx2, baseline);
  return those_of_this_processor;
}

void gru_forward_step(const GruForwardStep& step) {
  static const GruKernels chosen = gru_kernels().front();
  at::parallel_for(0, step.rows, rows_of_a_thread(step.hidden), [&](int64_t first, int64_t last) {
    const int64_t h = first * step.hidden;
    chosen.forward({.rows = last - first,
                    .hidden = step.hidden,
                    .gates = step.gates + 3 * h,
                    .recurrent = step.recurrent ? step.recurrent + 3 * h : nullptr,
                    .before = step.recurrent ? step.before + h : nullptr,
                    .recurrent_n = step.recurrent_n + h,
                    .after = step.after + h});
  });
}

GruBackwardStep GruBackwardStep::part(int64_t at, int64_t count) const {
  const int64_t h = at * hidden;
  return {.rows = count,
          .hidden = hidden,
          .gates = gates + 3 * h,
          .recurrent_n = recurrent_n + h,
          .before = before ? before + h : nullptr,
          .grad = grad + h,
          .carried = carried + h,
          .carried_rows = carried_rows - at,
          .grad_input = grad_input ? grad_input + 3 * h : nullptr,
          .grad_recurrent = grad_recurrent ? grad_recurrent + 3 * h : nullptr,
          .kept_before = kept_before + h,
          .rows_to_come = rows - at - count + rows_to_come};
}

void gru_backward_step(const GruBackwardStep& step) {
  static const GruKernels chosen = gru_kernels().front();
  at::parallel_for(0, step.rows, rows_of_a_thread(step.hidden), [&](int64_t first, int64_t last) {
    chosen.backward(step.part(first, last - first));
  });
}

}  // namespace gru4rec

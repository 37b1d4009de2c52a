#include "gru4rec/train/update_kernels.h"

#include <algorithm>
#include <cmath>

#include "gru4rec/base/instruction_sets.h"

namespace gru4rec {
namespace {

constexpr size_t kPiece = 1024;  // elements that go through all loops while they are in the first-level cache

// g[i] = the sum of the gradient's parts, divided and clipped.
GRU4REC_INLINE void gather(const UpdateRule& rule, const float* __restrict a, const float* __restrict b, float* __restrict g,
                           size_t size) {
  const float divisor = rule.divisor, clip = rule.clip;
  if (a && b) {
    for (size_t i = 0; i < size; ++i) g[i] = (a[i] + b[i]) / divisor * clip;
  } else if (a) {
    for (size_t i = 0; i < size; ++i) g[i] = a[i] / divisor * clip;
  } else {
    for (size_t i = 0; i < size; ++i) g[i] = 0.0f / divisor * clip;
  }
}

GRU4REC_INLINE void step_of(const UpdateRule& rule, float* __restrict w, float* __restrict m, float* __restrict v,
                            const float* __restrict mean, size_t size) {
  const UpdateRule r = rule;  // a copy that no store can change
  switch (r.learner) {
    case Learner::adam:
    case Learner::sparse_adam:
      for (size_t i = 0; i < size; ++i) {
        const float g = mean[i] + r.decay * w[i];
        m[i] += r.rest1 * (g - m[i]);
        v[i] = r.beta2 * v[i] + r.rest2 * g * g;
        w[i] -= r.step_size * (m[i] / (std::sqrt(v[i]) / r.root_correction2 + r.epsilon));
      }
      return;
    case Learner::adamw:
      for (size_t i = 0; i < size; ++i) {
        const float kept = w[i] * r.kept;
        const float g = mean[i] + 0.0f * kept;  // so that a NaN of the weight stays one
        m[i] += r.rest1 * (g - m[i]);
        v[i] = r.beta2 * v[i] + r.rest2 * g * g;
        w[i] = kept - r.step_size * (m[i] / (std::sqrt(v[i]) / r.root_correction2 + r.epsilon));
      }
      return;
    case Learner::adagrad:
      for (size_t i = 0; i < size; ++i) {
        const float g = mean[i] + r.decay * w[i];
        v[i] += g * g;
        w[i] -= r.step_size * (g / (std::sqrt(v[i]) + 1e-10f));
      }
      return;
    case Learner::rmsprop:
      for (size_t i = 0; i < size; ++i) {
        const float g = mean[i] + r.decay * w[i];
        v[i] = 0.99f * v[i] + 0.01f * g * g;
        w[i] -= r.step_size * (g / (std::sqrt(v[i]) + r.epsilon));
      }
      return;
    case Learner::sgd:
      for (size_t i = 0; i < size; ++i) w[i] -= r.step_size * (mean[i] + r.decay * w[i]);
      return;
  }
}

GRU4REC_INLINE void follow(float rest, float* __restrict average, const float* __restrict w, size_t size) {
  for (size_t i = 0; i < size; ++i) average[i] += rest * (w[i] - average[i]);
}

GRU4REC_INLINE void update_range(const UpdateRule& rule, const UpdateRange& range) {
  float mean[kPiece];
  for (size_t at = 0; at < range.size; at += kPiece) {
    const size_t size = std::min(kPiece, range.size - at);
    gather(rule, range.gradient ? range.gradient + at : nullptr, range.other ? range.other + at : nullptr, mean, size);
    step_of(rule, range.weight + at, range.first + at, range.second + at, mean, size);
    if (range.average) follow(rule.average_rest, range.average + at, range.weight + at, size);
  }
}

GRU4REC_INLINE void average_range(const UpdateRule& rule, const UpdateRange& range) {
  if (range.average) follow(rule.average_rest, range.average, range.weight, range.size);
}

// One set of functions for each instruction set.
#define GRU4REC_UPDATE_KERNELS(set, ...)                                                                           \
  __VA_ARGS__ void update_##set(const UpdateRule& rule, const UpdateRange& range) { update_range(rule, range); }   \
  __VA_ARGS__ void average_##set(const UpdateRule& rule, const UpdateRange& range) { average_range(rule, range); } \
  constexpr UpdateKernels set{#set, update_##set, average_##set};

GRU4REC_UPDATE_KERNELS(avx512, GRU4REC_AVX512)
GRU4REC_UPDATE_KERNELS(avx2, GRU4REC_AVX2)
GRU4REC_UPDATE_KERNELS(baseline, [[]])

}  // namespace

const std::vector<UpdateKernels>& update_kernels() {
  static const std::vector<UpdateKernels> those_of_this_processor = of_this_processor<UpdateKernels>(avx512, avx2, baseline);
  return those_of_this_processor;
}

}  // namespace gru4rec

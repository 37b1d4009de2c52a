#include "gru4rec/comm/sum_memory.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>

#include "gru4rec/base/heap.h"
#include "gru4rec/base/instruction_sets.h"

namespace gru4rec {
namespace {

constexpr std::size_t kLine = 64;

// Wide loads, as what is added may lie in another core's cache, from where a core has only so many lines under way.
using Add = void (*)(float* to, const float* left, const float* right, std::size_t count);
GRU4REC_INLINE void add_all(float* to, const float* left, const float* right, std::size_t count) {
#pragma GCC ivdep
  for (std::size_t i = 0; i < count; ++i) to[i] = left[i] + right[i];
}
GRU4REC_AVX512 void add_avx512(float* to, const float* left, const float* right, std::size_t count) {
  add_all(to, left, right, count);
}
GRU4REC_AVX2 void add_avx2(float* to, const float* left, const float* right, std::size_t count) {
  add_all(to, left, right, count);
}
void add_baseline(float* to, const float* left, const float* right, std::size_t count) { add_all(to, left, right, count); }

class HostMemory : public SumMemory {
 public:
  float* allocate(std::size_t floats) override {
    const std::size_t bytes = std::max((floats * sizeof(float) + kLine - 1) / kLine * kLine, kLine);
    auto* memory = static_cast<float*>(std::aligned_alloc(kLine, bytes));
    if (memory == nullptr) throw std::bad_alloc();
    want_huge_pages(memory, bytes);
    std::memset(memory, 0, bytes);  // pages are there before the first step
    return memory;
  }
  void release(float* memory) override { std::free(memory); }

  void zero(std::span<float> values) override { std::fill(values.begin(), values.end(), 0.0F); }
  void add(float* to, const float* left, const float* right, std::size_t count) override {
    static const Add widest = of_this_processor<Add>(add_avx512, add_avx2, add_baseline).front();
    widest(to, left, right, count);
  }

  bool of_host() const override { return true; }
  std::size_t piece() const override { return 4096; }  // stays in the first-level cache
};

}  // namespace

SumMemory& host_memory() {
  static HostMemory memory;
  return memory;
}

}  // namespace gru4rec

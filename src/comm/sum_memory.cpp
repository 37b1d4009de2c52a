#include "gru4rec/comm/sum_memory.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>

#include "gru4rec/base/heap.h"

namespace gru4rec {
namespace {

constexpr std::size_t kLine = 64;

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
  // Each element by itself: the compiler may vectorise it, and the bits do not depend on how.
  void add(float* __restrict into, const float* __restrict from, std::size_t count) override {
    for (std::size_t i = 0; i < count; ++i) into[i] += from[i];
  }
  void copy(float* to, const float* from, std::size_t count) override { std::memcpy(to, from, count * sizeof(float)); }

  std::size_t piece() const override { return 4096; }  // stays in the first-level cache
};

}  // namespace

SumMemory& host_memory() {
  static HostMemory memory;
  return memory;
}

}  // namespace gru4rec

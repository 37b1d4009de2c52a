#include "gru4rec/base/heap.h"

#include <malloc.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>

namespace gru4rec {
namespace {

constexpr int kLargestBlock = 32 << 20;  // that the heap may have; the C library knows no larger limit
constexpr int kInHugePages = 256 << 20;  // address space; memory only as far as it is used
constexpr int kUsualGrowth = 128 << 10;  // beyond a block that does not fit
constexpr std::uintptr_t kHugePage = 2 << 20;

}  // namespace

void keep_freed_memory() {
  mallopt(M_MMAP_THRESHOLD, kLargestBlock);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
}

// The heap grows at once as far as it usually would bit by bit; what is new of it is asked for.
void grow_heap_in_huge_pages() {
  auto* before = static_cast<char*>(sbrk(0));
  mallopt(M_TOP_PAD, kInHugePages);
  void* volatile too_large_for_what_is_there = std::malloc(kLargestBlock - 4096);  // volatile, or the compiler leaves it out
  std::free(too_large_for_what_is_there);
  mallopt(M_TOP_PAD, kUsualGrowth);
  auto* after = static_cast<char*>(sbrk(0));
  if (after > before) want_huge_pages(before, static_cast<std::size_t>(after - before));
}

void want_huge_pages(void* memory, std::size_t bytes) {
  const auto begin = reinterpret_cast<std::uintptr_t>(memory);
  const std::uintptr_t first = (begin + kHugePage - 1) / kHugePage * kHugePage, last = (begin + bytes) / kHugePage * kHugePage;
  if (first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
}

void reserve_in_huge_pages(std::vector<float>& values, std::size_t floats) {
  if (values.capacity() >= floats) return;
  values.reserve(floats);
  want_huge_pages(values.data(), values.capacity() * sizeof(float));
}

}  // namespace gru4rec

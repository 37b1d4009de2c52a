// A training step that repeats takes no memory from the system, and what it reads again and again lies in huge pages.
#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include "gru4rec/base/heap.h"
#include "gru4rec/comm/sum_memory.h"
#include "gru4rec/model/gru4rec.h"
#include "gru4rec/train/optimizer.h"
#include "support/packed_batch.h"

namespace gru4rec {
namespace {

// What the kernel says of the memory that `address` is in: the flags of its line VmFlags, between blanks.
std::string flags_of(const void* address) {
  std::ifstream maps("/proc/self/smaps");
  bool inside = false;
  for (std::string line; std::getline(maps, line);) {
    unsigned long first = 0, last = 0;
    if (std::sscanf(line.c_str(), "%lx-%lx ", &first, &last) == 2)
      inside = first <= reinterpret_cast<unsigned long>(address) && reinterpret_cast<unsigned long>(address) < last;
    else if (inside && line.starts_with("VmFlags:"))
      return line.substr(8) + " ";
  }
  return "";
}

const char kPageOfThisTest = 0;

int64_t faults() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_minflt;
}

// Of a block of at least 8 MiB: two huge pages in. What begins in the rest of the former heap, which is less than one, begins before
// the first that could be asked for.
std::string flags_within(const void* block) { return flags_of(static_cast<const char*>(block) + (4 << 20)); }
bool asked_for_huge_pages(const void* block) { return flags_within(block).find(" hg ") != std::string::npos; }

TEST(SteadySteps, LieInHugePages) {
  if (!std::filesystem::exists("/sys/kernel/mm/transparent_hugepage"))
    GTEST_SKIP() << "this system has no huge pages to ask for";
  if (flags_of(&kPageOfThisTest).empty()) GTEST_SKIP() << "this system's /proc/self/smaps does not say what was asked for";
  keep_freed_memory();
  grow_heap_in_huge_pages();
  const auto of_heap = std::make_unique<char[]>(8 << 20);
  EXPECT_TRUE(asked_for_huge_pages(of_heap.get())) << flags_within(of_heap.get());
  // Larger than what the heap has: of each of these a block of its own.
  const Gru4Rec model({.catalogue = 200000, .embedding_size = 64});
  EXPECT_TRUE(asked_for_huge_pages(model.parameters().data()));
  const Optimizer optimizer(model.layout(), {});
  EXPECT_TRUE(asked_for_huge_pages(optimizer.first_moment().data()));
  EXPECT_TRUE(asked_for_huge_pages(optimizer.second_moment().data()));
  float* sum = host_memory().allocate(16 << 20);
  EXPECT_TRUE(asked_for_huge_pages(sum));
  host_memory().release(sum);
}

TEST(SteadySteps, FaultInNoMemory) {
  keep_freed_memory();
  at::set_num_threads(1);
  constexpr int64_t kCatalogue = 5000, kSteps = 10;
  for (const bool cosine : {false, true}) {
    Gru4Rec model({.catalogue = kCatalogue,
                   .embedding_size = 64,
                   .hidden_size = 128,
                   .dropout_prob = 0.3,
                   .output_dropout_prob = 0.3,
                   .cosine = cosine});
    model.initialise(1);
    Optimizer optimizer(model.layout(), {});
    std::vector<float> gradient(model.layout().gradient_floats());
    const Batch batch =
        testing::packed_batch(std::vector<int64_t>(60, 30), kCatalogue);  // activations of several MiB, scores of 20 MiB
    int64_t step = 0;
    const auto train = [&] {
      std::fill(gradient.begin(), gradient.end(), 0.0f);
      const LossSum loss = model.forward_backward(batch, {1, 0, step}, gradient);
      optimizer.step(model.parameters(), gradient, loss.count, ++step);
    };
    for (int i = 0; i < 40; ++i) train();  // until the heap has found its size
    const int64_t before = faults();
    for (int64_t i = 0; i < kSteps; ++i) train();
    EXPECT_LT(faults() - before, 64 * kSteps) << "cosine " << cosine;  // 64 pages of 4 KiB a step
  }
}

}  // namespace
}  // namespace gru4rec

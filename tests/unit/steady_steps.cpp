// A training step that repeats takes no memory from the system.
#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include "gru4rec/base/freed_memory.h"
#include "gru4rec/model/gru4rec.h"
#include "gru4rec/train/optimizer.h"
#include "support/packed_batch.h"

namespace gru4rec {
namespace {

int64_t faults() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_minflt;
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

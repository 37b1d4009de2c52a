// A training step that repeats takes no memory from the system.
#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include "gru4rec/base/freed_memory.h"
#include "gru4rec/data/batch.h"
#include "gru4rec/model/gru4rec.h"
#include "gru4rec/train/optimizer.h"

namespace gru4rec {
namespace {

// `sessions` sequences of `length` inputs, a target at each.
Batch batch_of(int64_t sessions, int64_t length, int64_t catalogue) {
  Batch batch;
  for (int64_t step = 0; step < length; ++step) {
    batch.step_sizes.push_back(sessions);
    for (int64_t s = 0; s < sessions; ++s) {
      batch.target_rows.push_back(batch.inputs());
      batch.items.push_back(1 + (step * 31 + s * 7) % catalogue);
      batch.labels.push_back(1 + (step * 17 + s * 11) % catalogue);
      batch.keys.push_back({static_cast<uint64_t>(s), 1, static_cast<uint32_t>(step)});
      batch.weights.push_back(1);
      batch.sessions.push_back(static_cast<uint64_t>(s));
      batch.positions.push_back(static_cast<uint32_t>(step + 1));
    }
  }
  return batch;
}

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
    const Batch batch = batch_of(60, 30, kCatalogue);  // activations of several MiB, scores of 20 MiB
    int64_t step = 0;
    const auto train = [&] {
      std::fill(gradient.begin(), gradient.end(), 0.0f);
      const LossSum loss = model.forward_backward(batch, {1, 0, step}, gradient);
      optimizer.step(model.parameters(), gradient, loss.count, ++step);
    };
    for (int i = 0; i < 10; ++i) train();  // until the heap has found its size
    const int64_t before = faults();
    for (int64_t i = 0; i < kSteps; ++i) train();
    EXPECT_LT(faults() - before, 64 * kSteps) << "cosine " << cosine;  // 64 pages of 4 KiB a step
  }
}

}  // namespace
}  // namespace gru4rec

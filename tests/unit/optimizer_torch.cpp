// Laws: each learner makes the steps of its namesake in torch.optim, with and without weight decay; schedule plateau makes the
// falls of ReduceLROnPlateau.
#include <ATen/ops/from_blob.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>
#include <torch/optim/adagrad.h>
#include <torch/optim/adam.h>
#include <torch/optim/adamw.h>
#include <torch/optim/rmsprop.h>
#include <torch/optim/schedulers/reduce_on_plateau_scheduler.h>
#include <torch/optim/sgd.h>

#include <algorithm>
#include <memory>
#include <numeric>

#include "gru4rec/base/random.h"
#include "gru4rec/train/early_stopping.h"
#include "gru4rec/train/optimizer.h"
#include "gru4rec/train/schedule.h"

namespace gru4rec {
namespace {

constexpr double kRate = 0.05;

std::unique_ptr<torch::optim::Optimizer> torchs(Learner learner, const at::Tensor& weights, double decay) {
  using namespace torch::optim;
  const std::vector<at::Tensor> all = {weights};
  switch (learner) {
    case Learner::adam:
      return std::make_unique<Adam>(all, AdamOptions(kRate).weight_decay(decay));
    case Learner::adamw:
      return std::make_unique<AdamW>(all, AdamWOptions(kRate).weight_decay(decay));
    case Learner::adagrad:
      return std::make_unique<Adagrad>(all, AdagradOptions(kRate).weight_decay(decay));
    case Learner::rmsprop:
      return std::make_unique<RMSprop>(all, RMSpropOptions(kRate).weight_decay(decay));
    case Learner::sparse_adam:  // of a gradient that is dense
      return std::make_unique<Adam>(all, AdamOptions(kRate).weight_decay(decay));
    case Learner::sgd:
      return std::make_unique<SGD>(all, SGDOptions(kRate).weight_decay(decay));
  }
  return nullptr;
}

struct Case {
  const char* name;
  Learner learner;
};
class Learners : public ::testing::TestWithParam<Case> {};
INSTANTIATE_TEST_SUITE_P(All, Learners,
                         ::testing::Values(Case{"Adam", Learner::adam}, Case{"AdamW", Learner::adamw},
                                           Case{"Adagrad", Learner::adagrad}, Case{"RMSprop", Learner::rmsprop},
                                           Case{"Sgd", Learner::sgd}, Case{"SparseAdam", Learner::sparse_adam}),
                         [](const auto& c) { return c.param.name; });

TEST_P(Learners, MakeTheStepsOfTorch) {
  for (const double decay : {0.0, 0.1}) {
    const ParameterLayout layout({.catalogue = 6, .embedding_size = 3, .hidden_size = 4});
    const auto size = static_cast<size_t>(layout.parameter_floats());
    const auto end = static_cast<size_t>(layout.dense_floats() + layout.table().size());  // of what is not padding
    Optimizer ours(layout, {.learner = GetParam().learner, .learning_rate = kRate, .weight_decay = decay});
    const Stream random{5, Purpose::parameter_init};
    std::vector<float> weights(size);
    for (size_t i = 0; i < size; ++i) weights[i] = static_cast<float>(random.normal(i));
    const at::Tensor theirs = at::tensor(weights).set_requires_grad(true);
    const auto optimizer = torchs(GetParam().learner, theirs, decay);
    for (int t = 1; t <= 7; ++t) {
      std::vector<float> sum(static_cast<size_t>(layout.gradient_floats())), mean(size);
      for (size_t i = 0; i < size; ++i) {
        mean[i] = static_cast<float>(random.normal(1000 * static_cast<uint64_t>(t) + i));
        sum[i] = 8 * mean[i];  // a power of two: the division gives it back
      }
      ours.step(weights, sum, 8, t);
      theirs.mutable_grad() = at::tensor(mean);
      optimizer->step();
      const float* expected = theirs.const_data_ptr<float>();
      for (size_t i = 0; i < end; ++i) ASSERT_NEAR(weights[i], expected[i], 2e-6) << "step " << t << " decay " << decay;
    }
  }
}

// No value comes twice: an equal one is better for us, as for early stopping, and worse for torch.
TEST(Plateau, FallsWhereReduceLROnPlateauDoes) {
  for (const int patience : {0, 1, 2, 5}) {
    torch::optim::SGD optimizer({at::tensor(std::vector<float>{0})}, torch::optim::SGDOptions(1.0));
    using Torch = torch::optim::ReduceLROnPlateauScheduler;
    Torch scheduler(optimizer, Torch::max, 0.5f, patience, 0.0, Torch::rel, 0, {}, 0.0);
    const EarlyStopping rule{1000, 4};
    BestSoFar best;
    double rate = 1;
    std::vector<int> values(60);
    std::iota(values.begin(), values.end(), 1);
    const Stream random{6, Purpose::parameter_init, static_cast<uint64_t>(patience)};
    for (size_t i = 1; i < values.size(); ++i) std::swap(values[i], values[random.below(i, i + 1)]);
    for (const int value : values) {
      scheduler.step(static_cast<float>(value) / 64);
      rule.judge(value / 64.0, best);
      if (falls_on_plateau(best.stalled, patience)) rate *= 0.5;
      ASSERT_EQ(optimizer.param_groups()[0].options().get_lr(), rate) << "patience " << patience << ", value " << value;
    }
    EXPECT_LT(rate, 0.1);
  }
}

}  // namespace
}  // namespace gru4rec

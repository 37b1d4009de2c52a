// Laws of gradients by rows and of the optimizer's pass: the bits of a gradient of the whole table, of every learner; and every
// instruction set gives the same bits.
#include <gtest/gtest.h>

#include <cmath>

#include "gru4rec/model/device.h"
#include "gru4rec/model/gru4rec.h"
#include "gru4rec/train/optimizer.h"
#include "gru4rec/train/update_kernels.h"
#include "gru4rec/train/weight_average.h"
#include "support/packed_batch.h"
#include "support/uniform_values.h"

namespace gru4rec {
namespace {

using testing::packed_batch;
using testing::uniform_values;

constexpr int64_t kCatalogue = 397;

struct Case {
  LossType loss;
  bool cosine;
  Learner learner;
  double clip_norm_type = 0;  // 0: no clipping
};

// All that a step changes.
struct State {
  std::vector<float> weights, first, second, average;
  double norm;
  std::vector<int64_t> untouched;  // rows that no step could move
  bool operator==(const State& other) const {
    return weights == other.weights && first == other.first && second == other.second && average == other.average &&
           norm == other.norm;
  }
};

std::vector<float> copied(std::span<const float> values) { return {values.begin(), values.end()}; }

// What a gradient has of the table.
enum class Rows { all, few_of_inputs, few };

State train(const Case& c, Rows which, int64_t steps = 5) {
  Gru4Rec model({.catalogue = kCatalogue,
                 .embedding_size = 5,
                 .hidden_size = 7,
                 .cosine = c.cosine,
                 .score_scale = 6,
                 .learn_score_scale = c.cosine});
  model.initialise(3);
  const std::vector<uint64_t> popularity(kCatalogue + 1, 1);
  const auto loss = make_loss({.type = c.loss, .negatives = {NegativeDistribution::uniform, 2}, .n_sample = 11}, popularity);
  model.set_loss(loss);
  const double clip = c.clip_norm_type > 0 ? 0.01 : 0.0;
  Optimizer optimizer(model.layout(), {.learner = c.learner,
                                       .learning_rate = 0.01,
                                       .weight_decay = 0.02,
                                       .clip_norm = clip,
                                       .clip_norm_type = c.clip_norm_type,
                                       .ema_decay = 0.9});
  State state;
  state.average = copied(model.parameters());
  std::vector<bool> touched(kCatalogue + 1);
  RowSet rows(kCatalogue + 1);
  std::vector<float> gradient;
  for (int64_t step = 0; step < steps; ++step) {
    std::vector<int64_t> lengths = {6, 4, 4, 1};
    lengths[0] += step;
    const Batch batch = packed_batch(lengths, step % 2 ? 60 : kCatalogue);
    const StepKey key{5, 0, step};
    rows.clear();
    rows.add(batch.items);
    if (moves_few_rows(c.loss)) loss->name_rows(batch, key, rows);
    rows.close();
    for (const int64_t id : rows.ids()) touched[static_cast<size_t>(id)] = true;
    const ParameterLayout& layout = model.layout();
    const GradientRows some{which == Rows::all ? nullptr : &rows, which == Rows::few};
    gradient.assign(static_cast<size_t>(layout.gradient_floats_by_rows(some)), 0.0f);
    EXPECT_TRUE(which != Rows::all || gradient.size() == static_cast<size_t>(layout.gradient_floats()));
    const LossSum sum = model.forward_backward(batch, key, gradient, nullptr, some);
    optimizer.step(model.parameters(), gradient, sum.count, step + 1, 1.0, some, state.average);
  }
  state.weights = copied(model.parameters());
  state.first = copied(optimizer.first_moment());
  state.second = copied(optimizer.second_moment());
  state.norm = optimizer.gradient_norm();
  for (int64_t row = 0; row <= kCatalogue; ++row)
    if (!touched[static_cast<size_t>(row)]) state.untouched.push_back(row);
  return state;
}

TEST(RowGradient, HasTheBitsOfTheWholeTablesWithEveryLossScoreAndLearner) {
  for (const LossType loss : {LossType::bpr, LossType::sampled_softmax, LossType::bpr_max, LossType::cosine_ranking})
    for (const bool cosine : {false, true})
      for (const Learner learner : {Learner::adam, Learner::adamw, Learner::adagrad, Learner::rmsprop, Learner::sgd}) {
        const Case c{loss, cosine || loss == LossType::cosine_ranking, learner};
        const State whole = train(c, Rows::all);
        EXPECT_GT(whole.untouched.size(), 50u);
        for (const Rows rows : {Rows::few, Rows::few_of_inputs})
          EXPECT_TRUE(train(c, rows) == whole)
              << "loss " << static_cast<int>(loss) << " cosine " << cosine << " learner " << static_cast<int>(learner);
      }
}

TEST(RowGradient, OfTheInputsAloneHasTheBitsOfTheWholeTablesUnderTheFullSoftmax) {
  for (const bool cosine : {false, true})
    for (const Learner learner : {Learner::adam, Learner::adamw, Learner::adagrad, Learner::rmsprop, Learner::sgd,
                                  Learner::sparse_adam}) {  // under which every row has a gradient here
      const Case c{LossType::ce, cosine, learner, 2.0};
      EXPECT_TRUE(train(c, Rows::few_of_inputs) == train(c, Rows::all)) << cosine << " learner " << static_cast<int>(learner);
    }
}

TEST(RowGradient, HasTheNormOfTheWholeTablesBitForBit) {
  for (const double p : {1.0, 2.0, 3.0, std::numeric_limits<double>::infinity()}) {
    const Case c{LossType::bpr_max, false, Learner::adam, p};
    const State whole = train(c, Rows::all);
    EXPECT_GT(whole.norm, 0);
    EXPECT_TRUE(train(c, Rows::few) == whole) << p;
    EXPECT_TRUE(train(c, Rows::few_of_inputs) == whole) << p;
  }
}

TEST(RowGradient, ByTensorOperationsHasTheBitsOfTheWholeTables) {
  const TensorKernelsScope scope;
  const Case c{LossType::sampled_softmax, true, Learner::adam};
  EXPECT_TRUE(train(c, Rows::few) == train(c, Rows::all));
  const Case full{LossType::ce, false, Learner::adam};
  EXPECT_TRUE(train(full, Rows::few_of_inputs) == train(full, Rows::all));
}

TEST(SparseAdam, LeavesRowsWithoutAGradientAsTheyAreWhereAdamMovesThem) {
  const Case sparse{LossType::sampled_softmax, false, Learner::sparse_adam},
      plain{LossType::sampled_softmax, false, Learner::adam};
  const State before = train(sparse, Rows::few, 0), one = train(sparse, Rows::few, 1), later = train(sparse, Rows::few),
              adam = train(plain, Rows::few);
  EXPECT_FALSE(later == adam);
  EXPECT_TRUE(one.untouched.size() > later.untouched.size());
  const size_t size = 5,
               table = before.weights.size() - (kCatalogue + 1) * size / 16 * 16 - ((kCatalogue + 1) * size % 16 ? 16 : 0);
  const auto moved = [&](const std::vector<float>& from, const std::vector<float>& to, int64_t row) {
    const size_t first = table + static_cast<size_t>(row) * size;
    return !std::equal(from.begin() + static_cast<std::ptrdiff_t>(first),
                       from.begin() + static_cast<std::ptrdiff_t>(first + size),
                       to.begin() + static_cast<std::ptrdiff_t>(first));
  };
  for (const int64_t row : later.untouched) {
    EXPECT_FALSE(moved(before.weights, later.weights, row) || moved(before.first, later.first, row) ||
                 moved(before.second, later.second, row) || moved(before.average, later.average, row))
        << row;
    EXPECT_TRUE(moved(before.weights, adam.weights, row)) << row;  // weight_decay is its gradient
  }
  // The first step's rows: the first update is adam's.
  const State first_of_adam = train(plain, Rows::few, 1);
  int64_t alike = 0;
  for (int64_t row = 0; row <= kCatalogue; ++row) {
    if (std::binary_search(one.untouched.begin(), one.untouched.end(), row)) continue;
    EXPECT_FALSE(moved(one.weights, first_of_adam.weights, row)) << row;
    EXPECT_TRUE(moved(before.weights, one.weights, row)) << row;
    ++alike;
  }
  EXPECT_GT(alike, 20);
}

TEST(SparseAdam, IsAdamWhereEveryRowHasAGradient) {
  EXPECT_TRUE(train({LossType::sampled_softmax, false, Learner::sparse_adam}, Rows::all) ==
              train({LossType::sampled_softmax, false, Learner::adam}, Rows::all));
}

// The pass, and what it was made of: an update by plain numbers, then the average.
TEST(UpdateKernels, HaveTheSameBitsForEveryInstructionSetAndAreTheUpdateThenTheAverage) {
  constexpr size_t kSize = 2 * 1024 + 37;
  for (const Learner learner : {Learner::adam, Learner::adamw, Learner::adagrad, Learner::rmsprop, Learner::sgd}) {
    UpdateRule rule;
    rule.learner = learner;
    rule.divisor = 7;
    rule.clip = 0.83f;
    rule.decay = 0.1f;
    rule.kept = 0.97f;
    rule.step_size = 0.013f;
    rule.root_correction2 = 0.3f;
    rule.beta2 = 0.9f, rule.rest1 = 0.2f, rule.rest2 = 0.1f, rule.epsilon = 1e-8f;
    rule.average_rest = 0.25f;
    for (const int parts : {0, 1, 2}) {
      std::vector<std::vector<float>> results;
      for (const UpdateKernels& kernels : update_kernels()) {
        std::vector<float> w = uniform_values(kSize, 1, 1), m = uniform_values(kSize, 1, 2), v(kSize, 0.5f), average = w;
        const std::vector<float> a = uniform_values(kSize, 9, 3), b = uniform_values(kSize, 9, 4);
        kernels.update(rule, {w.data(), m.data(), v.data(), average.data(), parts > 0 ? a.data() : nullptr,
                              parts > 1 ? b.data() : nullptr, kSize});
        const std::vector<float> before = uniform_values(kSize, 1, 1);
        for (size_t i = 0; i < kSize; ++i) {
          const float g = (parts == 0 ? 0.0f : parts == 1 ? a[i] : a[i] + b[i]) / 7 * 0.83f;
          if (learner == Learner::sgd) {
            ASSERT_EQ(w[i], before[i] - 0.013f * (g + 0.1f * before[i]));
          }
          ASSERT_EQ(average[i], before[i] + 0.25f * (w[i] - before[i])) << kernels.name;
        }
        w.insert(w.end(), m.begin(), m.end());
        w.insert(w.end(), v.begin(), v.end());
        results.push_back(w);
      }
      for (const auto& result : results) EXPECT_EQ(result, results.front()) << static_cast<int>(learner) << " parts " << parts;
    }
  }
}

}  // namespace
}  // namespace gru4rec

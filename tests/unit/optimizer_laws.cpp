// Laws of the optimizer, the average of the weights, learning rates and early stopping.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "gru4rec/base/error.h"
#include "gru4rec/base/random.h"
#include "gru4rec/train/early_stopping.h"
#include "gru4rec/train/optimizer.h"
#include "gru4rec/train/schedule.h"
#include "gru4rec/train/weight_average.h"

namespace gru4rec {
namespace {

const ModelShape kShape{.catalogue = 6, .embedding_size = 3, .hidden_size = 4};

// Adam of one number as its paper has it, in double.
struct PaperAdam {
  double m = 0, v = 0;
  double step(double parameter, double gradient, int t, const OptimizerOptions& o) {
    gradient += o.weight_decay * parameter;
    m = o.beta1 * m + (1 - o.beta1) * gradient;
    v = o.beta2 * v + (1 - o.beta2) * gradient * gradient;
    const double m_hat = m / (1 - std::pow(o.beta1, t)), v_hat = v / (1 - std::pow(o.beta2, t));
    return parameter - o.learning_rate * m_hat / (std::sqrt(v_hat) + o.epsilon);
  }
};

void expect_follows_the_paper(const OptimizerOptions& options) {
  const ParameterLayout layout(kShape);
  Optimizer adam(layout, options);
  const auto size = static_cast<size_t>(layout.parameter_floats());
  const auto end = static_cast<size_t>(layout.dense_floats() + layout.table().size());  // of what is not padding
  std::vector<float> parameters(size), gradient(static_cast<size_t>(layout.gradient_floats()));
  std::vector<double> expected(size);
  std::vector<PaperAdam> paper(size);
  const Stream random{1, Purpose::parameter_init};
  for (size_t i = 0; i < size; ++i) expected[i] = parameters[i] = static_cast<float>(random.normal(i));
  for (int t = 1; t <= 10; ++t) {
    for (size_t i = 0; i < gradient.size(); ++i)
      gradient[i] = static_cast<float>(50 * random.normal(1000 * static_cast<uint64_t>(t) + i));
    for (const int64_t part : {layout.table_output_gradient(), layout.table_input_gradient()})  // padding has none
      std::fill(gradient.begin() + part + layout.table().size(), gradient.begin() + part + layout.table_floats(), 0.0f);
    std::vector<double> mean(size);
    double norm = 0;
    for (size_t i = 0; i < size; ++i) {
      mean[i] = gradient[i];
      if (i >= static_cast<size_t>(layout.table_output_gradient()))
        mean[i] += gradient[i + static_cast<size_t>(layout.table_floats())];
      mean[i] /= 7;
      norm += mean[i] * mean[i];
    }
    const double clip = options.clip_norm > 0 ? std::min(1.0, options.clip_norm / (std::sqrt(norm) + 1e-6)) : 1.0;
    adam.step(parameters, gradient, 7, t);
    for (size_t i = 0; i < size; ++i) expected[i] = paper[i].step(expected[i], clip * mean[i], t, options);
    for (size_t i = 0; i < end; ++i) ASSERT_NEAR(parameters[i], expected[i], 2e-5) << "step " << t << " element " << i;
  }
}

TEST(Adam, FollowsThePaper) { expect_follows_the_paper({}); }
TEST(Adam, AddsWeightDecayToTheGradient) { expect_follows_the_paper({.weight_decay = 0.1}); }
TEST(Adam, ClipsTheNormOfTheMeanGradient) { expect_follows_the_paper({.learning_rate = 0.01, .clip_norm = 0.5}); }

TEST(Adam, TheRateFactorScalesTheStep) {
  const ParameterLayout layout(kShape);
  std::vector<float> moved[2];
  for (int half = 0; half < 2; ++half) {
    Optimizer adam(layout, {.learning_rate = half ? 0.25 : 0.5});
    moved[half].assign(static_cast<size_t>(layout.parameter_floats()), 0.0f);
    std::vector<float> gradient(static_cast<size_t>(layout.gradient_floats()), 1.0f);
    adam.step(moved[half], gradient, 3, 1, half ? 1.0 : 0.5);
  }
  EXPECT_NE(moved[0][0], 0.0f);
  EXPECT_EQ(moved[0], moved[1]);
}

TEST(Optimizer, AFrozenTableStaysAsItIsBitForBitAndHasNoPartInTheNorm) {
  const ParameterLayout layout(kShape);
  const auto dense = static_cast<size_t>(layout.dense_floats());
  const Stream random{1, Purpose::parameter_init};
  for (const Learner learner :
       {Learner::adam, Learner::adamw, Learner::adagrad, Learner::rmsprop, Learner::sgd, Learner::sparse_adam}) {
    Optimizer optimizer(layout, {.learner = learner, .weight_decay = 0.1, .clip_norm = 0.5, .freeze_table = true});
    std::vector<float> parameters(static_cast<size_t>(layout.parameter_floats()));
    for (size_t i = 0; i < parameters.size(); ++i) parameters[i] = static_cast<float>(random.normal(i));
    const std::vector<float> before = parameters;
    for (int t = 1; t <= 3; ++t) {
      std::vector<float> gradient(static_cast<size_t>(layout.gradient_floats()));  // the table's part is not looked at
      for (size_t i = 0; i < gradient.size(); ++i) gradient[i] = static_cast<float>(random.normal(1000 * uint64_t(t) + i));
      optimizer.step(parameters, gradient, 7, t);
      EXPECT_EQ(optimizer.gradient_norm(), gradient_norm(std::span<const float>(gradient).first(dense), 1.0 / 7, 2.0));
    }
    for (size_t i = 0; i < dense; ++i) EXPECT_NE(parameters[i], before[i]) << i;
    EXPECT_TRUE(std::equal(before.begin() + layout.dense_floats(), before.end(), parameters.begin() + layout.dense_floats()))
        << static_cast<int>(learner);
    for (size_t i = dense; i < parameters.size(); ++i) {
      EXPECT_EQ(optimizer.first_moment()[i], 0.0f);
      EXPECT_EQ(optimizer.second_moment()[i], 0.0f);
    }
  }
}

// Three ranks, each of which updates its part; the average of the weights with it, of a gradient of all rows and of few.
TEST(Optimizer, UpdatesAPartWithTheBitsOfTheWholeAndLeavesTheRest) {
  const ParameterLayout layout(kShape);
  const auto dense = static_cast<size_t>(layout.dense_floats()), row = static_cast<size_t>(layout.table().shape[1]);
  const auto end = dense + static_cast<size_t>(layout.table().size());
  const FloatRange parts[] = {{0, 17}, {17, dense + 2 * row}, {dense + 2 * row, end}};
  RowSet few(layout.table().shape[0]);
  few.add(std::vector<int64_t>{1, 2, 5});
  few.close();
  const Stream random{1, Purpose::parameter_init};
  for (const Learner learner : {Learner::adam, Learner::adamw, Learner::adagrad, Learner::rmsprop, Learner::sgd})
    for (const GradientRows rows : {GradientRows{}, GradientRows{&few, false}}) {
      const OptimizerOptions options{.learner = learner, .learning_rate = 0.1, .weight_decay = 0.1, .ema_decay = 0.5};
      struct State {
        Optimizer optimizer;
        std::vector<float> weights, average;
      };
      std::vector<float> start(static_cast<size_t>(layout.parameter_floats()), 0.0f);
      for (size_t i = 0; i < end; ++i) start[i] = static_cast<float>(random.normal(i));
      const std::vector<float> none(start.size());
      State whole{Optimizer(layout, options), start, none};
      std::vector<State> ranks(3, whole);
      std::vector<float> gradient(static_cast<size_t>(layout.gradient_floats_by_rows(rows)));
      for (size_t i = 0; i < gradient.size(); ++i) gradient[i] = static_cast<float>(random.normal(1000 + i));
      whole.optimizer.step(whole.weights, gradient, 7, 1, 1.0, rows, whole.average);
      for (size_t rank = 0; rank < 3; ++rank) {
        auto& [optimizer, weights, average] = ranks[rank];
        optimizer.step(weights, gradient, 7, 1, 1.0, rows, average, parts[rank]);
        for (size_t i = 0; i < end; ++i) {
          const bool own = i >= parts[rank].first && i < parts[rank].last;
          const State& wanted = whole;
          ASSERT_EQ(weights[i], own ? wanted.weights[i] : start[i]) << "rank " << rank << " element " << i;
          ASSERT_EQ(average[i], own ? wanted.average[i] : 0.0f);
          ASSERT_EQ(optimizer.first_moment()[i], own ? wanted.optimizer.first_moment()[i] : 0.0f);
          ASSERT_EQ(optimizer.second_moment()[i], own ? wanted.optimizer.second_moment()[i] : 0.0f);
        }
      }
    }
  Optimizer clips(layout, {.clip_norm = 1.0});
  std::vector<float> weights(static_cast<size_t>(layout.parameter_floats()));
  const std::vector<float> gradient(static_cast<size_t>(layout.gradient_floats()));
  EXPECT_THROW(clips.step(weights, gradient, 7, 1, 1.0, {}, {}, parts[0]), BugError);
}

// Whole rows and lines; the work of a slice, in which a parameter of the table has twice the gradient of a dense one.
TEST(Optimizer, IsDealtToRanksInSlicesOfEqualWork) {
  for (const int64_t items : {3, 50, 1682, 20'000})
    for (const int64_t size : {16, 64}) {
      const ParameterLayout layout({.catalogue = items, .embedding_size = size, .hidden_size = 48});
      const auto dense = static_cast<size_t>(layout.dense_floats()), row = static_cast<size_t>(size);
      const size_t end = dense + static_cast<size_t>(layout.table().size());
      for (const bool by_rows : {false, true})
        for (const bool frozen : {false, true})
          for (const int ranks : {1, 2, 3, 8}) {
            const Slices slices = slices_of_update(layout, frozen, by_rows, ranks);
            ASSERT_EQ(slices.bounds.size(), static_cast<size_t>(ranks) + 1);
            ASSERT_EQ(slices.bounds.front(), 0u);
            ASSERT_EQ(slices.bounds.back(), frozen ? dense : end);
            const size_t of_table = by_rows ? 3 : 4;
            const auto work_up_to = [&](size_t bound) {
              return 3 * std::min(bound, dense) + (bound > dense ? of_table * (bound - dense) : 0);
            };
            for (int rank = 0; rank <= ranks; ++rank) {
              const size_t bound = slices.bounds[static_cast<size_t>(rank)];
              ASSERT_EQ(bound > dense ? (bound - dense) % row : bound % 16, 0u);
              const auto even = static_cast<double>(work_up_to(slices.bounds.back())) * rank / ranks;
              ASSERT_LE(static_cast<double>(work_up_to(bound)), even);
              ASSERT_GT(static_cast<double>(work_up_to(bound)),
                        even - static_cast<double>(std::max(3 * size_t{16}, of_table * row)) - 3);
            }
          }
    }
}

TEST(RateFactor, RisesOverTheWarmUpAndFallsAlongHalfACosine) {
  EXPECT_EQ(rate_factor(Schedule::constant, 0, 0.7, 12), 1.0);
  EXPECT_EQ(rate_factor(Schedule::cosine, 0, 0.0, 0), 1.0);
  EXPECT_NEAR(rate_factor(Schedule::cosine, 0, 1.0 / 3, 50), 0.75, 1e-7);
  EXPECT_NEAR(rate_factor(Schedule::cosine, 0, 0.5, 50), 0.5, 1e-7);
  EXPECT_NEAR(rate_factor(Schedule::cosine, 0, 1.0, 99), 0.0, 1e-7);
  EXPECT_EQ(rate_factor(Schedule::constant, 4, 0.0, 0), 0.25);
  EXPECT_EQ(rate_factor(Schedule::constant, 4, 0.0, 2), 0.75);
  EXPECT_EQ(rate_factor(Schedule::constant, 4, 0.0, 3), 1.0);
  EXPECT_NEAR(rate_factor(Schedule::cosine, 100, 0.5, 49), 0.25, 1e-7);
}

// The fall after each of these evaluations, as early stopping judges them.
std::vector<bool> falls(const std::vector<double>& values, int64_t patience) {
  const EarlyStopping rule{1000, 4};
  BestSoFar best;
  std::vector<bool> fell;
  for (const double value : values) {
    rule.judge(value, best);
    fell.push_back(falls_on_plateau(best.stalled, patience));
  }
  return fell;
}

TEST(Plateau, LowersTheRateAfterMoreThanPatienceEvaluationsAndCountsAnew) {
  //                  best  worse worse  FALL worse worse  FALL equal worse worse  FALL better
  const std::vector<double> values = {0.3, 0.2, 0.1, 0.29, 0.2, 0.2, 0.2, 0.3, 0.2, 0.2, 0.2, 0.4};
  EXPECT_EQ(falls(values, 2), (std::vector<bool>{0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 1, 0}));
  EXPECT_EQ(falls(values, 0), (std::vector<bool>{0, 1, 1, 1, 1, 1, 1, 0, 1, 1, 1, 0}));
  EXPECT_EQ(falls(values, 100), std::vector<bool>(values.size(), false));
  EXPECT_EQ(falls(values, std::numeric_limits<int64_t>::max()), std::vector<bool>(values.size(), false));
}

TEST(WeightAverage, IsTheWeightedSumOfAllWeightsSoFar) {
  constexpr size_t kSize = 37;
  constexpr int kSteps = 60;
  const Stream random{3, Purpose::parameter_init};
  std::vector<std::vector<float>> weights(kSteps + 1, std::vector<float>(kSize));
  for (int t = 0; t <= kSteps; ++t)
    for (size_t i = 0; i < kSize; ++i) weights[t][i] = static_cast<float>(random.normal(1000 * static_cast<uint64_t>(t) + i));
  for (const double decay : {0.5, 0.999}) {
    std::vector<float> average = weights[0];
    for (int t = 1; t <= kSteps; ++t) update_average(average, weights[t], decay, t);
    for (size_t i = 0; i < kSize; ++i) {
      double expected = 0, kept = 1;  // kept: the product of the decays after step t
      for (int t = kSteps; t > 0; --t) {
        const double d = std::min(decay, (1.0 + t) / (10.0 + t));
        expected += kept * (1 - d) * weights[t][i];
        kept *= d;
      }
      expected += kept * weights[0][i];
      ASSERT_NEAR(average[i], expected, 1e-6) << "decay " << decay << " element " << i;
    }
  }
}

TEST(WeightAverage, ForgetsTheInitialWeightsAtOnceAndHoldsStillWhereWeightsDo) {
  std::vector<float> average = {0.0f};
  update_average(average, std::vector<float>{11.0f}, 0.999, 1);
  EXPECT_NEAR(average[0], 9.0f, 1e-5);  // 1 - 2/11 of the way
  average = {0.0f};
  update_average(average, std::vector<float>{1.0f}, 0.999, 1'000'000);
  EXPECT_NEAR(average[0], 0.001f, 1e-7);
  average = {0.1f};
  for (int t = 1; t < 100; ++t) update_average(average, std::vector<float>{0.1f}, 0.9, t);
  EXPECT_EQ(average[0], 0.1f);
}

TEST(GradientNorm, OfAnyOrder) {
  const std::vector<float> values = {3, -4, 0};
  EXPECT_DOUBLE_EQ(gradient_norm(values, 1.0, 2.0), 5.0);
  EXPECT_DOUBLE_EQ(gradient_norm(values, 0.5, 2.0), 2.5);
  EXPECT_DOUBLE_EQ(gradient_norm(values, 1.0, 1.0), 7.0);
  EXPECT_DOUBLE_EQ(gradient_norm(values, 1.0, std::numeric_limits<double>::infinity()), 4.0);
}

TEST(EarlyStopping, AnEqualValueIsAnImprovementAndPatienceIsExceededNotReached) {
  const EarlyStopping rule{2, 4};
  BestSoFar best;
  EXPECT_TRUE(rule.judge(0.1, best).improved);
  EXPECT_TRUE(rule.judge(0.1, best).improved);
  EXPECT_FALSE(rule.judge(0.09, best).stop);
  EXPECT_FALSE(rule.judge(0.09, best).stop);
  EXPECT_TRUE(rule.judge(0.09, best).stop);
}

TEST(EarlyStopping, ComparesAsPrinted) {
  const EarlyStopping rule{10, 4};
  BestSoFar best;
  rule.judge(0.123449, best);
  EXPECT_TRUE(rule.judge(0.12343, best).improved);  // both are 0.1234
  EXPECT_FALSE(rule.judge(0.12334, best).improved);
}

TEST(RoundDecimal, RoundsLikePython) {
  EXPECT_EQ(round_decimal(0.00005, 4), 0.0001);  // the double is above the half
  EXPECT_EQ(round_decimal(2.5, 0), 2.0);         // halves to even
  EXPECT_EQ(round_decimal(0.12345678, 3), 0.123);
}

}  // namespace
}  // namespace gru4rec

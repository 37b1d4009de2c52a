// Laws of the optimizer and of early stopping.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "gru4rec/base/random.h"
#include "gru4rec/train/early_stopping.h"
#include "gru4rec/train/optimizer.h"
#include "gru4rec/train/schedule.h"

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
  std::vector<float> parameters(size), gradient(static_cast<size_t>(layout.gradient_floats()));
  std::vector<double> expected(size);
  std::vector<PaperAdam> paper(size);
  const Stream random{1, Purpose::parameter_init};
  for (size_t i = 0; i < size; ++i) expected[i] = parameters[i] = static_cast<float>(random.normal(i));
  for (int t = 1; t <= 10; ++t) {
    for (size_t i = 0; i < gradient.size(); ++i)
      gradient[i] = static_cast<float>(50 * random.normal(1000 * static_cast<uint64_t>(t) + i));
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
    for (size_t i = 0; i < size; ++i) ASSERT_NEAR(parameters[i], expected[i], 2e-5) << "step " << t << " element " << i;
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

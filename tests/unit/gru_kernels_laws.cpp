// Laws of the pointwise part of the GRU: it is its formula and the derivative of that, and every instruction set gives the same
// bits.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "gru4rec/model/gru_kernels.h"
#include "support/uniform_values.h"

namespace gru4rec {
namespace {

using testing::uniform_values;

constexpr int64_t kRows = 3, kHidden = 37, kState = kRows * kHidden;

struct Forward {
  std::vector<float> input, recurrent, before;  // arguments
  bool has_before;
  std::vector<float> gates, recurrent_n, after;
  Forward(const GruKernels& kernels, double bound, bool first)
      : input(uniform_values(3 * kState, bound, 1)),
        recurrent(uniform_values(3 * kState, bound, 2)),
        before(uniform_values(kState, 1, 3)),
        has_before(!first),
        gates(input),
        recurrent_n(kState, -1),
        after(kState, -1) {
    kernels.forward({.rows = kRows,
                     .hidden = kHidden,
                     .gates = gates.data(),
                     .recurrent = first ? nullptr : recurrent.data(),
                     .before = first ? nullptr : before.data(),
                     .recurrent_n = recurrent_n.data(),
                     .after = after.data()});
  }
};

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

TEST(GruKernels, ForwardIsItsFormula) {
  for (const bool first : {true, false})
    for (const double bound : {1e-4, 0.3, 0.7, 4.0, 50.0}) {
      const Forward got(gru_kernels().front(), bound, first);
      for (int64_t i = 0; i < kRows; ++i)
        for (int64_t k = 0; k < kHidden; ++k) {
          const auto gate = [&](const std::vector<float>& from, int64_t g) { return double{from[(3 * i + g) * kHidden + k]}; };
          const auto product = [&](int64_t g) { return first ? 0.0 : gate(got.recurrent, g); };
          const double h = first ? 0.0 : double{got.before[i * kHidden + k]};
          const double r = sigmoid(gate(got.input, 0) + product(0)), z = sigmoid(gate(got.input, 1) + product(1));
          const double n = std::tanh(gate(got.input, 2) + r * product(2));
          EXPECT_NEAR(gate(got.gates, 0), r, 1e-38 + 5e-7 * r + 1e-5 * bound * r * (1 - r)) << bound;
          EXPECT_NEAR(gate(got.gates, 1), z, 1e-38 + 5e-7 * z + 1e-5 * bound * z * (1 - z)) << bound;
          EXPECT_NEAR(gate(got.gates, 2), n, 1e-6 * std::abs(n) + 1e-6 * bound * (1 - n * n)) << bound;
          EXPECT_NEAR(got.after[i * kHidden + k], (1 - z) * n + z * h, 1e-6) << bound;
          EXPECT_EQ(got.recurrent_n[i * kHidden + k], static_cast<float>(product(2)));
        }
    }
}

TEST(GruKernels, NanIsNotHidden) {
  for (const GruKernels& kernels : gru_kernels()) {
    Forward step(kernels, 1, false);
    std::vector<float> gates = step.input;
    gates[5] = gates[kHidden + 6] = gates[2 * kHidden + 7] = std::nanf("");
    kernels.forward(
        {1, kHidden, gates.data(), step.recurrent.data(), step.before.data(), step.recurrent_n.data(), step.after.data()});
    for (const int64_t k : {5, 6, 7}) EXPECT_TRUE(std::isnan(step.after[k])) << kernels.name << " " << k;
  }
}

struct Backward {
  std::vector<float> grad, carried, grad_input, grad_recurrent, kept_before;
  Backward(const GruKernels& kernels, const Forward& forward, int64_t carried_rows)
      : grad(uniform_values(kState, 1, 4)),
        carried(uniform_values(kState, 1, 5)),
        grad_input(3 * kState),
        grad_recurrent(3 * kState),
        kept_before(kState, -1) {
    kernels.backward({.rows = kRows,
                      .hidden = kHidden,
                      .gates = forward.gates.data(),
                      .recurrent_n = forward.recurrent_n.data(),
                      .before = forward.has_before ? forward.before.data() : nullptr,
                      .grad = grad.data(),
                      .carried = carried.data(),
                      .carried_rows = carried_rows,
                      .grad_input = grad_input.data(),
                      .grad_recurrent = grad_recurrent.data(),
                      .kept_before = kept_before.data()});
  }
};

// h' as a function of W_i x, W_h h and h, in double.
double after(const double (&input)[3], const double (&recurrent)[3], double h) {
  const double r = sigmoid(input[0] + recurrent[0]), z = sigmoid(input[1] + recurrent[1]);
  return (1 - z) * std::tanh(input[2] + r * recurrent[2]) + z * h;
}

class GruKernelsOfAStep : public ::testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(FirstOrNot, GruKernelsOfAStep, ::testing::Bool());

TEST_P(GruKernelsOfAStep, BackwardIsTheDerivative) {
  constexpr int64_t kCarriedRows = 2;
  const bool first = GetParam();
  const Forward forward(gru_kernels().front(), 1.5, first);
  const std::vector<float> carried = uniform_values(kState, 1, 5);
  const Backward got(gru_kernels().front(), forward, kCarriedRows);
  constexpr double kStep = 1e-5;
  for (int64_t i = 0; i < kRows; ++i)
    for (int64_t k = 0; k < kHidden; ++k) {
      const int64_t at = i * kHidden + k;
      double input[3], recurrent[3];
      for (int64_t g = 0; g < 3; ++g) {
        input[g] = forward.input[(3 * i + g) * kHidden + k];
        recurrent[g] = first ? 0.0 : double{forward.recurrent[(3 * i + g) * kHidden + k]};
      }
      const double h = first ? 0.0 : double{forward.before[at]},
                   grad = got.grad[at] + (i < kCarriedRows ? double{carried[at]} : 0.0);
      const auto derivative = [&](double& variable) {
        const double middle = variable;
        variable = middle + kStep;
        const double above = after(input, recurrent, h);
        variable = middle - kStep;
        const double below = after(input, recurrent, h);
        variable = middle;
        return grad * (above - below) / (2 * kStep);
      };
      for (int64_t g = 0; g < 3; ++g) {
        EXPECT_NEAR(got.grad_input[(3 * i + g) * kHidden + k], derivative(input[g]), 1e-6);
        EXPECT_NEAR(got.grad_recurrent[(3 * i + g) * kHidden + k], derivative(recurrent[g]), 1e-6);
      }
      EXPECT_EQ(got.kept_before[at], static_cast<float>(h));
      EXPECT_NEAR(got.carried[at], grad * sigmoid(input[1] + recurrent[1]), 1e-6);
    }
}

TEST(GruKernels, EveryInstructionSetGivesTheSameBits) {
  for (const double bound : {0.2, 3.0}) {
    const Forward expected(gru_kernels().front(), bound, false);
    const Backward expected_back(gru_kernels().front(), expected, 2);
    for (const GruKernels& kernels : gru_kernels()) {
      const Forward got(kernels, bound, false);
      EXPECT_EQ(got.gates, expected.gates) << kernels.name;
      EXPECT_EQ(got.after, expected.after) << kernels.name;
      const Backward back(kernels, got, 2);
      EXPECT_EQ(back.carried, expected_back.carried) << kernels.name;
      EXPECT_EQ(back.grad_input, expected_back.grad_input) << kernels.name;
      EXPECT_EQ(back.grad_recurrent, expected_back.grad_recurrent) << kernels.name;
    }
  }
}

}  // namespace
}  // namespace gru4rec

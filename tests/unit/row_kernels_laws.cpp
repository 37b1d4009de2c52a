// Laws of the pointwise loops over rows: they are their formulas, and every instruction set gives the same bits.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "gru4rec/model/row_kernels.h"
#include "support/uniform_values.h"

namespace gru4rec {
namespace {

using testing::uniform_values;

struct Result {
  std::vector<float> exp, max, sum;
};

Result exp_of(const RowKernels& kernels, std::vector<float> scores, int64_t columns) {
  const auto rows = static_cast<int64_t>(scores.size()) / columns;
  Result result{std::move(scores), std::vector<float>(rows), std::vector<float>(rows)};
  kernels.exp_rows(result.exp.data(), rows, columns, result.max.data(), result.sum.data());
  return result;
}

TEST(RowKernels, ExpIsTheExponentialOfTheDistanceToTheMaximum) {
  for (const int64_t columns : {1, 2, 15, 16, 17, 31, 32, 100, 1023})
    for (const double bound : {0.001, 1.0, 16.0, 60.0}) {
      constexpr int64_t kRows = 5;
      const std::vector<float> scores = uniform_values(kRows * columns, bound, columns);
      const Result got = exp_of(row_kernels().front(), scores, columns);
      for (int64_t i = 0; i < kRows; ++i) {
        const float* row = scores.data() + i * columns;
        ASSERT_EQ(got.max[i], *std::max_element(row, row + columns));
        double sum = 0;
        for (int64_t j = 0; j < columns; ++j) {
          const double distance = static_cast<double>(row[j] - got.max[i]);
          const double expected = distance < -87 ? 0 : std::exp(distance);
          ASSERT_NEAR(got.exp[i * columns + j], expected, 2e-7 * expected) << "at a distance of " << distance;
          sum += expected;
        }
        ASSERT_NEAR(got.sum[i], sum, 1e-6 * sum);
      }
    }
}

TEST(RowKernels, WhatIsNotFiniteIsNotHidden) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity(), kNan = std::numeric_limits<float>::quiet_NaN();
  for (const RowKernels& kernels : row_kernels())
    for (const int64_t columns : {3, 40})
      for (int64_t at = 0; at < columns; ++at) {
        std::vector<float> scores = uniform_values(columns, 3, at);
        scores[at] = kNan;
        EXPECT_TRUE(std::isnan(exp_of(kernels, scores, columns).sum[0])) << kernels.name << " NaN at " << at;
        scores[at] = kInfinity;
        EXPECT_TRUE(std::isnan(exp_of(kernels, scores, columns).sum[0])) << kernels.name << " infinity at " << at;
        scores[at] = -kInfinity;
        EXPECT_EQ(exp_of(kernels, scores, columns).exp[at], 0.0f) << kernels.name << " -infinity at " << at;
      }
}

TEST(RowKernels, DropoutIsItsFormulaWithEveryInstructionSet) {
  const Stream stream{3, Purpose::embedding_dropout, 1, 2};
  constexpr uint32_t kDropped = 0x4ccccccc;  // 0.3
  for (const RowKernels& kernels : row_kernels())
    for (const int64_t size : {1, 2, 63, 64, 127, 128, 129, 384, 1001}) {
      std::vector<float> row(size, -1.0f);
      kernels.dropout_row(stream, kDropped, 1.5f, row.data(), size);
      for (int64_t i = 0; i < size; ++i) {
        const uint64_t bits = stream.bits(i / 2);
        const uint64_t own = i % 2 ? bits >> 32 : bits & 0xffffffff;
        ASSERT_EQ(row[i], own < kDropped ? 0.0f : 1.5f) << kernels.name << ", element " << i << " of " << size;
      }
    }
}

TEST(RowKernels, EveryInstructionSetGivesTheSameBits) {
  for (const int64_t columns : {1, 15, 16, 17, 333, 4096}) {
    const std::vector<float> scores = uniform_values(3 * columns, 30, columns),
                             other = uniform_values(3 * columns, 2, columns + 1);
    const RowKernels& first = row_kernels().front();
    const Result expected = exp_of(first, scores, columns);
    const float product = first.dot(scores.data(), other.data(), 3 * columns);
    for (const RowKernels& kernels : row_kernels()) {
      const Result got = exp_of(kernels, scores, columns);
      EXPECT_EQ(got.exp, expected.exp) << kernels.name;
      EXPECT_EQ(got.max, expected.max) << kernels.name;
      EXPECT_EQ(got.sum, expected.sum) << kernels.name;
      EXPECT_EQ(kernels.dot(scores.data(), other.data(), 3 * columns), product) << kernels.name;
    }
  }
}

// A product and its sum are rounded one after the other, never together, so that who writes the same loop has the same bits.
TEST(RowKernels, ProductsAreRoundedBeforeTheyAreAdded) {
  for (const int64_t size : {0, 1, 15, 16, 17, 64, 333}) {
    const std::vector<float> a = uniform_values(size, 2, 1), b = uniform_values(size, 2, 2), c = uniform_values(size, 2, 3);
    const auto of_each = [&](const auto& value) {
      std::vector<float> values(size);
      for (int64_t i = 0; i < size; ++i) values[i] = value(i);
      return values;
    };
    const auto product = [](float x, float y) {
      const volatile float rounded = x * y;
      return rounded;
    };
    for (const RowKernels& kernels : row_kernels()) {
      std::vector<float> got = c;
      kernels.add_scaled(-1.7f, a.data(), got.data(), size);
      EXPECT_EQ(got, of_each([&](int64_t i) { return c[i] + product(-1.7f, a[i]); })) << kernels.name;
      kernels.multiply(a.data(), b.data(), got.data(), size);
      EXPECT_EQ(got, of_each([&](int64_t i) { return product(a[i], b[i]); })) << kernels.name;
      got = c;
      kernels.add_products(a.data(), b.data(), got.data(), size);
      EXPECT_EQ(got, of_each([&](int64_t i) { return c[i] + product(a[i], b[i]); })) << kernels.name;
    }
  }
}

TEST(RowKernels, DotIsTheSumOfProducts) {
  for (const int64_t size : {0, 1, 15, 16, 17, 128, 1000}) {
    const std::vector<float> a = uniform_values(size, 2, 1), b = uniform_values(size, 2, 2);
    double expected = 0;
    for (int64_t i = 0; i < size; ++i) expected += static_cast<double>(a[i]) * static_cast<double>(b[i]);
    EXPECT_NEAR(dot(a.data(), b.data(), size), expected, 1e-5 * std::sqrt(static_cast<double>(size + 1)));
  }
}

}  // namespace
}  // namespace gru4rec

// Laws of products in bf16: exact where no rounding is needed, and otherwise the product of the rounded operands. They hold for
// the processor's own instructions where it has them, and for their stand-in elsewhere.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "gru4rec/model/products.h"
#include "support/uniform_values.h"

namespace gru4rec {
namespace {

using at::Tensor;

Tensor uniform(int64_t rows, int64_t columns, uint64_t key) {
  return at::tensor(testing::uniform_values(rows * columns, 2, key)).view({rows, columns});
}

struct Shape {
  int64_t m, k, n;
};
// Multiples of what the processor's tiles hold, and none.
const Shape kShapes[] = {{1, 1, 1}, {1, 64, 64}, {7, 33, 17}, {256, 128, 256}, {300, 31, 147}, {64, 257, 65}};

TEST(Bf16Product, OfSmallIntegersIsExact) {
  for (const auto& [m, k, n] : kShapes) {
    const Tensor a = uniform(m, k, 1).mul(4).round(), b = uniform(k, n, 2).mul(4).round();
    EXPECT_TRUE(at::equal(product(a, b, Precision::bf16), at::mm(a, b))) << m << " " << k << " " << n;
  }
}

TEST(Bf16Product, IsTheProductOfTheRoundedOperandsNotOfTheOperands) {
  for (const auto& [m, k, n] : kShapes) {
    const Tensor a = uniform(m, k, 3), b = uniform(n, k, 4).t();
    const auto rounded = [](const Tensor& values) { return values.to(at::kBFloat16).to(at::kDouble); };
    const Tensor got = product(a, b, Precision::bf16).to(at::kDouble);
    const double scale = 4 * std::sqrt(static_cast<double>(k));
    EXPECT_LT((got - at::mm(rounded(a), rounded(b))).abs().max().item<double>(), 1e-6 * scale) << m << " " << k << " " << n;
    EXPECT_GT((got - at::mm(a, b).to(at::kDouble)).abs().max().item<double>(), 1e-5) << m << " " << k << " " << n;
    EXPECT_TRUE(at::equal(product(a, b, Precision::fp32), at::mm(a, b)));
  }
}

TEST(Bf16Product, IsAddedToWhatIsThere) {
  for (const auto& [m, k, n] : kShapes) {
    const Tensor a = uniform(m, k, 5), b = uniform(k, n, 6), before = uniform(m, n, 7);
    Tensor sum = before.clone();
    add_product(sum, a, b, Precision::bf16);
    EXPECT_TRUE(at::allclose(sum, before + product(a, b, Precision::bf16), 1e-6, 1e-5)) << m << " " << k << " " << n;
    Tensor part = at::zeros({m, n + 3}, at::kFloat), rows = part.narrow(1, 2, n);  // rows with gaps between them
    rows.copy_(before);
    add_product(rows, a, b, Precision::bf16);
    EXPECT_TRUE(at::equal(rows, sum)) << m << " " << k << " " << n;
    EXPECT_EQ(part.narrow(1, 0, 2).abs().sum().item<float>() + part.narrow(1, n + 2, 1).abs().sum().item<float>(), 0.0f);
  }
}

TEST(Bf16Product, IsTheSameForTransposedViews) {
  const auto view = [](const Tensor& values) { return values.t().contiguous().t(); };
  for (const auto& [m, k, n] : kShapes) {
    const Tensor a = uniform(m, k, 8), b = uniform(k, n, 9), expected = product(a, b, Precision::bf16);
    for (const auto& [left, right] : {std::pair{view(a), b}, {a, view(b)}, {view(a), view(b)}}) {
      EXPECT_TRUE(at::allclose(product(left, right, Precision::bf16), expected, 1e-6, 1e-5)) << m << " " << k << " " << n;
      Tensor sum = expected.clone();
      add_product(sum, left, right, Precision::bf16);
      EXPECT_TRUE(at::allclose(sum, 2 * expected, 1e-6, 1e-5)) << m << " " << k << " " << n;
    }
    Tensor out = at::empty({m, n}, at::kFloat);
    RepeatedProduct(b, Precision::bf16)(out, 0, a, 0, m);
    EXPECT_TRUE(at::allclose(out, expected, 1e-6, 1e-5)) << m << " " << k << " " << n;
    RepeatedProduct(b, Precision::fp32)(out, 0, a, 0, m, /*add=*/true);
    EXPECT_TRUE(at::allclose(out, expected + at::mm(a, b), 1e-5, 1e-4)) << m << " " << k << " " << n;
  }
}

// Rows from any place on are multiplied as a view of them is, and the rest of the result stays.
TEST(Bf16Product, TakesRowsFromAPlaceOn) {
  for (const Precision precision : {Precision::fp32, Precision::bf16})
    for (const auto& [m, k, n] : kShapes) {
      const Tensor a = uniform(m + 5, k, 10), b = uniform(k, n, 11), c = uniform(m + 3, n, 12);
      Tensor out = at::ones({m + 4, n}), expected = out.clone();
      RepeatedProduct(b, precision)(out, 1, a, 2, m);
      expected.narrow(0, 1, m).copy_(product(a.narrow(0, 2, m), b, precision));
      EXPECT_TRUE(at::allclose(out, expected, 1e-6, 1e-5)) << m << " " << k << " " << n;

      Tensor sum = uniform(k, n, 13), expected_sum = sum.clone();
      add_product_of_rows(sum, a, 2, c, 3, m, precision);
      add_product(expected_sum, a.narrow(0, 2, m).t(), c.narrow(0, 3, m), precision);
      EXPECT_TRUE(at::equal(sum, expected_sum)) << m << " " << k << " " << n;
    }
}

TEST(Bf16Product, HasTheSameBitsOnEveryRun) {
  const Tensor a = uniform(300, 147, 8), b = uniform(147, 200, 9);
  const Tensor first = product(a, b, Precision::bf16);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(at::equal(product(a, b, Precision::bf16), first));
}

}  // namespace
}  // namespace gru4rec

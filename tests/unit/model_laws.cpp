// Laws of the model: our GRU is torch's, our softmax is cross entropy, one pass is the sum over prefixes, and owners do not
// matter.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/variable.h>

#include <cmath>
#include <numeric>
#include <utility>

#include "gru4rec/data/negatives.h"
#include "gru4rec/data/plan.h"
#include "gru4rec/model/full_softmax.h"
#include "gru4rec/model/gru4rec.h"
#include "gru4rec/model/gru_kernels.h"
#include "gru4rec/model/gru_layer.h"
#include "gru4rec/model/products.h"
#include "support/temporary_folder.h"
#include "support/training_example.h"

namespace gru4rec {
namespace {

using at::Tensor;
using testing::TemporaryFolder;
using testing::write_training_example;

Tensor uniform(at::IntArrayRef shape, uint64_t key, double bound = 0.5) {
  const Stream stream{1, Purpose::parameter_init, key};
  Tensor values = at::empty(shape, at::kFloat);
  for (int64_t i = 0; i < values.numel(); ++i)
    values.data_ptr<float>()[i] = static_cast<float>(bound * (2 * stream.uniform(static_cast<uint64_t>(i)) - 1));
  return values;
}

double largest_difference(const Tensor& a, const Tensor& b) { return (a - b).abs().max().item<double>(); }
double largest_difference(std::span<const float> a, std::span<const float> b) {
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::abs(double{a[i]} - double{b[i]}));
  return largest;
}

// Few rows, rows that are multiplied in several parts, and a step of more rows than such a part has.
class GruLayer : public ::testing::TestWithParam<std::vector<int64_t>> {
 protected:
  const std::vector<int64_t>& step_sizes = GetParam();
  const int64_t inputs = std::accumulate(step_sizes.begin(), step_sizes.end(), int64_t{0});
};
INSTANTIATE_TEST_SUITE_P(Steps, GruLayer,
                         ::testing::Values(std::vector<int64_t>{5, 5, 3, 2, 2, 1, 1}, std::vector<int64_t>{33, 17, 16, 2, 1},
                                           std::vector<int64_t>{130, 129, 100, 60, 60, 33, 3, 1},
                                           std::vector<int64_t>{300, 280, 7}));

TEST_P(GruLayer, EqualsTorchForwardAndBackward) {
  const int64_t in = 6, hidden = 9;
  auto leaf = [](const Tensor& values) { return values.clone().set_requires_grad(true); };
  const Tensor x = uniform({inputs, in}, 1), w_ih = uniform({3 * hidden, in}, 2), w_hh = uniform({3 * hidden, hidden}, 3);
  const Tensor weights = uniform({inputs, hidden}, 4);

  const GruTrace ours = gru_forward(x, step_sizes, w_ih, w_hh);
  const GruGradients gradients = gru_backward(weights, x, step_sizes, w_ih, w_hh, ours);

  const Tensor x2 = leaf(x), w_ih2 = leaf(w_ih), w_hh2 = leaf(w_hh);
  const auto [theirs, last] =
      at::gru(x2, at::tensor(step_sizes), at::zeros({1, step_sizes.front(), hidden}), {w_ih2, w_hh2}, /*has_biases=*/false,
              /*num_layers=*/1, /*dropout=*/0.0, /*train=*/true, /*bidirectional=*/false);
  (theirs * weights).sum().backward();

  EXPECT_LT(largest_difference(ours.states, theirs), 1e-6);
  EXPECT_LT(largest_difference(gradients.input, x2.grad()), 1e-6);
  const double bound = 2e-6 * std::sqrt(std::max(1.0, static_cast<double>(inputs) / 19));  // of a sum over so many inputs
  EXPECT_LT(largest_difference(gradients.weight_ih, w_ih2.grad()), bound);
  EXPECT_LT(largest_difference(gradients.weight_hh, w_hh2.grad()), bound);
  const GruGradients of_weights =
      gru_backward(weights, x, step_sizes, w_ih, w_hh, ours, Precision::fp32, /*wants_input=*/false);
  EXPECT_FALSE(of_weights.input.defined());
  EXPECT_TRUE(at::equal(of_weights.weight_hh, gradients.weight_hh));
}

// In bf16 the gradients are those of products of rounded gradients of gates, made here step by step and all rows at once: apart
// from the order of sums, which moves a rounding here and there, nothing may be between them.
TEST_P(GruLayer, InBf16TheGradientsAreProductsOfWhatThePointwisePartGives) {
  for (const auto& [in, hidden] : {std::pair<int64_t, int64_t>{37, 40}, {32, 64}, {70, 5}}) {
    const Tensor x = uniform({inputs, in}, 1), w_ih = uniform({3 * hidden, in}, 2, 0.2);
    const Tensor w_hh = uniform({3 * hidden, hidden}, 3, 0.2), grad = uniform({inputs, hidden}, 4);
    const GruTrace trace = gru_forward(x, step_sizes, w_ih, w_hh, Precision::bf16);
    const GruGradients got = gru_backward(grad, x, step_sizes, w_ih, w_hh, trace, Precision::bf16);

    const Tensor of_input = at::empty({inputs, 3 * hidden}), of_recurrent = at::empty({inputs, 3 * hidden});
    const Tensor before = at::empty({inputs, hidden}), carried = at::zeros({step_sizes.front(), hidden});
    int64_t first = inputs, behind = 0;
    for (size_t i = step_sizes.size(); i-- > 0; behind = step_sizes[i]) {
      first -= step_sizes[i];
      const auto rows = [&](const Tensor& all) { return all.data_ptr<float>() + first * all.size(1); };
      const Tensor states_before = i > 0 ? trace.states.narrow(0, first - step_sizes[i - 1], step_sizes[i]) : Tensor();
      gru_backward_step({.rows = step_sizes[i],
                         .hidden = hidden,
                         .gates = rows(trace.gates),
                         .recurrent_n = rows(trace.recurrent_n),
                         .before = i > 0 ? states_before.const_data_ptr<float>() : nullptr,
                         .grad = rows(grad),
                         .carried = carried.data_ptr<float>(),
                         .carried_rows = behind,
                         .grad_input = rows(of_input),
                         .grad_recurrent = rows(of_recurrent),
                         .kept_before = rows(before)});
      if (i > 0)
        carried.narrow(0, 0, step_sizes[i]) += product(of_recurrent.narrow(0, first, step_sizes[i]), w_hh, Precision::bf16);
    }
    const GruGradients of_weights =
        gru_backward(grad, x, step_sizes, w_ih, w_hh, trace, Precision::bf16, /*wants_input=*/false);
    EXPECT_FALSE(of_weights.input.defined());
    EXPECT_TRUE(at::equal(of_weights.weight_ih, got.weight_ih));
    const auto expect_near = [&](const Tensor& value, const Tensor& expected) {
      EXPECT_LT(largest_difference(value, expected), 1e-3 * expected.abs().max().item<double>()) << hidden;
    };
    expect_near(got.input, product(of_input, w_ih, Precision::bf16));
    expect_near(got.weight_ih, product(of_input.t(), x, Precision::bf16));
    expect_near(got.weight_hh, product(of_recurrent.t(), before, Precision::bf16));
  }
}

TEST_P(GruLayer, HasTheSameBitsWithMoreThreads) {
  for (const Precision precision : {Precision::fp32, Precision::bf16}) {
    const int64_t in = 32, hidden = 192;
    const Tensor x = uniform({inputs, in}, 1), w_ih = uniform({3 * hidden, in}, 2, 0.2);
    const Tensor w_hh = uniform({3 * hidden, hidden}, 3, 0.2), grad = uniform({inputs, hidden}, 4);
    const auto run = [&](int threads) {
      const int before = at::get_num_threads();
      at::set_num_threads(threads);
      const GruTrace trace = gru_forward(x, step_sizes, w_ih, w_hh, precision);
      const GruGradients of = gru_backward(grad, x, step_sizes, w_ih, w_hh, trace, precision);
      at::set_num_threads(before);
      return std::vector<Tensor>{trace.states, of.input, of.weight_ih, of.weight_hh};
    };
    const std::vector<Tensor> one = run(1), three = run(3);
    // Where the library multiplies, its threads may move last bits, and these a rounding to bf16.
    const bool ours = precision == Precision::bf16 && bf16_in_hardware();
    for (size_t i = 0; i < one.size(); ++i)
      EXPECT_LE(largest_difference(one[i], three[i]), ours ? 0.0 : 1e-3 * one[i].abs().max().item<double>()) << i;
  }
}

// Rounded by at most 1/512 of themselves, the operands move states and gradients a little, but do move them.
TEST_P(GruLayer, InBf16IsNearTheSameInFp32) {
  const int64_t in = 37, hidden = 40;
  const Tensor x = uniform({inputs, in}, 1), w_ih = uniform({3 * hidden, in}, 2, 0.2);
  const Tensor w_hh = uniform({3 * hidden, hidden}, 3, 0.2), weights = uniform({inputs, hidden}, 4);
  const auto results = [&](Precision precision) {
    const GruTrace trace = gru_forward(x, step_sizes, w_ih, w_hh, precision);
    const GruGradients gradients = gru_backward(weights, x, step_sizes, w_ih, w_hh, trace, precision);
    return std::vector<Tensor>{trace.states, gradients.input, gradients.weight_ih, gradients.weight_hh};
  };
  const std::vector<Tensor> fp32 = results(Precision::fp32), bf16 = results(Precision::bf16);
  for (size_t i = 0; i < fp32.size(); ++i) {
    const double largest = fp32[i].abs().max().item<double>();
    EXPECT_LT(largest_difference(fp32[i], bf16[i]), 0.01 * largest) << i;
    EXPECT_GT(largest_difference(fp32[i], bf16[i]), 1e-5 * largest) << i;
  }
  EXPECT_TRUE(at::equal(results(Precision::bf16)[3], bf16[3]));
}

struct SoftmaxCase {
  int64_t targets, rows;
  bool score_padding;
};
class Softmax : public ::testing::TestWithParam<SoftmaxCase> {
 protected:
  static SoftmaxOptions softmax_options(Precision precision = Precision::fp32) {
    return {GetParam().score_padding, softmax_schedule(GetParam().rows, precision), precision};
  }
};
INSTANTIATE_TEST_SUITE_P(Sizes, Softmax,
                         ::testing::Values(SoftmaxCase{37, 53, true}, SoftmaxCase{37, 53, false}, SoftmaxCase{1100, 4097, true},
                                           SoftmaxCase{613, 9001, false}),
                         [](const auto& c) {
                           return std::to_string(c.param.targets) + "Targets" + std::to_string(c.param.rows) + "Rows" +
                                  (c.param.score_padding ? "Padding" : "NoPadding");
                         });

struct SoftmaxInput {
  Tensor queries, table, labels, weights;
};
SoftmaxInput softmax_input(const SoftmaxCase& c) {
  const Stream random{3, Purpose::parameter_init};
  std::vector<int64_t> labels;
  std::vector<float> weights;
  for (int64_t i = 0; i < c.targets; ++i) {
    labels.push_back(1 + static_cast<int64_t>(random.below(static_cast<uint64_t>(i), static_cast<uint64_t>(c.rows - 1))));
    weights.push_back(static_cast<float>(1 + i % 3));
  }
  labels[0] = c.rows - 1;
  return {uniform({c.targets, 8}, 5, 2.0), uniform({c.rows, 8}, 6, 2.0), at::tensor(labels), at::tensor(weights)};
}

TEST_P(Softmax, EqualsCrossEntropyInDoubleWithItsGradients) {
  const SoftmaxInput input = softmax_input(GetParam());
  Tensor grad_table = at::zeros_like(input.table);
  const SoftmaxLoss loss =
      softmax_cross_entropy(input.queries, input.table, input.labels, input.weights, softmax_options(), grad_table);

  const Tensor q = input.queries.to(at::kDouble).set_requires_grad(true);
  const Tensor t = input.table.to(at::kDouble).set_requires_grad(true);
  Tensor scores = q.mm(t.t());
  if (!GetParam().score_padding) scores = scores.index_fill(1, at::tensor({int64_t{0}}), -INFINITY);
  const Tensor losses = -at::log_softmax(scores, 1).gather(1, input.labels.unsqueeze(1)).squeeze(1);
  const Tensor expected = (losses * input.weights).sum();
  expected.backward();
  EXPECT_NEAR(loss.sum, expected.item<double>(), 1e-5 * expected.item<double>());
  EXPECT_LT(largest_difference(loss.grad_queries, q.grad()), 1e-4);  // values up to 6
  EXPECT_LT(largest_difference(grad_table, t.grad()), 5e-5);         // the same
}

// What is subtracted for one tile cannot be for the next one, where the exponentials would overflow: but for every third query,
// whose scores stay small.
TEST(SoftmaxPrecision, HoldsWhereEachTileHasFarLargerScoresThanTheOneBefore) {
  const SoftmaxInput input = softmax_input({100, 1500, true});
  const auto rounded = [](const Tensor& t) { return t.to(at::kBFloat16).to(at::kFloat); };
  const Tensor rise = at::arange(1500).div(256, "floor").mul(25).add(1).unsqueeze(1);  // scores of up to 1 · 32, 26 · 32, …
  const Tensor size = at::arange(100).remainder(3).eq(0).mul(-0.99).add(1).unsqueeze(1);
  const Tensor queries = rounded(input.queries * size), table = rounded(input.table * rise);
  std::vector<Tensor> gradients;
  for (const bool stored : {true, false}) {
    Tensor grad_table = at::zeros_like(table);
    const SoftmaxLoss loss =
        softmax_cross_entropy(queries, table, input.labels, input.weights, {true, {64, stored}, Precision::bf16}, grad_table);
    gradients.push_back(grad_table);
    const Tensor scores = queries.to(at::kDouble).mm(table.to(at::kDouble).t());
    const Tensor losses = -at::log_softmax(scores, 1).gather(1, input.labels.unsqueeze(1)).squeeze(1);
    const double expected = (losses * input.weights).sum().item<double>();
    EXPECT_NEAR(loss.sum, expected, 1e-5 * expected) << "stored " << stored;
    EXPECT_TRUE(loss.grad_queries.isfinite().all().item<bool>());
    EXPECT_TRUE(grad_table.isfinite().all().item<bool>());
  }
  EXPECT_TRUE(at::equal(gradients[0], gradients[1]));
}

TEST_P(Softmax, ThreePretendedOwnersEqualOne) {
  const SoftmaxInput input = softmax_input(GetParam());
  const int64_t blocks = block_count(input.table.size(0));
  if (blocks < 3 && GetParam().rows < 4097) {
    EXPECT_EQ(blocks, 1);  // one block has one owner; the larger cases divide
    return;
  }
  const std::vector<int64_t> owners = blocks >= 3 ? std::vector<int64_t>{0, 1, 2} : std::vector<int64_t>{0, 1};
  Tensor grad_one = at::zeros_like(input.table), grad_three = at::zeros_like(input.table);
  for (const Precision precision : {Precision::fp32, Precision::bf16}) {
    const SoftmaxOptions options = softmax_options(precision);
    const SoftmaxLoss one = softmax_cross_entropy(input.queries, input.table, input.labels, input.weights, options, grad_one);
    const SoftmaxLoss three =
        softmax_cross_entropy(input.queries, input.table, input.labels, input.weights, options, grad_three, owners);
    EXPECT_EQ(one.sum, three.sum);
    EXPECT_TRUE(at::equal(one.grad_queries, three.grad_queries));
    EXPECT_TRUE(at::equal(grad_one, grad_three));
  }
}

// Of the largest catalogue 500 rows of exponentials are more than caches are thought to hold.
TEST_P(Softmax, RecomputedExponentialsEqualStoredOnes) {
  const SoftmaxInput input = softmax_input(GetParam());
  Tensor grad_stored = at::zeros_like(input.table), grad_recomputed = at::zeros_like(input.table);
  for (const Precision precision : {Precision::fp32, Precision::bf16})
    for (const int64_t chunk_rows : {200, 500}) {
      const auto loss = [&](bool stored, Tensor& grad) {
        SoftmaxOptions options = softmax_options(precision);
        options.schedule = {.chunk_rows = chunk_rows, .stored = stored};
        return softmax_cross_entropy(input.queries, input.table, input.labels, input.weights, options, grad);
      };
      const SoftmaxLoss stored = loss(true, grad_stored), recomputed = loss(false, grad_recomputed);
      EXPECT_EQ(stored.sum, recomputed.sum);
      EXPECT_TRUE(at::equal(stored.grad_queries, recomputed.grad_queries));
      EXPECT_TRUE(at::equal(grad_stored, grad_recomputed)) << chunk_rows << " rows at a time";
    }
}

TEST_P(Softmax, AConstantTableMovesNoBitOfTheRest) {
  const SoftmaxInput input = softmax_input(GetParam());
  for (const Precision precision : {Precision::fp32, Precision::bf16}) {
    const auto loss = [&](Tensor grad) {
      return softmax_cross_entropy(input.queries, input.table, input.labels, input.weights, softmax_options(precision), grad);
    };
    const SoftmaxLoss moving = loss(at::zeros_like(input.table)), constant = loss(Tensor());
    EXPECT_EQ(moving.sum, constant.sum);
    EXPECT_TRUE(at::equal(moving.grad_queries, constant.grad_queries));
  }
}

TEST_P(Softmax, HasTheSameBitsWithMoreThreads) {
  if (!bf16_in_hardware()) GTEST_SKIP() << "the library multiplies here, whose threads may move last bits";
  const SoftmaxInput input = softmax_input(GetParam());
  const auto run = [&](int threads) {
    const int before = at::get_num_threads();
    at::set_num_threads(threads);
    Tensor grad = at::zeros_like(input.table);
    const SoftmaxLoss loss =
        softmax_cross_entropy(input.queries, input.table, input.labels, input.weights, softmax_options(Precision::bf16), grad);
    at::set_num_threads(before);
    return std::vector<Tensor>{at::tensor(loss.sum, at::kDouble), loss.grad_queries, grad};
  };
  const std::vector<Tensor> one = run(1), three = run(3);
  for (size_t i = 0; i < one.size(); ++i) EXPECT_TRUE(at::equal(one[i], three[i])) << i;
}

// And to say so changes no bit.
TEST_P(Softmax, RowsThatAreSaidToBeFinalChangeNoMore) {
  const SoftmaxInput input = softmax_input(GetParam());
  for (const Precision precision : {Precision::fp32, Precision::bf16})
    for (const bool stored : {true, false}) {
      SoftmaxOptions options = softmax_options(precision);
      options.schedule = {.chunk_rows = 200, .stored = stored};
      Tensor grad_table = at::zeros_like(input.table), untold = at::zeros_like(input.table);
      std::vector<Tensor> seen;
      const SoftmaxLoss told =
          softmax_cross_entropy(input.queries, input.table, input.labels, input.weights, options, grad_table, {0},
                                [&](int64_t rows) { seen.push_back(grad_table.narrow(0, 0, rows).clone()); });
      ASSERT_EQ(static_cast<int64_t>(seen.size()), block_count(GetParam().rows));
      for (size_t block = 0; block < seen.size(); ++block) {
        EXPECT_EQ(seen[block].size(0), block_rows(static_cast<int64_t>(block), GetParam().rows).last);
        EXPECT_TRUE(at::equal(seen[block], grad_table.narrow(0, 0, seen[block].size(0)))) << block;
      }
      const SoftmaxLoss loss = softmax_cross_entropy(input.queries, input.table, input.labels, input.weights, options, untold);
      EXPECT_EQ(told.sum, loss.sum);
      EXPECT_TRUE(at::equal(told.grad_queries, loss.grad_queries));
      EXPECT_TRUE(at::equal(grad_table, untold));
    }
}

// So that they can be sent while the others are made.
TEST_P(Softmax, OfUpToFourChunksNothingOfALaterBlockIsMadeBeforeTheFirstIsFinal) {
  const SoftmaxInput input = softmax_input(GetParam());
  for (const int64_t chunks : {1, 2, 4}) {
    SoftmaxOptions options = softmax_options();
    options.schedule = {.chunk_rows = (GetParam().targets + chunks - 1) / chunks, .stored = true};
    EXPECT_EQ(chunks_together(options.schedule, GetParam().targets), chunks);
    Tensor grad_table = at::zeros_like(input.table), untold = at::zeros_like(input.table);
    int64_t seen = 0;
    softmax_cross_entropy(input.queries, input.table, input.labels, input.weights, options, grad_table, {0}, [&](int64_t rows) {
      EXPECT_TRUE(grad_table.narrow(0, rows, GetParam().rows - rows).eq(0).all().item<bool>()) << rows;
      seen = rows;
    });
    EXPECT_EQ(seen, GetParam().rows);
    softmax_cross_entropy(input.queries, input.table, input.labels, input.weights, options, untold);
    EXPECT_TRUE(at::equal(grad_table, untold));
  }
  EXPECT_EQ(chunks_together({.chunk_rows = 10, .stored = true}, 1000), 4);
  EXPECT_EQ(chunks_together({.chunk_rows = 10, .stored = false}, 1000), 1) << "the exponentials of one chunk only are there";
}

TEST_P(Softmax, InBf16IsTheCrossEntropyOfRoundedOperands) {
  const SoftmaxInput input = softmax_input(GetParam());
  const auto rounded = [](const Tensor& values) { return values.to(at::kBFloat16).to(at::kFloat); };
  Tensor grad_bf16 = at::zeros_like(input.table), grad_fp32 = at::zeros_like(input.table);
  const SoftmaxLoss bf16 = softmax_cross_entropy(input.queries, input.table, input.labels, input.weights,
                                                 softmax_options(Precision::bf16), grad_bf16);
  const SoftmaxLoss fp32 = softmax_cross_entropy(rounded(input.queries), rounded(input.table), input.labels, input.weights,
                                                 softmax_options(), grad_fp32);
  EXPECT_NEAR(bf16.sum, fp32.sum, 1e-6 * fp32.sum);
  // Probabilities are rounded by at most 1/512 of themselves, the vectors of the targets are not.
  EXPECT_LT(largest_difference(bf16.grad_queries, fp32.grad_queries), 0.04);
  EXPECT_LT(largest_difference(grad_bf16, grad_fp32), 0.04);
  EXPECT_GT(largest_difference(bf16.grad_queries, fp32.grad_queries), 1e-5);
}

TEST(SoftmaxScheduleLaws, HeldScoresAreBoundedAndLargeCataloguesRecompute) {
  for (const Precision precision : {Precision::fp32, Precision::bf16})
    for (const int64_t rows : {2, 1683, 17377, 65000, 66000, 131000, 132000, 1000001}) {
      const SoftmaxSchedule schedule = softmax_schedule(rows, precision);
      EXPECT_GE(schedule.chunk_rows, 256) << rows;
      EXPECT_LE(softmax_buffer_bytes(rows, 64, precision), (64 << 20) + (4 << 20))
          << rows;  // exponentials; gradients of queries
      EXPECT_EQ(schedule.stored, rows <= (precision == Precision::bf16 ? 131072 : 65536)) << rows;
    }
}

// A store, a model and what the tests need of both.
class Model : public ::testing::Test {
 protected:
  Model() {
    write_training_example(folder_ / "store", {.sessions = 60, .catalogue = 31, .longest = 10});
    store_.emplace(folder_ / "store");
  }
  ModelShape shape(int64_t layers = 1, double dropout = 0) const {
    return {.catalogue = 31, .embedding_size = 6, .hidden_size = 10, .num_layers = layers, .dropout_prob = dropout};
  }
  Batch batch(Augmentation mode, uint32_t max_length = 50, uint32_t replicas = 1, uint32_t replica = 0) {
    EpochPlan plan(*store_,
                   {.seed = 2, .batch_targets = 100000, .max_length = max_length, .augmentation = mode, .replicas = replicas});
    ItemReader items(*store_);
    return pack(plan.share(0, 0, replica), items);
  }
  struct Result {
    LossSum loss;
    std::vector<float> gradient;
  };
  static Result run(Gru4Rec& model, const Batch& batch, bool frozen_table = false) {
    Result result{{}, std::vector<float>(static_cast<size_t>(model.layout().gradient_floats(frozen_table)))};
    result.loss = model.forward_backward(batch, {9, 0}, result.gradient);
    return result;
  }
  TemporaryFolder folder_;
  std::optional<Store> store_;
};

TEST_F(Model, OnePassEqualsTheSumOverPrefixes) {
  for (int64_t layers : {1, 2}) {
    Gru4Rec model(shape(layers));
    model.initialise(4);
    const Result one_pass = run(model, batch(Augmentation::one_pass));
    const Result prefixes = run(model, batch(Augmentation::prefixes));
    EXPECT_EQ(one_pass.loss.count, prefixes.loss.count);
    EXPECT_NEAR(one_pass.loss.sum, prefixes.loss.sum, 1e-5 * prefixes.loss.sum);
    EXPECT_LT(largest_difference(one_pass.gradient, prefixes.gradient), 2e-4);
  }
}

// With a dense layer of the identity and no bias, loss and gradient are those of the model that has none.
TEST_F(Model, WithoutADenseLayerIsWithOneThatChangesNothing) {
  for (const Augmentation mode : {Augmentation::one_pass, Augmentation::prefixes}) {
    ModelShape with = shape(2, 0.3);
    with.hidden_size = with.embedding_size;
    with.output_dropout_prob = 0.2;
    ModelShape without = with;
    without.dense_layer = false;
    Gru4Rec dense(with), plain(without);
    dense.initialise(4);
    dense.parameter("dense.weight").copy_(at::eye(with.hidden_size));
    dense.parameter("dense.bias").zero_();
    ASSERT_EQ(dense.layout().parameters().size(), plain.layout().parameters().size() + 2);
    for (const ParameterInfo& info : plain.layout().parameters()) plain.parameter(info.name).copy_(dense.parameter(info.name));
    const Result expected = run(dense, batch(mode)), result = run(plain, batch(mode));
    EXPECT_NEAR(result.loss.sum, expected.loss.sum, 1e-6 * expected.loss.sum);
    EXPECT_LT(largest_difference(plain.queries(batch(mode)), dense.queries(batch(mode))), 1e-6);
    const auto part = [](const Result& of, int64_t offset, int64_t size) {
      return std::vector<float>(of.gradient.begin() + offset, of.gradient.begin() + offset + size);
    };
    for (const ParameterInfo& info : plain.layout().parameters())
      EXPECT_LT(largest_difference(part(result, info.offset, info.size()),
                                   part(expected, dense.layout().find(info.name).offset, info.size())),
                1e-4)
          << info.name;
    const int64_t table = plain.layout().table().size();
    EXPECT_LT(largest_difference(part(result, plain.layout().table_input_gradient(), table),
                                 part(expected, dense.layout().table_input_gradient(), table)),
              1e-4);
  }
}

TEST_F(Model, ItemsOfUnitLengthAreOfThatLengthInAnyCatalogue) {
  for (const int64_t catalogue : {300, 3000}) {
    ModelShape s = shape();
    s.catalogue = catalogue;
    s.embedding_size = 64;
    Gru4Rec model(s);
    model.initialise(4, EmbeddingInit::unit);
    const Tensor lengths = model.parameter("item_embedding.weight").norm(2, 1);
    EXPECT_NEAR(lengths.mean().item<double>(), 1, 0.02);
    EXPECT_NEAR(lengths.std().item<double>(), 1 / std::sqrt(2.0 * 64), 0.02);
    model.initialise(4, EmbeddingInit::xavier_normal);
    EXPECT_NEAR(model.parameter("item_embedding.weight").norm(2, 1).mean().item<double>(),
                std::sqrt(2.0 * 64 / static_cast<double>(catalogue + 1 + 64)), 0.02);
  }
}

TEST_F(Model, TheGradientIsTheDerivativeOfTheLoss) {
  const std::vector<uint64_t> popularity = training_popularity(*store_);
  const Batch all = batch(Augmentation::one_pass);
  for (const bool cosine : {false, true}) {
    for (const LossType type : {LossType::ce, LossType::bpr, LossType::sampled_softmax, LossType::bpr_max,
                                LossType::cosine_embedding, LossType::cosine_ranking}) {
      const bool frozen = type == LossType::cosine_embedding;
      ModelShape with_all = shape(2, 0.3);
      with_all.hidden_dropout_prob = 0.1;
      with_all.output_dropout_prob = 0.2;
      with_all.cosine = with_all.learn_score_scale = cosine;
      with_all.score_scale = 4;
      Gru4Rec model(with_all);
      model.initialise(4);
      model.set_loss(make_loss({.type = type, .negatives = {NegativeDistribution::uniform, 2}, .n_sample = 19}, popularity));
      const Result result = run(model, all, frozen);
      const ParameterLayout& layout = model.layout();
      for (const ParameterInfo& info : layout.parameters()) {
        if (frozen && info.name == layout.table().name) continue;
        for (int64_t i : {int64_t{0}, info.size() / 2, info.size() - 1}) {
          float& parameter = model.parameters()[static_cast<size_t>(info.offset + i)];
          const float before = parameter;
          constexpr float kStep = 1e-2f;
          parameter = before + kStep;
          const double above = run(model, all, frozen).loss.sum;
          parameter = before - kStep;
          const double below = run(model, all, frozen).loss.sum;
          parameter = before;
          double gradient = result.gradient[static_cast<size_t>(info.offset + i)];
          if (info.name == layout.table().name)
            gradient += result.gradient[static_cast<size_t>(layout.table_input_gradient() + i)];
          const double numeric = (above - below) / (2 * kStep);
          EXPECT_NEAR(gradient, numeric, 0.02 * std::abs(numeric) + 0.05)
              << info.name << " element " << i << " loss " << static_cast<int>(type) << " cosine " << cosine;
        }
      }
    }
  }
}

TEST_F(Model, CosineScoresAreScaleTimesCosineAndTheirLengthsDoNotMatter) {
  ModelShape s = shape();
  s.cosine = true;
  s.score_scale = 7;
  Gru4Rec model(s);
  model.initialise(4);
  const Batch all = batch(Augmentation::one_pass);
  const Tensor scores = model.queries(all).mm(model.score_table().t());
  EXPECT_LE(scores.abs().max().item<float>(), 7.0f * 1.0001f);
  EXPECT_LT(largest_difference(model.queries(all).norm(2, 1), at::full({all.targets()}, 7.0f)), 1e-5);
  EXPECT_LT(largest_difference(model.score_table().norm(2, 1), at::ones({32})), 1e-6);
  // The loss by its formula, in double, from dot products of the plain vectors.
  ModelShape plain = s;
  plain.cosine = false;
  Gru4Rec dot(plain);
  std::copy(model.parameters().begin(), model.parameters().end(), dot.parameters().begin());
  const Tensor q = dot.queries(all).to(at::kDouble), t = dot.score_table().to(at::kDouble);
  const Tensor cosines = q.mm(t.t()) / q.norm(2, 1, true) / t.norm(2, 1).unsqueeze(0);
  const Tensor labels = at::tensor(all.labels);
  const double expected = -at::log_softmax(7 * cosines, 1).gather(1, labels.unsqueeze(1)).sum().item<double>();
  EXPECT_NEAR(run(model, all).loss.sum, expected, 1e-5 * expected);
}

TEST_F(Model, SharesAddUpToTheBatch) {
  for (const LossType type : {LossType::ce, LossType::cosine_embedding, LossType::cosine_ranking}) {
    ModelShape s = shape(1, 0.3);
    s.cosine = type != LossType::ce;
    Gru4Rec model(s);
    model.initialise(4);
    model.set_loss(make_loss({.type = type, .n_sample = 19}, training_popularity(*store_)));
    const Result whole = run(model, batch(Augmentation::one_pass), type == LossType::cosine_embedding);
    LossSum loss;
    std::vector<float> gradient(whole.gradient.size());
    for (uint32_t replica = 0; replica < 3; ++replica)
      loss += model.forward_backward(batch(Augmentation::one_pass, 50, 3, replica), {9, 0}, gradient);  // adds
    EXPECT_EQ(loss.count, whole.loss.count);
    EXPECT_NEAR(loss.sum, whole.loss.sum, 1e-5 * whole.loss.sum);
    const double size = largest_difference(whole.gradient, std::vector<float>(whole.gradient.size()));
    EXPECT_LT(largest_difference(gradient, whole.gradient), 1e-5 * size) << "loss " << static_cast<int>(type);
  }
}

TEST_F(Model, TheOutputLayersGradientOfTheTableIsSaidToBeFinalBeforeTheGruGoesBackward) {
  for (const LossType type : {LossType::ce, LossType::sampled_softmax}) {
    for (const bool cosine : {false, true}) {
      ModelShape s = shape(2, 0.3);
      s.cosine = cosine;
      Gru4Rec model(s);
      model.initialise(4);
      model.set_loss(make_loss({.type = type, .n_sample = 19}, training_popularity(*store_)));
      const int64_t dense = model.layout().dense_floats(), table = model.layout().table_floats();
      const Tensor gradient = at::zeros({model.layout().gradient_floats()});
      Tensor seen;
      const RowsDone done = [&](int64_t rows) {
        EXPECT_EQ(rows, 32);
        seen = gradient.clone();
      };
      model.forward_backward(batch(Augmentation::one_pass), {9, 0}, gradient, nullptr, {}, done);
      ASSERT_TRUE(seen.defined());
      EXPECT_TRUE(at::equal(seen.narrow(0, dense, table), gradient.narrow(0, dense, table)));
      for (const auto& [first, size] : {std::pair{int64_t{0}, dense}, std::pair{dense + table, table}}) {
        EXPECT_EQ(seen.narrow(0, first, size).abs().max().item<float>(), 0);
        EXPECT_GT(gradient.narrow(0, first, size).abs().max().item<float>(), 0);
      }
      const std::vector<float> expected = run(model, batch(Augmentation::one_pass)).gradient;
      EXPECT_TRUE(std::equal(expected.begin(), expected.end(), gradient.const_data_ptr<float>()));
    }
  }
}

TEST_F(Model, AConstantTableHasNoGradientAndLeavesTheOthersAsTheyAre) {
  const std::vector<uint64_t> popularity = training_popularity(*store_);
  for (const bool cosine : {false, true}) {
    for (const LossType type :
         {LossType::ce, LossType::bpr, LossType::sampled_softmax, LossType::bpr_max, LossType::cosine_ranking}) {
      ModelShape s = shape(2, 0.3);
      s.cosine = s.learn_score_scale = cosine;
      Gru4Rec model(s);
      model.initialise(4);
      model.set_loss(make_loss({.type = type, .negatives = {NegativeDistribution::uniform, 2}, .n_sample = 19}, popularity));
      const Result moving = run(model, batch(Augmentation::one_pass));
      const Result constant = run(model, batch(Augmentation::one_pass), /*frozen_table=*/true);
      EXPECT_EQ(constant.loss.sum, moving.loss.sum);
      EXPECT_EQ(static_cast<int64_t>(constant.gradient.size()), model.layout().dense_floats());
      EXPECT_TRUE(std::equal(constant.gradient.begin(), constant.gradient.end(), moving.gradient.begin()))
          << "loss " << static_cast<int>(type) << " cosine " << cosine;
    }
  }
}

TEST_F(Model, IsTheSameWithItsParametersInOtherMemory) {
  const Batch input = batch(Augmentation::one_pass);
  Gru4Rec model(shape()), moved(shape());
  model.initialise(4);
  moved.initialise(4);
  std::vector<float> memory(moved.parameters().size());
  moved.move_parameters(memory.data());
  EXPECT_EQ(run(moved, input).gradient, run(model, input).gradient);
  moved.initialise(5);  // and there it changes
  EXPECT_TRUE(std::ranges::equal(moved.parameters(), memory));
  EXPECT_NE(run(moved, input).gradient, run(model, input).gradient);
}

TEST_F(Model, CountsTheParametersThatAreTrained) {
  // GRU 3 · 10 · (6 + 10), dense 6 · 10 + 6, table 32 · 6.
  EXPECT_EQ(Gru4Rec(shape()).layout().trained_parameters(true), 480 + 66);
  EXPECT_EQ(Gru4Rec(shape()).layout().trained_parameters(false), 480 + 66 + 192);
}

TEST_F(Model, DropoutDependsOnSessionPositionAndEpochOnly) {
  const Batch whole = batch(Augmentation::one_pass), part = batch(Augmentation::one_pass, 50, 3, 1);
  constexpr Purpose kPurpose = Purpose::embedding_dropout;
  const Tensor mask = dropout_mask(whole, 7, 0.3, kPurpose, {9, 0}), part_mask = dropout_mask(part, 7, 0.3, kPurpose, {9, 0});
  for (int64_t i = 0; i < part.inputs(); ++i) {
    for (int64_t j = 0; j < whole.inputs(); ++j) {
      if (whole.keys[j].session == part.keys[i].session && whole.keys[j].position == part.keys[i].position) {
        EXPECT_TRUE(at::equal(mask[j], part_mask[i]));
      }
    }
  }
  EXPECT_FALSE(at::equal(mask, dropout_mask(whole, 7, 0.3, kPurpose, {9, 1})));
  EXPECT_FALSE(at::equal(mask, dropout_mask(whole, 7, 0.3, kPurpose, {8, 0})));
  EXPECT_FALSE(at::equal(mask, dropout_mask(whole, 7, 0.3, Purpose::output_dropout, {9, 0})));
  EXPECT_NEAR(mask.mean().item<double>(), 1.0, 0.05);
  const double kept = mask.gt(0).to(at::kDouble).mean().item<double>();
  EXPECT_NEAR(kept, 0.7, 0.03);
}

TEST_F(Model, OptionsOfTheModelChangeTheLoss) {
  auto loss_of = [&](const ModelShape& s, uint64_t seed = 4) {
    Gru4Rec model(s);
    model.initialise(seed);
    return run(model, batch(Augmentation::one_pass)).loss.sum;
  };
  ModelShape no_padding = shape();
  no_padding.score_padding = false;
  ModelShape output_dropout = shape();
  output_dropout.output_dropout_prob = 0.5;
  const double base = loss_of(shape());
  EXPECT_NE(base, loss_of(no_padding));
  EXPECT_NE(base, loss_of(output_dropout));
  ModelShape hidden_dropout = shape(2);
  hidden_dropout.hidden_dropout_prob = 0.5;
  EXPECT_NE(loss_of(shape(2)), loss_of(hidden_dropout));
  EXPECT_NE(base, loss_of(shape(2)));
  EXPECT_NE(base, loss_of(shape(1, 0.5)));
  EXPECT_NE(base, loss_of(shape(), 5));
}

TEST_F(Model, AnEmptyShareHasNoLossAndNoGradient) {
  Gru4Rec model(shape());
  model.initialise(4);
  const Result result = run(model, Batch{});
  EXPECT_EQ(result.loss.count, 0);
  EXPECT_EQ(result.loss.sum, 0);
  EXPECT_EQ(*std::max_element(result.gradient.begin(), result.gradient.end()), 0.0f);
}

TEST_F(Model, PrecisionIsThatOfTrainingAndNeverOfRanks) {
  const Batch all = batch(Augmentation::one_pass);
  const auto trained = [&](Precision precision) {
    Gru4Rec model(shape());
    model.initialise(1);
    model.set_precision(precision);
    const std::vector<float> gradient = run(model, all).gradient;
    return std::pair(gradient, model.queries(all));
  };
  const auto [fp32, fp32_queries] = trained(Precision::fp32);
  const auto [bf16, bf16_queries] = trained(Precision::bf16);
  EXPECT_NE(fp32, bf16);
  EXPECT_TRUE(at::equal(fp32_queries, bf16_queries));
}

}  // namespace
}  // namespace gru4rec

// Laws of the sampled losses: each is its formula, with the formula's gradients; negatives are drawn as promised.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/variable.h>

#include <algorithm>
#include <cmath>
#include <tuple>

#include "gru4rec/base/error.h"
#include "gru4rec/data/negatives.h"
#include "gru4rec/model/distillation.h"
#include "gru4rec/model/sampled_losses.h"
#include "support/temporary_folder.h"
#include "support/training_example.h"

namespace gru4rec {
namespace {

using at::Tensor;

Tensor uniform(at::IntArrayRef shape, uint64_t key, double bound) {
  const Stream stream{1, Purpose::parameter_init, key};
  Tensor values = at::empty(shape, at::kFloat);
  for (int64_t i = 0; i < values.numel(); ++i)
    values.data_ptr<float>()[i] = static_cast<float>(bound * (2 * stream.uniform(static_cast<uint64_t>(i)) - 1));
  return values;
}
double largest(const Tensor& a, const Tensor& b) { return (a - b).abs().max().item<double>(); }

constexpr int64_t kTargets = 1031, kItems = 67, kSize = 5;  // more targets than a chunk

struct Inputs {
  Tensor queries = uniform({kTargets, kSize}, 1, 1.5);
  Tensor table = uniform({kItems + 1, kSize}, 2, 1.5);
  Tensor labels, weights;
  Inputs() {
    std::vector<int64_t> label;
    std::vector<float> weight;
    for (int64_t i = 0; i < kTargets; ++i) {
      label.push_back(1 + i * 13 % kItems);
      weight.push_back(static_cast<float>(1 + i % 3));
    }
    labels = at::tensor(label);
    weights = at::tensor(weight);
  }
  Tensor negatives(int64_t count) const {  // some of them twice
    std::vector<int64_t> ids;
    for (int64_t j = 0; j < count; ++j) ids.push_back(1 + j * 29 % (kItems - 3));
    return at::tensor(ids);
  }
};

// Holds a loss against `formula(queries, table)`, which gives the loss of each target in double, and its automatic gradients;
// without that of the table where it is constant.
void expect_is(const Inputs& in, const std::function<SoftmaxLoss(Tensor& grad_table)>& ours,
               const std::function<Tensor(const Tensor& queries, const Tensor& table)>& formula, bool constant = false) {
  Tensor grad_table = constant ? Tensor() : at::ones_like(in.table);  // it is added to
  const SoftmaxLoss loss = ours(grad_table);
  const Tensor q = in.queries.to(at::kDouble).set_requires_grad(true), t = in.table.to(at::kDouble).set_requires_grad(true);
  const Tensor expected = (formula(q, t).reshape({-1}) * in.weights.to(at::kDouble)).sum();
  expected.backward();
  EXPECT_NEAR(loss.sum, expected.item<double>(), 1e-5 * std::abs(expected.item<double>()));
  EXPECT_LT(largest(loss.grad_queries, q.grad()), 5e-5);
  if (!constant) {
    EXPECT_LT(largest(grad_table - 1, t.grad()), 1e-3);  // sums of a thousand
  }
}

TEST(Bpr, IsItsFormulaAveragedOverTheNegativesOfATarget) {
  const Inputs in;
  for (const int64_t each : {1, 3}) {
    const Tensor negatives = (in.labels.unsqueeze(1) - 1 + at::arange(1, each + 1)).remainder(kItems) + 1;
    expect_is(
        in, [&](Tensor& grad) { return bpr_loss(in.queries, in.table, in.labels, negatives, in.weights, grad); },
        [&](const Tensor& q, const Tensor& t) {
          const Tensor target = (q * t.index_select(0, in.labels)).sum(1, true);
          const Tensor other =
              (q.unsqueeze(1) * t.index_select(0, negatives.reshape({-1})).view({kTargets, each, kSize})).sum(2);
          return -at::log(1e-10 + at::sigmoid(target - other)).mean(1);
        });
  }
}

TEST(SampledSoftmax, IsItsFormulaAndANegativeThatIsTheTargetCountsForNothing) {
  const Inputs in;
  const Tensor negatives = in.negatives(90), correction = uniform({90}, 5, 1.0);
  expect_is(
      in,
      [&](Tensor& grad) {
        return sampled_softmax_loss(in.queries, in.table, in.labels, negatives, correction, in.weights, grad);
      },
      [&](const Tensor& q, const Tensor& t) {
        const Tensor target = (q * t.index_select(0, in.labels)).sum(1);
        const Tensor other = q.mm(t.index_select(0, negatives).t()) - correction;
        const Tensor counts = in.labels.unsqueeze(1).ne(negatives.unsqueeze(0)).to(at::kDouble);
        return at::log(at::exp(target) + (at::exp(other) * counts).sum(1)) - target;
      });
}

TEST(SampledSoftmax, WithTheCorrectionIsTheWholeSoftmaxOnAverage) {
  const Inputs in;
  std::vector<uint64_t> popularity(kItems + 1);
  for (int64_t i = 1; i <= kItems; ++i) popularity[static_cast<size_t>(i)] = static_cast<uint64_t>(i * i);
  const NegativeSampler sampler(popularity, 0.5);
  constexpr int64_t kSample = 30000;
  const Stream stream{3, Purpose::shared_negatives, 0};
  std::vector<int64_t> ids;
  std::vector<float> correction;
  for (int64_t j = 0; j < kSample; ++j) {
    ids.push_back(sampler.draw(stream, static_cast<uint64_t>(j)));
    correction.push_back(static_cast<float>(std::log(kSample * sampler.probability(ids.back()))));
  }
  Tensor grad_sampled = at::zeros_like(in.table), grad_whole = at::zeros_like(in.table);
  const double sampled =
      sampled_softmax_loss(in.queries, in.table, in.labels, at::tensor(ids), at::tensor(correction), in.weights, grad_sampled)
          .sum;
  const double whole = softmax_cross_entropy(in.queries, in.table, in.labels, in.weights,
                                             {false, softmax_schedule(in.table.size(0), Precision::fp32)}, grad_whole)
                           .sum;
  EXPECT_NEAR(sampled / whole, 1.0, 0.01);
  EXPECT_LT((grad_sampled - grad_whole).norm().item<double>(), 0.1 * grad_whole.norm().item<double>());
}

TEST(BprMax, IsItsFormulaWithAndWithoutThePenalty) {
  const Inputs in;
  const Tensor negatives = in.negatives(41);
  for (const double regularisation : {0.0, 0.7}) {
    expect_is(
        in,
        [&](Tensor& grad) {
          return bpr_max_loss(in.queries, in.table, in.labels, negatives, regularisation, in.weights, grad);
        },
        [&](const Tensor& q, const Tensor& t) {
          const Tensor target = (q * t.index_select(0, in.labels)).sum(1, true);
          const Tensor other = q.mm(t.index_select(0, negatives).t());
          const Tensor counts = in.labels.unsqueeze(1).ne(negatives.unsqueeze(0)).to(at::kDouble);
          const Tensor powers = at::exp(other) * counts;
          const Tensor share = powers / powers.sum(1, true);
          return -at::log((share * at::sigmoid(target - other)).sum(1)) + regularisation * (share * other * other).sum(1);
        });
  }
}

// cos(q, t), in double.
Tensor cosines(const Tensor& q, const Tensor& t) { return q.mm(t.t()) / q.norm(2, 1, true) / t.norm(2, 1).unsqueeze(0); }

TEST(CosineEmbedding, IsItsFormulaWhateverTheLengths) {
  const Inputs in;
  expect_is(
      in, [&](Tensor&) { return cosine_embedding_loss(in.queries, in.table, in.labels, in.weights); },
      [&](const Tensor& q, const Tensor& t) { return 1 - cosines(q, t).gather(1, in.labels.unsqueeze(1)); },
      /*constant=*/true);
}

TEST(CosineRanking, IsItsFormulaAveragedOverTheNegativesThatAreNotTheTarget) {
  const Inputs in;
  const Tensor negatives = in.negatives(41);
  for (const double margin : {0.0, 0.5, 2.0}) {
    for (const bool constant : {false, true}) {
      expect_is(
          in,
          [&](Tensor& grad) {
            return cosine_ranking_loss(in.queries, in.table, in.labels, negatives, margin, in.weights, grad);
          },
          [&](const Tensor& q, const Tensor& t) {
            const Tensor all = cosines(q, t), target = all.gather(1, in.labels.unsqueeze(1));
            const Tensor counts = in.labels.unsqueeze(1).ne(negatives.unsqueeze(0)).to(at::kDouble);
            const Tensor missing = (margin - target + all.index_select(1, negatives)).clamp_min(0) * counts;
            return missing.sum(1) / counts.sum(1);
          },
          constant);
    }
  }
}

TEST(CosineRanking, OfATargetThatIsEveryNegativeIsZero) {
  const Inputs in;
  const Tensor label = in.labels.narrow(0, 0, 1), negatives = at::cat({label, label});
  Tensor grad_table = at::zeros_like(in.table);
  const SoftmaxLoss loss =
      cosine_ranking_loss(in.queries.narrow(0, 0, 1), in.table, label, negatives, 0.5, in.weights.narrow(0, 0, 1), grad_table);
  EXPECT_EQ(loss.sum, 0);
  EXPECT_EQ(loss.grad_queries.abs().max().item<float>(), 0.0f);
  EXPECT_EQ(grad_table.abs().max().item<float>(), 0.0f);
}

Batch batch_of(const Inputs& in) {
  Batch batch;
  for (int64_t i = 0; i < kTargets; ++i) {
    batch.labels.push_back(in.labels[i].item<int64_t>());
    batch.weights.push_back(static_cast<int32_t>(1 + i % 3));
    batch.sessions.push_back(static_cast<uint64_t>(i));
    batch.positions.push_back(1);
  }
  return batch;
}

TEST(Losses, TakeTheNegativesThatABatchBringsForTheirOwn) {
  const Inputs in;
  const std::vector<uint64_t> popularity(kItems + 1, 1);
  const StepKey key{3, 1, 4};
  for (const LossType type : {LossType::bpr, LossType::sampled_softmax, LossType::bpr_max, LossType::cosine_ranking}) {
    const auto loss = make_loss({.type = type, .negatives = {NegativeDistribution::uniform, 2}, .n_sample = 19}, popularity);
    const auto evaluate = [&](const Batch& batch) {
      Tensor grad_table = at::zeros_like(in.table);
      const double sum = (*loss)(in.queries, in.table, batch, key, grad_table).sum;
      RowSet rows(kItems + 1);
      loss->name_rows(batch, key, rows);
      rows.close();
      return std::tuple(sum, grad_table, std::vector<int64_t>(rows.ids().begin(), rows.ids().end()));
    };
    Batch batch = batch_of(in);
    const auto [sum, grad, rows] = evaluate(batch);
    batch.negatives = loss->draw(batch, key);
    const auto [drawn_sum, drawn_grad, drawn_rows] = evaluate(batch);
    EXPECT_EQ(sum, drawn_sum);
    EXPECT_TRUE(at::equal(grad, drawn_grad));
    EXPECT_EQ(rows, drawn_rows);
    std::ranges::fill(batch.negatives, kItems);
    const auto [other_sum, other_grad, other_rows] = evaluate(batch);
    EXPECT_NE(sum, other_sum);
    EXPECT_FALSE(at::equal(grad, other_grad));
    batch.labels.assign(batch.labels.size(), 1);
    RowSet two(kItems + 1);
    loss->name_rows(batch, key, two);
    two.close();
    EXPECT_EQ(two.size(), 2) << "that of the targets and that of the negatives";
    batch.negatives.pop_back();
    EXPECT_THROW(evaluate(batch), BugError);
  }
}

TEST(Losses, AreTheSameWithATableThatIsConstant) {
  const Inputs in;
  const Batch batch = batch_of(in);
  std::vector<std::shared_ptr<const OutputLoss>> losses;
  const std::vector<uint64_t> popularity(kItems + 1, 1);
  for (const LossType type :
       {LossType::ce, LossType::bpr, LossType::sampled_softmax, LossType::bpr_max, LossType::cosine_ranking})
    losses.push_back(make_loss({.type = type, .negatives = {NegativeDistribution::uniform, 2}, .n_sample = 19}, popularity));
  losses.push_back(std::make_shared<DistilledLoss>(DistillationOptions{},
                                                   TeacherView{in.queries, in.table, at::ones({kTargets}, at::kFloat)}));
  for (const auto& loss : losses) {
    Tensor grad_table = at::zeros_like(in.table), none;
    const SoftmaxLoss moving = (*loss)(in.queries, in.table, batch, {}, grad_table);
    const SoftmaxLoss constant = (*loss)(in.queries, in.table, batch, {}, none);
    EXPECT_EQ(moving.sum, constant.sum);
    EXPECT_TRUE(at::equal(moving.grad_queries, constant.grad_queries));
    EXPECT_GT(grad_table.abs().max().item<float>(), 0.0f);
  }
  Tensor grad_table = at::zeros_like(in.table);
  EXPECT_THROW((*make_loss({.type = LossType::cosine_embedding}, popularity))(in.queries, in.table, batch, {}, grad_table),
               BugError);
}

TEST(Distillation, IsItsFormulaAndWithoutAFutureThePlainLoss) {
  const Inputs in;
  Batch batch;
  batch.labels.assign(in.labels.const_data_ptr<int64_t>(), in.labels.const_data_ptr<int64_t>() + kTargets);
  for (int64_t i = 0; i < kTargets; ++i) batch.weights.push_back(static_cast<int32_t>(1 + i % 3));
  std::vector<float> future;
  for (int64_t i = 0; i < kTargets; ++i) future.push_back(i % 4 == 0 ? 0.0f : 1.0f);
  const TeacherView teacher{uniform({kTargets, 3}, 8, 2.0), uniform({kItems + 1, 3}, 9, 2.0), at::tensor(future)};
  for (const bool padding : {true, false}) {
    for (const auto& [lambda, temperature, squared] :
         {std::tuple{0.0, 1.0, false}, std::tuple{0.3, 2.0, false}, std::tuple{1.0, 0.5, true}}) {
      const DistilledLoss loss({lambda, temperature, squared, padding}, teacher);
      expect_is(
          in, [&, &lambda = lambda](Tensor& grad) { return loss(in.queries, in.table, batch, {}, grad); },
          [&, lambda = lambda, t = temperature, squared = squared](const Tensor& q, const Tensor& table) {
            const auto hide = [&](const Tensor& scores) {
              return padding ? scores : scores.index_fill(1, at::tensor({int64_t{0}}), -1e9);
            };
            const Tensor s = hide(q.mm(table.t()));
            const Tensor taught = at::softmax(hide(teacher.queries.mm(teacher.table.t()).to(at::kDouble)) / t, 1);
            const Tensor plain = -at::log_softmax(s, 1).gather(1, in.labels.unsqueeze(1)).squeeze(1);
            const Tensor soft = -(taught * at::log_softmax(s / t, 1)).sum(1) * (squared ? t * t : 1.0);
            const Tensor weight = lambda * teacher.has_future.to(at::kDouble);
            return (1 - weight) * plain + weight * soft;
          });
    }
  }
}

TEST(Negatives, FollowPopularityToThePowerOfAlpha) {
  const std::vector<uint64_t> popularity = {1000, 16, 0, 4, 1, 0, 81};  // entry 0 is no item
  for (const double alpha : {0.0, 0.5, 1.0}) {
    const NegativeSampler sampler(popularity, alpha);
    std::vector<int64_t> drawn(popularity.size());
    const Stream stream{9, Purpose::negatives, 1, 2, 3};
    constexpr int kDraws = 60000;
    for (int i = 0; i < kDraws; ++i) ++drawn[static_cast<size_t>(sampler.draw(stream, static_cast<uint64_t>(i)))];
    double total = 0;
    for (size_t item = 1; item < popularity.size(); ++item) {
      const double weight = popularity[item] == 0 ? alpha == 0 : std::pow(static_cast<double>(popularity[item]), alpha);
      double sum = 0;
      for (size_t other = 1; other < popularity.size(); ++other)
        sum += popularity[other] == 0 ? alpha == 0 : std::pow(static_cast<double>(popularity[other]), alpha);
      EXPECT_NEAR(sampler.probability(static_cast<int64_t>(item)), weight / sum, 1e-12);
      EXPECT_NEAR(static_cast<double>(drawn[item]) / kDraws, weight / sum, 0.008) << "item " << item << " alpha " << alpha;
      total += sampler.probability(static_cast<int64_t>(item));
    }
    EXPECT_NEAR(total, 1.0, 1e-12);
    EXPECT_EQ(drawn[0], 0);
  }
}

TEST(Negatives, OfATargetAreAnyItemButIt) {
  const std::vector<uint64_t> popularity = {0, 3, 1, 1};
  for (const double alpha : {0.0, 1.0}) {
    const NegativeSampler sampler(popularity, alpha);
    const Stream stream{9, Purpose::negatives, 1};
    std::set<int64_t> seen;
    for (uint64_t i = 0; i < 500; ++i) seen.insert(sampler.draw_except(stream, i, 1));
    EXPECT_THAT(seen, ::testing::ElementsAre(2, 3));
  }
  EXPECT_EQ(NegativeSampler(std::vector<uint64_t>{0, 7}, 1.0).draw_except(Stream{1, Purpose::negatives}, 0, 1), 1);
  EXPECT_THROW(NegativeSampler(std::vector<uint64_t>{9, 0, 0}, 1.0), BugError);
}

TEST(Negatives, PopularityCountsTheTrainingPart) {
  testing::TemporaryFolder folder;
  testing::write_example(
      folder / "store",
      {{"a", {1, 2, 2, 3}, {1, 2, 3, 4}, 3, 3}, {"b", {3, 0, 2}, {5, 6, 7}, 3, 3}, {"c", {3, 3}, {8, 9}, 1, 2}}, 1, 4);
  EXPECT_THAT(training_popularity(Store(folder / "store")), ::testing::ElementsAre(1, 1, 3, 1, 0));
}

}  // namespace
}  // namespace gru4rec

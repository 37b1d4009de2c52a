// Laws of evaluation: every target once, ranks by counting, the same histogram whoever does it.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "gru4rec/base/error.h"
#include "gru4rec/eval/evaluator.h"
#include "support/temporary_folder.h"
#include "support/training_example.h"

namespace gru4rec {
namespace {

using ::testing::ElementsAre;
using testing::TemporaryFolder;
using testing::write_training_example;

TEST(RankOfATarget, IsOnePlusTheOtherItemsNotScoredBelowIt) {
  // Scores are the table's own values: queries of size 1.
  const at::Tensor table = at::tensor({9.0f, 0.1f, 0.5f, 0.5f, 0.7f, -1.0f}).view({6, 1});  // row 0 is padding
  const at::Tensor queries = at::ones({6, 1});
  EXPECT_THAT(rank_targets(queries, table, {4, 2, 3, 1, 5, 0}), ElementsAre(1, 3, 3, 4, 5, 0));
}

TEST(RankOfATarget, RefusesScoresThatAreNotFinite) {
  at::Tensor table = at::ones({6, 1});
  table[3][0] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THROW(rank_targets(at::ones({1, 1}), table, {2}), Error);
  table[3][0] = std::numeric_limits<float>::infinity();
  EXPECT_THROW(rank_targets(at::ones({1, 1}), table, {2}), Error);
}

TEST(RankOfATarget, AgreesWithSortingAcrossBlocks) {
  at::Tensor table = at::empty({9001, 1});
  const Stream random{1, Purpose::parameter_init};
  for (int64_t i = 0; i < 9001; ++i) table[i][0] = static_cast<float>(random.uniform(static_cast<uint64_t>(i)));
  for (int64_t label : {1, 4095, 4096, 8192, 9000}) {
    const float score = table[label][0].item<float>();
    int64_t better = 0;
    for (int64_t i = 1; i < 9001; ++i) better += i != label && table[i][0].item<float>() >= score;
    EXPECT_EQ(rank_targets(at::ones({1, 1}), table, {label})[0], 1 + better);
  }
}

TEST(Metrics, FollowFromTheHistogram) {
  RankHistogram histogram(20);
  for (int64_t rank : {1, 2, 2, 11, 20, 21, 0}) histogram.add(rank);
  EXPECT_EQ(histogram.targets, 7);
  EXPECT_DOUBLE_EQ(histogram.recall(10), 3.0 / 7);
  EXPECT_DOUBLE_EQ(histogram.recall(20), 5.0 / 7);
  EXPECT_DOUBLE_EQ(histogram.precision(10), 3.0 / 70);
  EXPECT_DOUBLE_EQ(histogram.mrr(10), 2.0 / 7);
  EXPECT_DOUBLE_EQ(histogram.mrr(20), (2.0 + 1.0 / 11 + 1.0 / 20) / 7);
  EXPECT_DOUBLE_EQ(histogram.ndcg(10), (1.0 + 2.0 / std::log2(3.0)) / 7);
  EXPECT_DOUBLE_EQ(compute_metric(histogram, "Hit@10"), histogram.recall(10));
  EXPECT_THROW(compute_metric(histogram, "AUC@10"), UserError);
  EXPECT_THROW(compute_metric(histogram, "MRR"), UserError);
}

TEST(Metrics, OfTwoPartsAreThoseOfTheWholeNotTheirMean) {
  RankHistogram a(20), b(20), whole(20);
  for (int64_t rank : {1, 30, 30}) a.add(rank), whole.add(rank);
  for (int64_t rank : {2, 3, 1, 4, 1, 9, 40}) b.add(rank), whole.add(rank);
  const double mean_of_means = (a.recall(20) + b.recall(20)) / 2;
  a += b;
  EXPECT_DOUBLE_EQ(a.recall(20), whole.recall(20));
  EXPECT_NE(a.recall(20), mean_of_means);
}

class Evaluation : public ::testing::TestWithParam<Protocol> {
 protected:
  Evaluation() {
    write_training_example(folder_ / "store", {.sessions = 1500, .catalogue = 61, .longest = 20, .protocol = GetParam()});
    store_.emplace(folder_ / "store");
    model_.initialise(3);
  }
  Evaluator evaluator(Split split, int64_t batch_targets = 4096, uint32_t max_length = 50) const {
    return Evaluator(*store_, split, {.max_length = max_length, .max_k = 20, .batch_targets = batch_targets});
  }
  TemporaryFolder folder_;
  std::optional<Store> store_;
  Gru4Rec model_{{.catalogue = 61, .embedding_size = 8, .hidden_size = 12}};
};
INSTANTIATE_TEST_SUITE_P(Protocols, Evaluation, ::testing::Values(Protocol::leave_one_out, Protocol::next_item),
                         [](const auto& p) { return p.param == Protocol::leave_one_out ? "LeaveOneOut" : "NextItem"; });

TEST_P(Evaluation, CountsEveryTargetOfTheSplit) {
  EXPECT_EQ(evaluator(Split::valid).targets(), store_->info().valid_targets);
  EXPECT_EQ(evaluator(Split::test).run_part(model_, 0, 1).targets, static_cast<int64_t>(store_->info().test_targets));
}

TEST_P(Evaluation, OfOneTwoAndThreeRanksIsEqual) {
  const Evaluator test = evaluator(Split::test);
  const RankHistogram whole = test.run_part(model_, 0, 1);
  for (int world : {2, 3, 5}) {
    RankHistogram sum(20);
    int busy = 0;
    for (int rank = 0; rank < world; ++rank) {
      const RankHistogram part = test.run_part(model_, rank, world);
      busy += part.targets > 0;
      sum += part;
    }
    EXPECT_EQ(sum.at, whole.at);
    EXPECT_EQ(sum.targets, whole.targets);
    EXPECT_GT(busy, 1);
  }
}

TEST_P(Evaluation, DoesNotDependOnTheBatchSizeWhichOnlySaysHowOftenItReports) {
  int64_t calls = 0;
  auto run = [&](int64_t batch) {
    Evaluator test = evaluator(Split::test, batch);
    calls = 0;
    test.set_progress([&](int64_t) { ++calls; });
    return test.run_part(model_, 0, 1).at;
  };
  const auto small = run(1);
  const int64_t small_calls = calls;
  EXPECT_EQ(run(100000), small);
  EXPECT_EQ(calls, 1);
  EXPECT_GT(small_calls, 1);
}

TEST_P(Evaluation, SeesTheWholeSessionOrTheLastEventsByProtocol) {
  const auto at_50 = evaluator(Split::test).run_part(model_, 0, 1).at;
  const auto at_2 = evaluator(Split::test, 4096, 2).run_part(model_, 0, 1).at;
  if (GetParam() == Protocol::leave_one_out)
    EXPECT_NE(at_50, at_2);
  else
    EXPECT_EQ(at_50, at_2);
}

}  // namespace
}  // namespace gru4rec

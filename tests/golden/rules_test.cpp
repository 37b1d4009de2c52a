// RecBole's metrics, its early stopping and the spread of its initial weights. Fixtures: tests/golden/README.md.
#include <fmt/ranges.h>

#include <cmath>
#include <map>

#include "fixture.h"
#include "gru4rec/eval/evaluator.h"
#include "gru4rec/train/early_stopping.h"

namespace gru4rec {
namespace {

using testing::fixture_table;
using testing::FixtureFile;

TEST(Metrics, OfTheSameScoresAreRecBoles) {
  const FixtureFile fixture("metrics.h5");
  const at::Tensor scores = fixture.tensor("scores", {40, 61});
  // With the unit matrix as table the queries are the scores, bit for bit.
  const std::vector<int64_t> ranks = rank_targets(scores, at::eye(61), fixture.read<int64_t>("targets"));
  EXPECT_EQ(ranks, fixture.read<int64_t>("ranks"));

  RankHistogram histogram(60);
  for (int64_t rank : ranks) histogram.add(rank);
  const auto rows = fixture_table("metrics.tsv");
  std::map<std::string, int> seen;
  for (const auto& row : rows) {
    const double value = compute_metric(histogram, row[0] + "@" + row[1]);
    EXPECT_NEAR(value, std::stod(row[2]), 1e-12) << row[0] << "@" << row[1];
    EXPECT_EQ(fmt::format("{:.4f}", round_decimal(value, 4)), row[3]) << row[0] << "@" << row[1];
    ++seen[row[0]];
  }
  EXPECT_EQ(seen.size(), 5u) << "Recall, Hit, Precision, MRR, NDCG";
}

TEST(EarlyStopping, FollowsRecBoleThroughEverySequence) {
  std::map<std::string, BestSoFar> sequences;
  int stops = 0;
  for (const auto& row : fixture_table("early_stopping.tsv")) {
    if (row[2] != "1") continue;  // smaller is better: no metric of ours is
    if (!sequences.contains(row[0])) sequences[row[0]].value = -INFINITY;
    // RecBole's function compares what it is given; its caller has rounded that. Values of the fixture have few decimals.
    const EarlyStopping rule{std::stoll(row[1]), 17};
    BestSoFar& best = sequences[row[0]];
    const auto verdict = rule.judge(std::stod(row[4]), best);
    const std::string where = "sequence " + row[0] + ", epoch " + row[3];
    EXPECT_EQ(best.value, std::stod(row[5])) << where;
    EXPECT_EQ(best.stalled, std::stoll(row[6])) << where;
    EXPECT_EQ(verdict.stop, row[7] == "1") << where;
    EXPECT_EQ(verdict.improved, row[8] == "1") << where;
    stops += verdict.stop;
  }
  EXPECT_EQ(sequences.size(), 12u);
  EXPECT_GT(stops, 3);
}

TEST(InitialWeights, SpreadAsRecBoles) {
  ModelShape shape;
  shape.catalogue = 1682;
  shape.embedding_size = 64;
  shape.hidden_size = 128;
  shape.num_layers = 2;
  Gru4Rec model(shape);
  model.initialise(2020);
  std::map<std::string, int> seen;
  for (const auto& row : fixture_table("init.tsv")) {
    const at::Tensor weights = model.parameter(row[0]);
    ASSERT_EQ(fmt::format("{}", fmt::join(weights.sizes().vec(), "x")), row[1]) << row[0];
    const double value = std::stod(row[8]), largest = weights.abs().max().item<double>();
    const double deviation = weights.std().item<double>();
    const bool few = weights.numel() < 1000;  // the 64 numbers of dense.bias
    if (row[7] == "normal") {
      EXPECT_NEAR(deviation, value, 0.03 * value) << row[0];
    } else {
      EXPECT_LE(largest, value * (1 + 1e-6)) << row[0];
      EXPECT_GE(largest, value * (few ? 0.9 : 0.999)) << row[0];
      EXPECT_NEAR(deviation, value / std::sqrt(3.0), (few ? 0.2 : 0.03) * value / std::sqrt(3.0)) << row[0];
    }
    EXPECT_NEAR(weights.mean().item<double>(), 0, (few ? 0.25 : 0.02) * value) << row[0];
    ++seen[row[0]];
  }
  EXPECT_EQ(seen.size(), model.layout().parameters().size());
  EXPECT_GT(model.parameter("item_embedding.weight")[0].abs().max().item<double>(), 0.01)
      << "RecBole's padding row is not zero";
}

}  // namespace
}  // namespace gru4rec

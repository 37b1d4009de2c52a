// Laws of the epoch plan: each target once, batches that know nothing of replicas, balanced shares.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <tuple>

#include "gru4rec/base/error.h"
#include "gru4rec/data/batch.h"
#include "gru4rec/data/plan.h"
#include "support/temporary_folder.h"
#include "support/training_example.h"

namespace gru4rec {
namespace {

using testing::TemporaryFolder;
using testing::TrainingExample;
using testing::write_training_example;

// (session, position)
using Target = std::pair<uint64_t, uint32_t>;

std::vector<Target> targets_of(const std::vector<Segment>& segments) {
  std::vector<Target> targets;
  for (const Segment& segment : segments)
    for (uint32_t p = segment.first_target; p < segment.end; ++p) targets.emplace_back(segment.session, p);
  return targets;
}

uint64_t count_of(const std::vector<Segment>& segments) { return targets_of(segments).size(); }

std::vector<Target> all_training_targets(const Store& store) {
  std::vector<Target> targets;
  uint64_t session = 0;
  for (const auto& shape : store.shapes(0, store.info().sessions)) {
    for (uint32_t p = 1; p < shape.train_end; ++p) targets.emplace_back(session, p);
    ++session;
  }
  return targets;
}

class Plan : public ::testing::TestWithParam<Augmentation> {
 protected:
  Plan() {
    write_training_example(folder_ / "store", {.sessions = 211, .catalogue = 53, .longest = 47});
    store_.emplace(folder_ / "store");
  }
  PlanOptions options(uint32_t replicas = 1) const {
    return {.seed = 5,
            .batch_targets = 157,
            .max_length = 11,
            .augmentation = GetParam(),
            .replicas = replicas,
            .block_events = 400,
            .window_blocks = 3};
  }
  TemporaryFolder folder_;
  std::optional<Store> store_;
};

INSTANTIATE_TEST_SUITE_P(Modes, Plan, ::testing::Values(Augmentation::one_pass, Augmentation::prefixes),
                         [](const auto& mode) { return mode.param == Augmentation::one_pass ? "OnePass" : "Prefixes"; });

TEST_P(Plan, EveryTargetIsTrainedOnExactlyOnceAnEpoch) {
  EpochPlan plan(*store_, options());
  for (uint64_t epoch : {0, 1, 7}) {
    std::vector<Target> targets;
    for (uint64_t b = 0; b < plan.batches(epoch); ++b)
      for (const Target& target : targets_of(plan.batch(epoch, b))) targets.push_back(target);
    std::sort(targets.begin(), targets.end());
    EXPECT_EQ(targets, all_training_targets(*store_)) << "epoch " << epoch;
  }
}

TEST_P(Plan, ARecentFractionIsTheSessionsThatEndLastEachTargetOnce) {
  // Sessions of the example end in the order of their indices; turned round, so that store order is not time order.
  std::vector<testing::ExampleSession> sessions;
  constexpr uint64_t kSessions = 211;
  for (uint64_t s = 0; s < kSessions; ++s) {
    sessions.push_back(testing::training_session(s, {.sessions = kSessions, .catalogue = 53, .longest = 47}));
    for (int64_t& time : sessions.back().times) time = static_cast<int64_t>(kSessions - s) / 2 * 1000 + time % 1000;
  }
  testing::write_example(folder_ / "turned", sessions, 1, 53);
  const Store store(folder_ / "turned");
  std::vector<std::pair<int64_t, uint64_t>> ends;
  for (uint64_t s = 0; s < kSessions; ++s)
    if (sessions[s].train_end > 1) ends.emplace_back(sessions[s].times[sessions[s].train_end - 1], s);
  std::sort(ends.begin(), ends.end());
  for (const double fraction : {1.0 / 64, 0.3, 0.999}) {
    std::set<uint64_t> wanted;
    const auto kept = static_cast<size_t>(std::ceil(fraction * static_cast<double>(ends.size())));
    for (size_t i = ends.size() - kept; i < ends.size(); ++i) wanted.insert(ends[i].second);
    std::vector<Target> expected;
    for (const Target& target : all_training_targets(store))
      if (wanted.contains(target.first)) expected.push_back(target);
    PlanOptions recent = options();
    recent.recent_fraction = fraction;
    EpochPlan plan(store, recent);
    EXPECT_EQ(plan.targets(), expected.size());
    std::vector<Target> seen;
    for (uint64_t b = 0; b < plan.batches(2); ++b)
      for (const Target& target : targets_of(plan.batch(2, b))) seen.push_back(target);
    std::sort(seen.begin(), seen.end());
    EXPECT_EQ(seen, expected) << fraction;
  }
}

TEST_P(Plan, NoSegmentIsLongerThanTheLimitAndEachTargetHasAnInput) {
  EpochPlan plan(*store_, options());
  for (uint64_t b = 0; b < plan.batches(0); ++b) {
    for (const Segment& segment : plan.batch(0, b)) {
      EXPECT_LE(segment.end - 1 - segment.begin, 11u);
      EXPECT_LT(segment.begin, segment.first_target);
    }
  }
}

TEST_P(Plan, BatchesOfAWindowAreEqualToWithinOneSegment) {
  EpochPlan plan(*store_, options());
  uint64_t batches = 0;
  for (uint64_t b = 0; b < plan.batches(0); ++b, ++batches) EXPECT_LE(count_of(plan.batch(0, b)), 157u + 11u);
  EXPECT_GE(batches, 2 * plan.targets() / 157 / 2);
}

TEST_P(Plan, TheBatchesDoNotDependOnReplicas) {
  EpochPlan one(*store_, options(1));
  EpochPlan seven(*store_, options(7));
  ASSERT_EQ(one.batches(3), seven.batches(3));
  for (uint64_t b = 0; b < one.batches(3); ++b) EXPECT_EQ(one.batch(3, b), seven.batch(3, b));
}

TEST_P(Plan, SharesAreDisjointCoverTheBatchAndAreBalancedToWithinOneSegment) {
  constexpr uint32_t kReplicas = 7;
  EpochPlan plan(*store_, options(kReplicas));
  for (uint64_t b = 0; b < plan.batches(0); ++b) {
    std::vector<Segment> joined;
    uint64_t least = UINT64_MAX, most = 0;
    for (uint32_t replica = 0; replica < kReplicas; ++replica) {
      const std::vector<Segment> share = plan.share(0, b, replica);
      joined.insert(joined.end(), share.begin(), share.end());
      least = std::min(least, count_of(share));
      most = std::max(most, count_of(share));
    }
    const auto place = [](const Segment& segment) { return std::tuple(segment.first_event, segment.begin, segment.end); };
    std::ranges::sort(joined, {}, place);
    std::vector<Segment> batch = plan.batch(0, b);
    std::ranges::sort(batch, {}, place);
    EXPECT_EQ(joined, batch);
    EXPECT_LE(most - least, 2u * 11u);
  }
}

// A step takes as long as the replica with the most targets. Windows of 50 would leave 25 too many or too few at a bound, in
// the mean 12, if neighbours did not exchange any.
TEST(Shares, OfSegmentsOfManyLengthsHaveNearlyEqualNumbersOfTargets) {
  TemporaryFolder folder;
  write_training_example(folder / "store", {.sessions = 500, .catalogue = 53, .longest = 200});
  const Store store(folder / "store");
  for (const uint32_t replicas : {2u, 4u}) {
    EpochPlan plan(store, {.seed = 5, .batch_targets = 512 * replicas, .max_length = 50, .replicas = replicas});
    uint64_t unequal = 0, batches = 0;
    for (uint64_t epoch = 0; epoch < 3; ++epoch)
      for (uint64_t b = 0; b < plan.batches(epoch); ++b, ++batches) {
        uint64_t most = 0;
        for (uint32_t replica = 0; replica < replicas; ++replica)
          most = std::max(most, count_of(plan.share(epoch, b, replica)));
        unequal += most - count_of(plan.batch(epoch, b)) / replicas;
      }
    EXPECT_GT(batches, 50u);
    EXPECT_LT(static_cast<double>(unequal), 4.0 * static_cast<double>(batches)) << replicas << " replicas";
  }
}

// Ranges in store order, but for what neighbours exchanged: at most one segment each way at each of a share's two bounds.
TEST(Shares, AreRangesInStoreOrderButForASegmentOrTwo) {
  TemporaryFolder folder;
  write_training_example(folder / "store", {.sessions = 500, .catalogue = 53, .longest = 200});
  const Store store(folder / "store");
  constexpr uint32_t kReplicas = 4;
  EpochPlan plan(store, {.seed = 5, .batch_targets = 4096, .max_length = 50, .replicas = kReplicas});
  for (uint64_t b = 0; b < plan.batches(0); ++b) {
    const std::vector<Segment> batch = plan.batch(0, b);
    for (uint32_t replica = 0; replica < kReplicas; ++replica) {
      const std::vector<Segment> share = plan.share(0, b, replica);
      std::vector<std::ptrdiff_t> places;
      for (const Segment& segment : share) places.push_back(std::ranges::find(batch, segment) - batch.begin());
      ASSERT_TRUE(std::ranges::is_sorted(places));
      int gaps = 0;
      for (size_t i = 1; i < places.size(); ++i) gaps += places[i] > places[i - 1] + 1;
      EXPECT_LE(gaps, 4);
    }
  }
}

TEST_P(Plan, EpochsAndSeedsDiffer) {
  EpochPlan plan(*store_, options());
  EXPECT_NE(plan.batch(0, 0), plan.batch(1, 0));
  PlanOptions other = options();
  other.seed = 6;
  EXPECT_NE(EpochPlan(*store_, other).batch(0, 0), plan.batch(0, 0));
}

TEST_P(Plan, AnyBatchCanBeAskedForWithoutTheOnesBeforeIt) {
  EpochPlan in_order(*store_, options());
  for (uint64_t b = 0; b < in_order.batches(2); ++b) {
    EpochPlan fresh(*store_, options());
    EXPECT_EQ(fresh.batch(2, b), in_order.batch(2, b));
  }
}

TEST_P(Plan, SmallDataIsOneWindowShuffledAsAWhole) {
  PlanOptions whole = options();
  whole.block_events = 65536;
  EpochPlan plan(*store_, whole);
  std::set<uint64_t> sessions;
  for (const Segment& segment : plan.batch(0, 0)) sessions.insert(segment.session);
  EXPECT_LT(*sessions.begin(), 40u);  // of 168 training sessions
  EXPECT_GT(*sessions.rbegin(), 128u);
}

TEST_P(Plan, AStoreWithoutTrainingTargetsIsRefused) {
  testing::ExampleSession lonely{"a", {1}, {1}, 1, 1};
  testing::write_example(folder_ / "lonely", {lonely}, 1, 3);
  const Store store(folder_ / "lonely");
  EXPECT_THROW(EpochPlan(store, options()), UserError);
}

TEST(Windows, MoveFromEpochToEpochAndShareOneEvent) {
  const Store::SessionShape shape{100, 40, 38, 39};
  std::vector<Segment> windows;
  append_windows(4, shape, 10, 3, windows);
  const std::vector<Segment> expected = {
      {4, 100, 0, 4, 1}, {4, 100, 3, 14, 4}, {4, 100, 13, 24, 14}, {4, 100, 23, 34, 24}, {4, 100, 33, 38, 34}};
  EXPECT_EQ(windows, expected);
}

TEST(Windows, MoveWithTheEpoch) {
  TemporaryFolder folder;
  write_training_example(folder / "store", {.sessions = 50, .catalogue = 53, .longest = 47});
  const Store store(folder / "store");
  EpochPlan plan(store, {.seed = 5, .batch_targets = 100000, .max_length = 11});
  std::set<std::vector<std::pair<uint64_t, uint32_t>>> cuts;
  for (uint64_t epoch = 0; epoch < 4; ++epoch) {
    std::vector<std::pair<uint64_t, uint32_t>> begins;
    for (const Segment& segment : plan.batch(epoch, 0)) begins.emplace_back(segment.session, segment.begin);
    cuts.insert(begins);
  }
  EXPECT_EQ(cuts.size(), 4u);
}

TEST(Windows, ASessionOfAtMostMaxLengthTargetsIsOneSegmentWhateverTheOffset) {
  std::vector<Segment> windows;
  append_windows(4, {0, 11, 11, 11}, 10, 7, windows);
  EXPECT_EQ(windows, (std::vector<Segment>{{4, 0, 0, 11, 1}}));
}

TEST(ShareReads, ARankReadsLittleMoreThanItsPartOfTheItems) {
  TemporaryFolder folder;
  write_training_example(folder / "store", {.sessions = 60000, .catalogue = 53, .longest = 60});
  auto bytes_of = [&](uint32_t replicas, uint32_t replica) {
    const Store store(folder / "store");
    EpochPlan plan(store, {.seed = 1, .batch_targets = 8192, .replicas = replicas});
    const uint64_t shapes = store.bytes_read();
    ItemReader items(store, 4 << 20);
    uint64_t before = 0;
    for (uint64_t b = 0; b < plan.batches(0); ++b) {
      const auto share = plan.share(0, b, replica);
      if (b == 0) before = store.bytes_read();  // the window's shapes were just read
      pack(share, items);
    }
    EXPECT_GT(shapes, 0u);
    return store.bytes_read() - before;
  };
  const uint64_t whole = bytes_of(1, 0);
  for (uint32_t replica = 0; replica < 4; ++replica) EXPECT_LT(bytes_of(4, replica), 0.40 * static_cast<double>(whole));
}

}  // namespace
}  // namespace gru4rec

// Laws of the shares of steps: the same ones wherever and whenever they are made.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <thread>
#include <tuple>

#include "gru4rec/base/error.h"
#include "gru4rec/data/batch_source.h"
#include "support/temporary_folder.h"
#include "support/training_example.h"

namespace gru4rec {
namespace {

using ::testing::ElementsAre;
using testing::TemporaryFolder;
using testing::write_training_example;

std::vector<int64_t> negatives_of(const Batch& batch, const StepPlace& place) {
  return {place.step, static_cast<int64_t>(place.epoch), batch.targets()};
}

// Draws negatives that name their step, and remembers for which steps it did and by which threads.
class Drawn {
 public:
  std::vector<int64_t> draw(const Batch& batch, const StepPlace& place) {
    {
      const std::lock_guard lock(mutex_);
      steps_.insert(place.step);
      threads_.insert(std::this_thread::get_id());
    }
    changed_.notify_all();
    if (place.step == fails_at) throw SurroundingsError("no negatives for step {}", place.step);
    return negatives_of(batch, place);
  }
  // Returns when a step's have been drawn.
  void wait_for(int64_t step) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return steps_.contains(step); });
  }
  std::multiset<int64_t> steps() {
    const std::lock_guard lock(mutex_);
    return steps_;
  }
  std::set<std::thread::id> threads() {
    const std::lock_guard lock(mutex_);
    return threads_;
  }
  std::atomic<int64_t> fails_at = -1;

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::multiset<int64_t> steps_;
  std::set<std::thread::id> threads_;
};

class BatchSources : public ::testing::Test {
 protected:
  BatchSources() { write_training_example(folder_ / "store", {.sessions = 200}); }

  std::unique_ptr<BatchSource> source(bool ahead) { return std::make_unique<BatchSource>(store(), plan(), options_, ahead); }
  EpochPlan plan() { return EpochPlan(store(), {.seed = 5, .batch_targets = 300, .max_length = 9, .replicas = 3}); }
  const Store& store() {
    if (!store_) store_.emplace(folder_ / "store");
    return *store_;
  }

  TemporaryFolder folder_;
  std::optional<Store> store_;
  Drawn drawn_;
  BatchOptions options_{.first_replica = 1,
                        .last_replica = 3,
                        .seed = 5,
                        .epochs = 2,
                        .item_dropout_prob = 0.3,
                        .direction = Direction::forward,
                        .backward_too = true,
                        .draw = [this](const Batch& batch, const StepPlace& place) { return drawn_.draw(batch, place); }};
};

void expect_equal(const Batch& a, const Batch& b) {
  EXPECT_EQ(a.items, b.items);
  EXPECT_EQ(a.weights, b.weights);
  ASSERT_EQ(a.keys.size(), b.keys.size());
  for (size_t i = 0; i < a.keys.size(); ++i)
    EXPECT_EQ(std::tuple(a.keys[i].session, a.keys[i].first_target, a.keys[i].position),
              std::tuple(b.keys[i].session, b.keys[i].first_target, b.keys[i].position));
  EXPECT_EQ(a.step_sizes, b.step_sizes);
  EXPECT_EQ(a.target_rows, b.target_rows);
  EXPECT_EQ(a.labels, b.labels);
  EXPECT_EQ(a.sessions, b.sessions);
  EXPECT_EQ(a.positions, b.positions);
  EXPECT_EQ(a.negatives, b.negatives);
}

// In the order of training over the end of an epoch; and back again, twice, and past the last epoch, as nobody foresees.
TEST_F(BatchSources, MadeAheadAreThoseOfTheirPlaces) {
  EpochPlan of_all = plan();
  const uint64_t batches = of_all.batches(0);
  ASSERT_GE(batches, 5U) << "as other laws here want";
  std::vector<StepPlace> places;
  for (uint64_t batch = 0; batch < batches; ++batch) places.push_back({0, batch, static_cast<int64_t>(batch)});
  places.push_back({1, 0, static_cast<int64_t>(batches)});
  for (const StepPlace& unforeseen : {StepPlace{0, 1, 100}, StepPlace{0, 1, 200}, StepPlace{0, 2, 300}, StepPlace{3, 0, 400}})
    places.push_back(unforeseen);
  const auto ahead = source(true);
  options_.draw = negatives_of;
  const auto now = source(false);
  ItemReader items(store());
  for (const StepPlace& place : places) {
    const std::vector<Share> got = ahead->take(place);
    if (place != places.back()) drawn_.wait_for(place.step + 1);  // that it is begun; the last is of an epoch too late
    const std::vector<Share> wanted = now->take(place);
    ASSERT_EQ(got.size(), 2U);
    for (size_t i = 0; i < got.size(); ++i) {
      const auto replica = static_cast<uint32_t>(i) + 1;
      EXPECT_EQ(got[i].replica, replica);
      const auto segments = of_all.share(place.epoch, place.batch, replica);
      Batch forward = pack(segments, items, {0.3, 5, place.epoch});
      forward.negatives = negatives_of(forward, place);
      expect_equal(got[i].batch, forward);
      expect_equal(wanted[i].batch, forward);
      expect_equal(got[i].backward, pack(segments, items, {}, Direction::backward));
    }
  }
}

TEST_F(BatchSources, TheNextStepsAreMadeByAnotherThreadBeforeTheyAreAskedFor) {
  const auto ahead = source(true);
  ahead->take({0, 0, 0});
  drawn_.wait_for(1);  // or the time limit of the test
  EXPECT_EQ(drawn_.threads().size(), 2U);
  ahead->take({0, 1, 1});
  drawn_.wait_for(2);
  EXPECT_EQ(drawn_.steps().count(1), 2U) << "once for each replica, and not again";
}

TEST_F(BatchSources, NothingIsMadeAheadWhereItIsNotWantedAndAfterTheLastEpoch) {
  const auto now = source(false);
  now->take({0, 0, 0});
  EXPECT_THAT(drawn_.steps(), ElementsAre(0, 0));
  EXPECT_THAT(drawn_.threads(), ElementsAre(std::this_thread::get_id()));
  auto ahead = source(true);
  const uint64_t last = plan().batches(1) - 1;
  ahead->take({1, last, 77});
  ahead.reset();  // waits for what is ordered, if anything is
  EXPECT_FALSE(drawn_.steps().contains(78));
}

TEST_F(BatchSources, AnErrorIsThatOfTheStepThatWantsTheShares) {
  drawn_.fails_at = 1;
  const auto ahead = source(true);
  EXPECT_NO_THROW(ahead->take({0, 0, 0}));
  drawn_.wait_for(1);
  EXPECT_THROW(ahead->take({0, 1, 1}), SurroundingsError);
  EXPECT_NO_THROW(ahead->take({0, 2, 2}));
  drawn_.fails_at = 4;
  ahead->take({0, 3, 3});
  drawn_.wait_for(4);
  EXPECT_NO_THROW(ahead->take({0, 2, 2})) << "of another step, that nobody asked for";
}

}  // namespace
}  // namespace gru4rec

// Laws of packing: no target is lost, each is predicted from the inputs before it, unknown items are passed over.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <set>

#include "gru4rec/data/batch.h"
#include "support/temporary_folder.h"
#include "support/training_example.h"

namespace gru4rec {
namespace {

using ::testing::ElementsAre;
using testing::ExampleSession;
using ::testing::IsEmpty;
using testing::TemporaryFolder;

// A store of given item sequences.
class Packing : public ::testing::Test {
 protected:
  const Store& store_of(const std::vector<std::vector<uint32_t>>& sequences) {
    std::vector<ExampleSession> sessions;
    for (const auto& items : sequences) {
      const auto n = static_cast<uint32_t>(items.size());
      sessions.push_back({"s", items, std::vector<int64_t>(items.size()), n, n});
    }
    testing::write_example(folder_ / "store", sessions, 1, 99);
    store_.emplace(folder_ / "store");
    return *store_;
  }
  Batch pack_all(const std::vector<std::vector<uint32_t>>& sequences) {
    const Store& store = store_of(sequences);
    std::vector<Segment> segments;
    uint64_t session = 0;
    for (const auto& shape : store.shapes(0, store.info().sessions)) append_whole(session++, shape, 1, shape.events, segments);
    ItemReader items(store);
    return pack(segments, items);
  }
  TemporaryFolder folder_;
  std::optional<Store> store_;
};

TEST_F(Packing, LaysSequencesOutTimeMajorLongestFirst) {
  const Batch batch = pack_all({{1, 2}, {3, 4, 5, 6}, {7, 8, 9}});
  EXPECT_THAT(batch.step_sizes, ElementsAre(3, 2, 1));
  EXPECT_THAT(batch.items, ElementsAre(3, 7, 1, 4, 8, 5));
  EXPECT_THAT(batch.target_rows, ElementsAre(0, 1, 2, 3, 4, 5));
  EXPECT_THAT(batch.labels, ElementsAre(4, 8, 2, 5, 9, 6));
  EXPECT_THAT(batch.sessions, ElementsAre(1, 2, 0, 1, 2, 1));
  EXPECT_EQ(batch.count(), 6);
}

TEST_F(Packing, PassesOverUnknownItemsAndPredictsFromTheZeroStateWhereNothingIsLeft) {
  const Batch batch = pack_all({{0, 5, 0, 6, 7}});
  EXPECT_THAT(batch.items, ElementsAre(5, 6));
  EXPECT_THAT(batch.step_sizes, ElementsAre(1, 1));
  // 5 from nothing; the unknown and 6 both after 5; 7 after 6. The zero state (row 2) comes last.
  EXPECT_THAT(batch.target_rows, ElementsAre(0, 0, 1, 2));
  EXPECT_THAT(batch.labels, ElementsAre(0, 6, 7, 5));
}

TEST_F(Packing, OnlyTheLastStepOfAPrefixHasATarget) {
  const Store& store = store_of({{1, 2, 3, 4, 5, 6}});
  std::vector<Segment> segments;
  append_prefixes(0, store.shapes(0, 1)[0], 4, 6, 3, segments);
  ItemReader items(store);
  const Batch batch = pack(segments, items);
  EXPECT_THAT(batch.items, ElementsAre(2, 3, 3, 4, 4, 5));
  EXPECT_THAT(batch.target_rows, ElementsAre(4, 5));
  EXPECT_THAT(batch.labels, ElementsAre(5, 6));
}

TEST_F(Packing, NoTargetIsLostNotTheFirstOfAWindowEither) {
  std::vector<uint32_t> items(40);
  std::iota(items.begin(), items.end(), 1);
  const Store& store = store_of({items});
  for (uint32_t offset = 0; offset < 7; ++offset) {
    std::vector<Segment> segments;
    append_windows(0, store.shapes(0, 1)[0], 7, offset, segments);
    ItemReader reader(store);
    const Batch batch = pack(segments, reader);
    std::map<int64_t, int64_t> input_of;  // by label
    for (int64_t t = 0; t < batch.targets(); ++t) input_of[batch.labels[t]] = batch.items[batch.target_rows[t]];
    ASSERT_EQ(input_of.size(), 39u);
    for (const auto& [label, input] : input_of) EXPECT_EQ(input, label - 1);
  }
}

TEST_F(Packing, DeletedItemsArePassedOverStayTargetsAndATargetWithNothingLeftGoes) {
  std::vector<uint32_t> events(90);
  std::iota(events.begin(), events.end(), 1);
  const Store& store = store_of({events, events});
  std::vector<Segment> segments;
  append_whole(1, store.shapes(1, 1)[0], 1, 90, segments);
  std::set<std::vector<int64_t>> kept_of_epochs;
  for (uint64_t epoch = 0; epoch < 5; ++epoch) {
    ItemReader reader(store);
    const Batch batch = pack(segments, reader, {0.4, 7, epoch});
    EXPECT_EQ(pack(segments, reader, {0.4, 7, epoch}).items, batch.items);
    EXPECT_NE(pack(segments, reader, {0.4, 8, epoch}).items, batch.items);
    kept_of_epochs.insert(batch.items);
    EXPECT_NEAR(static_cast<double>(batch.inputs()), 0.6 * 89, 15);
    std::vector<int64_t> labels = batch.labels, wanted;
    for (int64_t label = batch.items.front() + 1; label <= 90; ++label) wanted.push_back(label);
    std::sort(labels.begin(), labels.end());
    EXPECT_EQ(labels, wanted);
    for (int64_t t = 0; t < batch.targets(); ++t) {
      const auto next = std::lower_bound(batch.items.begin(), batch.items.end(), batch.labels[t]);
      EXPECT_EQ(batch.items[batch.target_rows[t]], *std::prev(next));  // the last item before it that was kept
    }
  }
  EXPECT_EQ(kept_of_epochs.size(), 5u);
}

TEST_F(Packing, BackwardATargetIsPredictedFromTheEventsAfterItLastFirst) {
  const Store& store = store_of({{1, 2, 0, 4, 5}, {6, 7}});
  std::vector<Segment> segments;
  append_whole(0, store.shapes(0, 1)[0], 1, 5, segments);
  append_whole(1, store.shapes(1, 1)[0], 1, 2, segments);
  ItemReader items(store);
  const Batch batch = pack(segments, items, {}, Direction::backward);
  EXPECT_THAT(batch.items, ElementsAre(5, 4));
  EXPECT_THAT(batch.step_sizes, ElementsAre(1, 1));
  // 4 after 5; the unknown and 2 after 5, 4; 5 and 7 from nothing.
  EXPECT_THAT(batch.target_rows, ElementsAre(0, 1, 1, 2, 2));
  EXPECT_THAT(batch.labels, ElementsAre(4, 0, 2, 5, 7));
  EXPECT_THAT(batch.positions, ElementsAre(3, 2, 1, 4, 1));
  Batch forward = pack(segments, items);
  std::vector<std::pair<uint64_t, uint32_t>> a, b;
  for (int64_t i = 0; i < batch.targets(); ++i) {
    a.emplace_back(batch.sessions[i], batch.positions[i]);
    b.emplace_back(forward.sessions[i], forward.positions[i]);
  }
  EXPECT_THAT(a, ::testing::UnorderedElementsAreArray(b));
}

TEST_F(Packing, NothingGivesAnEmptyBatch) {
  const Store& store = store_of({{1, 2}});
  ItemReader items(store);
  const Batch batch = pack({}, items);
  EXPECT_THAT(batch.items, IsEmpty());
  EXPECT_THAT(batch.step_sizes, IsEmpty());
  EXPECT_EQ(batch.targets(), 0);
}

TEST_F(Packing, ReadsTheSameThroughAnyCache) {
  TemporaryFolder folder;
  testing::write_training_example(folder / "store", {.sessions = 4000, .catalogue = 97, .longest = 60});
  const Store store(folder / "store");
  ItemReader small(store, 1), large(store);
  std::vector<uint32_t> all(store.info().events), a(77), b(77);
  store.read_items(0, all);
  for (uint64_t first = store.info().events - 77; first > 5000; first -= 4999) {
    small.read(first, a);
    large.read(first, b);
    EXPECT_EQ(a, b);
    EXPECT_TRUE(std::equal(a.begin(), a.end(), all.begin() + static_cast<int64_t>(first)));
  }
}

}  // namespace
}  // namespace gru4rec

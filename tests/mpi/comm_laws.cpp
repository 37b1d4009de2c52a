// The laws of tests/ranks/comm_laws.h on real MPI ranks. Every rank runs the same tests; rank 0 prints.
#include "../ranks/comm_laws.h"

#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>

#include "gru4rec/comm/world.h"
#include "posted.h"

namespace gru4rec {
namespace {

Communicator* world = nullptr;      // made by main
Communicator* in_pieces = nullptr;  // the same ranks, messages cut into 7 bytes

TEST(Mpi, RanksKnowEachOther) {
  EXPECT_STREQ(world->name(), "mpi");
  const auto ranks = world->all_gather(world->rank());
  for (int rank = 0; rank < world->size(); ++rank) EXPECT_EQ(ranks[static_cast<std::size_t>(rank)], rank);
  EXPECT_EQ(world->local_rank(), world->rank());  // one host
}

TEST(Mpi, EveryPrimitiveDelivers) { laws::all_primitives(*world); }

TEST(Mpi, MessagesCutIntoPiecesOfSevenBytesArriveWhole) { laws::all_primitives(*in_pieces); }

// Otherwise a rank that is late makes long messages of the two directions wait for each other (src/comm/mpi.cpp).
TEST(Mpi, SendsArePostedBeforeReceives) {
  const auto others = static_cast<std::size_t>(world->size() - 1);
  const std::vector<int> own(1000, world->rank());
  std::vector<std::vector<int>> found(others, std::vector<int>(1000));
  std::vector<Outgoing> out;
  std::vector<Incoming> in;
  for (std::size_t i = 0; i < others; ++i) {
    const int peer = (world->rank() + 1 + static_cast<int>(i)) % world->size();
    out.push_back({peer, std::as_bytes(std::span(own))});
    in.push_back({peer, std::as_writable_bytes(std::span(found[i]))});
  }
  posted.clear();
  world->transfer("exchange", out, in);
  EXPECT_EQ(posted, std::string(others, 's') + std::string(others, 'r'));
}

TEST(Mpi, ShortValuesOfRanksOfAHostAreNoMessages) {
  const bool one_host = laws::others_on_this_host(*world) == world->size() - 1;
  posted.clear();
  const std::vector<int> all = world->all_gather(world->rank());
  EXPECT_EQ(posted.empty(), one_host);
  EXPECT_EQ(all.back(), world->size() - 1);
}

TEST(Mpi, ValuesOfOtherLengthsThanAnotherRankHasAreRefused) {
  if (laws::others_on_this_host(*world) != world->size() - 1 || world->size() == 1) return;
  const auto ours = world->split(0);
  const std::vector<int> mine(world->rank() == 0 ? 3 : 2);
  std::vector<int> all(mine.size() * static_cast<std::size_t>(world->size()));
  EXPECT_THROW(ours->all_gather("law", std::span<const int>(mine), std::span<int>(all)), BugError);
  EXPECT_THROW(ours->all_gather("law", std::span<const int>(mine), std::span(all).first(1)), BugError);
}

TEST(Mpi, AgreementsHold) { laws::all_agreements(*world); }

TEST(Mpi, TheOrderedSumEqualsTheReferenceTree) {
  for (const int replicas : {1, 4, 5, 7, 8, 16})
    if (replicas >= world->size()) laws::ordered_sum_equals_the_reference_tree(*world, replicas, 1003);
  laws::ordered_sum_equals_the_reference_tree(*world, world->size() + 1, 200'003);  // beyond the eager limit
  laws::ordered_sum_equals_the_reference_tree(*in_pieces, world->size() + 1, 129);
}

TEST(Mpi, ASumWaitsForTheRankThatIsLate) { laws::a_sum_waits_for_the_rank_that_is_late(*world); }

TEST(Mpi, MemoryOfAHostIsReadWhereItIs) { laws::memory_of_a_host_is_read_where_it_is(*world); }

// Rank 0 may open no file more, so it reads nobody; the others could read it.
TEST(Mpi, NobodyReadsARankThatCannotReadIt) {
  const SharedFloats own(100);
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const int next = dup(0);
  ASSERT_EQ(close(next), 0);
  const rlimit none{static_cast<rlim_t>(next), before.rlim_max};
  if (world->rank() == 0) {
    ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  }
  const NearMemory near = own.map_others(*world);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_EQ(near.of(0), nullptr);
  EXPECT_EQ(near.ranks(),
            world->rank() == 0 ? 0 : laws::others_on_this_host(*world) - (world->ranks()[0].host == world->host() ? 1 : 0));
}

TEST(Mpi, SlicesMeetOnAllRanks) { laws::slices_meet_on_all_ranks(*world); }

TEST(Mpi, ASumInPartsByASecondThreadEqualsTheReferenceTree) {
  for (const int replicas : {1, 4, 7})
    if (replicas >= world->size()) laws::a_sum_in_parts_equals_the_reference_tree(*world, replicas);
  laws::a_sum_in_parts_equals_the_reference_tree(*in_pieces, world->size() + 1);
}

TEST(Mpi, NativeSumsAreTheSumButForRounding) {
  laws::native_sum_is_the_sum_but_for_rounding_and_equal_on_all_ranks(*world, 200'003);
  laws::native_sum_is_the_sum_but_for_rounding_and_equal_on_all_ranks(*in_pieces, 129);
  if (world->size() <= 7) laws::native_reduction_is_the_ordered_one_but_for_rounding(*world, 7, /*differs=*/world->size() == 3);
}

TEST(Mpi, LargeMessagesArriveWhole) {
  std::vector<int64_t> data(700'001, world->rank());
  if (world->rank() == 0) std::iota(data.begin(), data.end(), int64_t{5});
  world->broadcast(0, std::span<int64_t>(data));
  for (std::size_t i = 0; i < data.size(); ++i) ASSERT_EQ(data[i], static_cast<int64_t>(i) + 5);
}

}  // namespace
}  // namespace gru4rec

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  gru4rec::MpiEnvironment environment;
  try {
    const auto world = gru4rec::make_world(environment, {.timeout = 30.0});
    const auto in_pieces = gru4rec::make_mpi(environment, {.timeout = 30.0, .chunk_bytes = 7});
    gru4rec::world = world.get();
    gru4rec::in_pieces = in_pieces.get();
    auto& listeners = testing::UnitTest::GetInstance()->listeners();
    if (world->rank() != 0) delete listeners.Release(listeners.default_result_printer());
    const int failed = RUN_ALL_TESTS();
    if (failed && world->rank() != 0) std::fprintf(stderr, "tests failed on rank %d\n", world->rank());
    if (failed) environment.abort(1);  // the others may wait for what this rank did not get to
    environment.finalize(*world);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    environment.abort(gru4rec::exit_code_of(error));
  }
}

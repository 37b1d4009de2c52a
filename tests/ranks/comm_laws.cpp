// Every law of comm_laws.h on ranks that are threads, and on the world of one.
#include "comm_laws.h"

#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "gru4rec/comm/measure.h"
#include "gru4rec/comm/threads.h"
#include "gru4rec/comm/world.h"

namespace gru4rec {
namespace {

const CommOptions kChunks{.timeout = 20.0, .chunk_bytes = 7};
const CommOptions kWhole{.timeout = 20.0};
const CommOptions kShort{.timeout = 0.5};

std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "nothing was thrown";
}

TEST(Threads, EveryPrimitiveDeliversOnOneToFiveRanks) {
  for (int ranks = 1; ranks <= 5; ++ranks) run_ranks(ranks, kWhole, laws::all_primitives);
}

TEST(Threads, MessagesCutIntoPiecesOfSevenBytesArriveWhole) {
  for (const int ranks : {1, 2, 3}) run_ranks(ranks, kChunks, laws::all_primitives);
}

TEST(Threads, ABarrierHoldsUntilTheLastRankHasCome) {
  for (int round = 0; round < 20; ++round) {
    std::atomic<int> entered{0};
    run_ranks(5, kWhole, [&](Communicator& comm) {
      if (comm.rank() == round % 5) std::this_thread::sleep_for(std::chrono::milliseconds(2));
      ++entered;
      comm.barrier();
      EXPECT_EQ(entered.load(), 5);
    });
  }
}

// Every pair of four; of nine ranks each with the next and with the fourth after it.
TEST(Threads, MeasurementsTakeThePairsTheyPromise) {
  for (const auto& [ranks, pairs] : {std::pair{1, 0}, {4, 6}, {9, 8 + 5}}) {
    run_ranks(ranks, kWhole, [&, wanted = pairs](Communicator& comm) {
      const std::vector<PairTime> times = time_pairs(comm, 8);
      EXPECT_EQ(static_cast<int>(times.size()), wanted);
      for (const PairTime& time : times) {
        EXPECT_LT(time.first, time.second);
        EXPECT_GT(time.seconds, 0);
        for (const double other : comm.all_gather(time.seconds)) EXPECT_EQ(other, time.seconds);
      }
      EXPECT_EQ(static_cast<int>(clock_offsets(comm).size()), comm.size());
      EXPECT_GT(time_ordered_sum(comm, 1003), 0);
    });
  }
}

TEST(Threads, AgreementsHoldOnOneToFiveRanks) {
  for (int ranks = 1; ranks <= 5; ++ranks) run_ranks(ranks, kWhole, laws::all_agreements);
}

TEST(Single, IsATrueWorldOfOne) {
  const auto comm = make_single(kChunks);
  EXPECT_EQ(comm->size(), 1);
  EXPECT_EQ(comm->rank(), 0);
  laws::all_primitives(*comm);
  laws::all_agreements(*comm);
  laws::ordered_sum_equals_the_reference_tree(*comm, 7, 1003);
}

TEST(Single, HasNoSumOfItsOwn) {
  const auto comm = make_single();
  EXPECT_FALSE(comm->adds_natively());
  std::vector<float> values(3);
  EXPECT_THROW(comm->add_natively(values), BugError);
}

TEST(Single, RefusesAMessageToItselfOfAnotherSize) {
  const auto comm = make_single();
  std::vector<int> three(3), two(2);
  EXPECT_THROW(comm->exchange(0, std::span<const int>(three), std::span<int>(two)), BugError);
}

TEST(OrderedSum, EqualsTheReferenceTreeForEveryReplicaAndRankCount) {
  const std::pair<int, int> cases[] = {{1, 1}, {4, 1}, {4, 2}, {4, 3},  {4, 4}, {5, 2},
                                       {7, 3}, {8, 8}, {8, 3}, {16, 5}, {13, 6}};
  for (const auto& [replicas, ranks] : cases)
    run_ranks(ranks, kWhole,
              [r = replicas](Communicator& comm) { laws::ordered_sum_equals_the_reference_tree(comm, r, 1003); });
}

TEST(OrderedSum, HoldsWhereSlicesAreEmptyOrPiecesAreCut) {
  for (const std::size_t length : {std::size_t{1}, std::size_t{16}, std::size_t{17}})  // fewer lines than ranks
    run_ranks(5, kWhole, [&](Communicator& comm) { laws::ordered_sum_equals_the_reference_tree(comm, 7, length); });
  run_ranks(2, kWhole, [](Communicator& comm) { laws::ordered_sum_equals_the_reference_tree(comm, 3, 0); });
  run_ranks(3, kChunks, [](Communicator& comm) { laws::ordered_sum_equals_the_reference_tree(comm, 5, 129); });
  run_ranks(2, kWhole, [](Communicator& comm) { laws::ordered_sum_equals_the_reference_tree(comm, 5, 20'003); });
}

TEST(OrderedSum, EqualsTheReferenceTreeWhereSomeOrAllPartialSumsAreSent) {
  for (const auto& [replicas, ranks] : {std::pair{4, 2}, {7, 3}, {8, 3}, {16, 5}, {13, 6}})
    for (int far = 0; far < ranks; ++far)
      run_ranks(ranks, kWhole,
                [far, r = replicas](Communicator& comm) { laws::ordered_sum_equals_the_reference_tree(comm, r, 1003, far); });
  run_ranks(3, kWhole, [](Communicator& comm) { laws::ordered_sum_equals_the_reference_tree(comm, 7, 20'003, 2); });
  run_ranks(3, kChunks, [](Communicator& comm) { laws::ordered_sum_equals_the_reference_tree(comm, 5, 129, 1); });
}

TEST(OrderedSum, WaitsForTheRankThatIsLate) { run_ranks(3, kWhole, laws::a_sum_waits_for_the_rank_that_is_late); }

TEST(OrderedSum, RefusesSlicesOfOtherSizesThanAnotherRankHas) {
  std::atomic<int> refused{0};
  run_ranks(2, kWhole, [&](Communicator& comm) {
    const std::vector<Slices> parts = {even_slices({0, comm.rank() == 0 ? 96u : 64u}, 2)};
    OrderedSum sum({2, 2}, comm.rank(), 96);
    sum.begin(comm.rank());
    sum.end(comm.rank());
    if (message_of([&] { sum.reduce_scatter(comm, parts); }).find("slices of other sizes") != std::string::npos) ++refused;
  });
  EXPECT_EQ(refused, 2);
}

TEST(SharedMemory, OfAHostIsReadWhereItIs) {
  for (int ranks = 1; ranks <= 4; ++ranks) run_ranks(ranks, kWhole, laws::memory_of_a_host_is_read_where_it_is);
}

TEST(SharedMemory, SlicesMeetOnAllRanks) {
  for (int ranks = 1; ranks <= 4; ++ranks) run_ranks(ranks, kWhole, laws::slices_meet_on_all_ranks);
}

// As where a rank of another container has the host's name, and its process number is somebody else's here: what the other's
// descriptor leads to has the size that it should have, and is other memory.
TEST(SharedMemory, IsNotTakenForAnothers) {
  run_ranks(2, kWhole, [](Communicator& comm) {
    const SharedFloats floats(1003);
    comm.barrier();
    if (comm.rank() == 0) {
      std::vector<int> files;
      for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
        std::error_code none;
        if (std::filesystem::read_symlink(entry.path(), none).string().starts_with("/memfd:gru4rec"))
          files.push_back(std::stoi(entry.path().filename()));
      }
      EXPECT_EQ(files.size(), 2u);
      EXPECT_EQ(dup2(files.front(), files.back()), files.back());
    }
    comm.barrier();
    EXPECT_EQ(floats.map_others(comm).ranks(), 0);
  });
}

// A file past the limit would end the process (SIGXFSZ).
TEST(SharedMemory, BeyondTheLimitOnFilesIsMemoryThatNobodyElseReads) {
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const rlimit small{1000, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  run_ranks(2, kWhole, [](Communicator& comm) {
    const SharedFloats floats(1003);
    std::fill_n(floats.data(), 1003, 1.0f);
    EXPECT_EQ(floats.map_others(comm).ranks(), 0);
  });
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
}

TEST(OrderedSum, RefusesAnotherLengthInTheMiddleOfAStep) {
  OrderedSum sum(ReplicaLayout(3, 1), 0, 40);
  sum.begin(0);
  EXPECT_THROW(sum.set_length(3), BugError);
  sum.end(0);
  EXPECT_THROW(sum.set_length(3), BugError);
}

TEST(OrderedSum, ItsTestValuesTellTheTreeFromASumInOrder) {
  int differing = 0;
  for (std::size_t i = 0; i < 1003; ++i) {
    float in_order = 0.0F;
    for (int replica = 0; replica < 7; ++replica) in_order += laws::gradient_at(replica, i);
    differing += laws::same_bits(in_order, laws::reference_sum(i, 0, 7)) ? 0 : 1;
  }
  EXPECT_GT(differing, 100);
}

TEST(OrderedSum, GathersOneValueAReplicaInReplicaOrder) {
  run_ranks(3, kWhole, [](Communicator& comm) {
    const ReplicaLayout layout(7, comm.size());
    std::vector<int> mine;
    for (const int replica : layout.replicas_of(comm.rank())) mine.push_back(replica * replica);
    EXPECT_EQ(gather_by_replica(comm, layout, std::span<const int>(mine)), (std::vector<int>{0, 1, 4, 9, 16, 25, 36}));
  });
}

TEST(Threads, ARankThatThrowsEndsTheOthersWaitsAndIsNamed) {
  const auto begin = std::chrono::steady_clock::now();
  std::atomic<int> ended{0};
  const auto run = [&] {
    run_ranks(4, [&](Communicator& comm) {  // the time limit is ten minutes: only the failure can end the waits
      comm.barrier();
      if (comm.rank() == 2) throw UserError("no such file");
      try {
        comm.barrier();
      } catch (const SurroundingsError&) {
        ++ended;
        throw;
      }
    });
  };
  EXPECT_THROW(run(), UserError);
  EXPECT_EQ(ended.load(), 3);
  EXPECT_EQ(message_of(run), "rank 2 of 4: no such file");
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(60));
}

TEST(Threads, FailuresOfSeveralRanksAreAllReported) {
  const std::string text = message_of([] {
    run_ranks(3, kWhole, [](Communicator& comm) {
      comm.barrier();
      if (comm.rank() != 1) throw BugError("broken {}", comm.rank());
    });
  });
  EXPECT_NE(text.find("broken 0"), std::string::npos) << text;
  EXPECT_NE(text.find("broken 2"), std::string::npos) << text;
}

TEST(Threads, ARankThatReturnsEarlyIsNamedByThoseThatWaitForIt) {
  const std::string text = message_of([] {
    run_ranks(2, [](Communicator& comm) {
      if (comm.rank() == 0) comm.barrier();
    });
  });
  EXPECT_NE(text.find("waits for rank 1, which has already returned"), std::string::npos) << text;
}

TEST(Threads, SizesThatDisagreeAreRefusedAndNotTruncated) {
  EXPECT_THROW(run_ranks(2, kWhole,
                         [](Communicator& comm) {
                           std::vector<int> out(3), in(static_cast<std::size_t>(3 - comm.rank()));
                           comm.exchange(1 - comm.rank(), std::span<const int>(out), std::span<int>(in));
                         }),
               BugError);
}

TEST(Threads, AStuckRankIsNamedWhenTheTimeIsUp) {
  for (const int stuck : {0, 2}) {
    std::atomic<bool> go_on{false};
    std::atomic<int> named{0};
    run_ranks(3, kShort, [&](Communicator& comm) {
      comm.progress().report(7, "sum of gradients");
      if (comm.rank() == stuck) {
        while (!go_on) std::this_thread::sleep_for(std::chrono::milliseconds(5));
        return;
      }
      const std::string text = message_of([&] { comm.barrier(); });
      const std::string wanted = comm.describe(stuck) + " has not reported since step 7, operation 'sum of gradients'";
      EXPECT_NE(text.find(wanted), std::string::npos) << text;
      EXPECT_EQ(text.find(comm.describe(1) + " has not"), std::string::npos) << "rank 1 is alive: " << text;
      EXPECT_NE(message_of([&] { comm.barrier(); }).find("cannot communicate any more"), std::string::npos);
      if (++named == 2) go_on = true;
    });
    EXPECT_EQ(named.load(), 2);
  }
}

TEST(Threads, RanksThatWaitForEachOtherAreTold) {
  const std::string text = message_of([] {
    run_ranks(2, kShort, [](Communicator& comm) {
      comm.progress().report(comm.rank(), comm.rank() == 0 ? "evaluation" : "training");
      std::byte byte{};
      const Incoming in{1 - comm.rank(), {&byte, 1}};
      comm.transfer("receive", {}, {&in, 1});
    });
  });
  EXPECT_NE(
      text.find("the ranks wait for each other: rank 0 in 'evaluation' (receive) of step 0 for rank 1; rank 1 in 'training'"),
      std::string::npos)
      << text;
}

TEST(Threads, TheHookOfAWaitCanEndIt) {
  const std::string text = message_of([] {
    run_ranks(2, [](Communicator& comm) {
      comm.set_wait_hook([] { throw SurroundingsError("stopped by the hook"); });
      if (comm.rank() == 0) comm.barrier();
      std::this_thread::sleep_for(std::chrono::milliseconds(200));
    });
  });
  EXPECT_EQ(text, "rank 0 of 2: stopped by the hook");
}

TEST(Threads, AbortEndsAllRanksWithItsCode) {
  try {
    run_ranks(3, [](Communicator& comm) {
      if (comm.rank() == 1) comm.abort(42);
      comm.barrier();
    });
    FAIL() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.exit_code(), 42);
  }
}

}  // namespace
}  // namespace gru4rec

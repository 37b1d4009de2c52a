// Laws of the ordered sum on a second thread: no bit changes, its errors surface in the training thread, and a rank that is
// well is never taken for lost.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <filesystem>
#include <mutex>

#include "comm_laws.h"
#include "gru4rec/base/error.h"
#include "gru4rec/comm/sum_thread.h"
#include "gru4rec/comm/threads.h"
#include "gru4rec/comm/world.h"

namespace gru4rec {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

// A rank with one replica, whose gradient is there.
struct Rank {
  explicit Rank(Communicator& comm) : sum(ReplicaLayout(comm.size(), comm.size()), comm.rank(), 64), sums(sum, comm) {
    sum.begin(comm.rank());
    sum.end(comm.rank());
  }
  OrderedSum sum;
  SumThread sums;
};

TEST(SumThread, InPartsEqualsTheReferenceTreeForEveryReplicaAndRankCount) {
  for (const auto& [replicas, ranks] : {std::pair{3, 1}, {2, 2}, {4, 2}, {4, 3}, {7, 3}, {5, 5}})
    run_ranks(ranks, [r = replicas](Communicator& comm) { laws::a_sum_in_parts_equals_the_reference_tree(comm, r); });
}

TEST(SumThread, PartsThatDoNotFollowEachOtherAreRefused) {
  OrderedSum sum(ReplicaLayout(2, 1), 0, 64);
  sum.begin(0);
  EXPECT_THROW(sum.settle(0, 16), BugError);  // not the last replica
  sum.end(0);
  sum.begin(1);
  sum.settle(16, 32);
  EXPECT_THROW(sum.settle(48, 64), BugError);
  EXPECT_THROW(sum.settle(32, 65), BugError);
  sum.settle(32, 64);
  sum.end(1);
  EXPECT_THROW(sum.settle(64, 64), BugError);
}

// The length of a turn of a thread on the processor, ns, as Linux lets it be chosen; 0 where it does not.
uint64_t turn_of(pid_t thread) {
  struct {
    uint32_t bytes, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
  } found{};
  return syscall(SYS_sched_getattr, thread, &found, sizeof found, 0) == 0 ? found.runtime : 0;
}

TEST(SumThread, HasShortTurnsAndTheTrainingThreadUsualOnes) {
  const uint64_t usual = turn_of(gettid());
  if (usual == 0) GTEST_SKIP() << "this Linux does not say how long turns are (6.12 and later do)";
  std::vector<uint64_t> turns;
  run_ranks(2, [&turns](Communicator& comm) {
    Rank rank(comm);
    rank.sums.send(0, 64);
    rank.sums.wait();
    comm.all_gather(comm.rank());  // both have begun
    if (comm.rank() == 0)
      for (const auto& thread : std::filesystem::directory_iterator("/proc/self/task"))
        turns.push_back(turn_of(std::stoi(thread.path().filename())));
    comm.all_gather(comm.rank());  // and neither has ended
  });
  EXPECT_EQ(std::ranges::count(turns, 100'000u), 2) << ::testing::PrintToString(turns);
  EXPECT_EQ(std::ranges::count(turns, usual), static_cast<std::ptrdiff_t>(turns.size()) - 2);
}

TEST(SumThread, IsRefusedWhereThereIsNoSecondCommunicator) {
  const auto comm = make_single();
  OrderedSum sum(ReplicaLayout(1, 1), 0, 64);
  EXPECT_THROW(SumThread(sum, *comm), BugError);
}

TEST(SumThread, AnErrorOfTheThreadIsThrownInTheTrainingThreadWithItsKind) {
  try {
    run_ranks(2, [](Communicator& comm) {
      Rank rank(comm);
      rank.sums.send(0, comm.rank() == 0 ? 64 : 32);
      rank.sums.wait();
    });
    ADD_FAILURE() << "nothing was thrown";
  } catch (const BugError& error) {
    EXPECT_THAT(error.what(), HasSubstr("both must pass the same sizes"));
  }
}

TEST(SumThread, ATrainingThreadThatFailsEndsAllWithoutWaiting) {  // the time limit is ten minutes
  EXPECT_THROW(run_ranks(3,
                         [](Communicator& comm) {
                           Rank rank(comm);
                           rank.sums.send(0, 32);
                           if (comm.rank() == 1) throw UserError("session 17 is empty");
                           rank.sums.send(32, 64);
                           rank.sums.wait();
                         }),
               UserError);
}

// Rank 2 is stuck in its own code after the first of two blocks. Its second thread is well: idle, or in a wait for the second
// block of rank 1. The others wait for their second threads, or one of them for a message of the training thread.
TEST(SumThread, ARankThatIsStuckIsNamedByAllAndNoOtherIs) {
  for (const bool both_sum : {false, true}) {
    std::mutex mutex;
    std::condition_variable changed;
    std::vector<std::string> errors;
    run_ranks(3, {.timeout = 2.0}, [&](Communicator& comm) {
      Rank rank(comm);
      comm.progress().report(5, "backward");
      rank.sums.send(0, 32);
      rank.sums.wait();
      comm.barrier();
      std::string error;
      try {
        if (comm.rank() == 2 && !both_sum) rank.sums.send(32, 64);
        if (comm.rank() == 0 || (comm.rank() == 1 && both_sum)) {
          rank.sums.send(32, 64);
          rank.sums.wait();
        } else if (comm.rank() == 1) {
          comm.barrier();
        }
      } catch (const SurroundingsError& thrown) {
        error = thrown.what();
      }
      std::unique_lock lock(mutex);
      if (!error.empty()) errors.push_back(error);
      changed.notify_all();
      changed.wait(lock, [&] { return errors.size() == 2; });  // so that no error is that of a rank that has left
    });
    for (const std::string& error : errors)
      EXPECT_THAT(error, AllOf(HasSubstr("rank 2 (host "), HasSubstr("has not reported since step 5, operation 'backward'"),
                               Not(HasSubstr("rank 0 (host ")), Not(HasSubstr("rank 1 (host "))));
  }
}

}  // namespace
}  // namespace gru4rec

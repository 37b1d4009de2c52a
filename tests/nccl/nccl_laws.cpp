// src/comm/nccl.cpp over a small NCCL whose ranks are threads and whose GPUs are the memory of this process (small_nccl.h): the
// laws of every communicator, and what only this one has to hold.
#include <gmock/gmock.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <thread>

#include "../ranks/comm_laws.h"
#include "gru4rec/base/error.h"
#include "gru4rec/comm/threads.h"
#include "gru4rec/comm/world.h"
#include "small_nccl.h"

namespace gru4rec {
namespace {

using small_nccl::DeviceBlock;
using ::testing::AllOf;
using ::testing::HasSubstr;
using Body = std::function<void(Communicator&)>;

const CommOptions kWhole{.timeout = 20.0};
const CommOptions kPieces{.timeout = 20.0, .chunk_bytes = 7};

// The communicator of a rank whose host communicator lives elsewhere.
std::unique_ptr<Communicator> over(Communicator& host, int device) {
  return make_nccl(std::shared_ptr<Communicator>(&host, [](Communicator*) {}), device);
}

// Runs `body` on ranks that have a GPU each. `all`: all memory is that of GPUs.
void run_gpus(int ranks, const CommOptions& options, bool all, const Body& body) {
  small_nccl::all_memory_is_device_memory(all);
  run_ranks(ranks, options, [&](Communicator& host) {
    const auto comm = over(host, host.rank());
    body(*comm);
  });
}

std::string failure_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "nothing was thrown";
}

class Nccl : public ::testing::Test {
 protected:
  Nccl() { small_nccl::reset(); }
  ~Nccl() override {
    const small_nccl::Counts counts = small_nccl::counts();
    EXPECT_EQ(counts.mistakes, 0) << counts.first_mistake;
    EXPECT_EQ(counts.alive, 0) << "communicators, streams or events were left";
  }
};

TEST_F(Nccl, EveryPrimitiveDeliversOnOneToFiveRanks) {
  for (int ranks = 1; ranks <= 5; ++ranks) run_gpus(ranks, kWhole, true, laws::all_primitives);
  const small_nccl::Counts counts = small_nccl::counts();
  EXPECT_GT(counts.sends, 100) << "the messages went another way";
  EXPECT_EQ(counts.sends, counts.receives);
}

TEST_F(Nccl, MessagesCutIntoPiecesOfSevenBytesArriveWhole) {
  for (const int ranks : {2, 3}) run_gpus(ranks, kPieces, true, laws::all_primitives);
}

TEST_F(Nccl, AgreementsHoldOnOneToFourRanks) {
  for (int ranks = 1; ranks <= 4; ++ranks) run_gpus(ranks, kWhole, true, laws::all_agreements);
}

TEST_F(Nccl, TheOrderedSumEqualsTheReferenceTree) {
  for (const auto& [replicas, ranks] : {std::pair{4, 2}, {4, 3}, {5, 2}, {7, 3}, {8, 4}, {13, 5}})
    run_gpus(ranks, kWhole, true,
             [r = replicas](Communicator& comm) { laws::ordered_sum_equals_the_reference_tree(comm, r, 1003); });
  run_gpus(3, kPieces, true, [](Communicator& comm) { laws::ordered_sum_equals_the_reference_tree(comm, 5, 129); });
}

TEST_F(Nccl, ASetOfMessagesIsOneGroup) {
  run_gpus(3, kWhole, true, [](Communicator& comm) { comm.barrier(); });
  const small_nccl::Counts counts = small_nccl::counts();
  EXPECT_EQ(counts.groups, 3);
  EXPECT_EQ(counts.sends, 3 * 2);
  EXPECT_EQ(counts.receives, 3 * 2);
}

TEST_F(Nccl, WhatIsInTheMemoryOfTheHostGoesByTheCommunicatorOfTheHost) {
  run_gpus(3, kWhole, false, [](Communicator& comm) {
    EXPECT_TRUE(comm.carries_device_memory());
    laws::all_primitives(comm);
    laws::all_agreements(comm);
  });
  EXPECT_EQ(small_nccl::counts().sends, 0);
}

TEST_F(Nccl, TheCommunicatorOfTheHostKnowsHowFarTheRankIs) {
  run_ranks(2, kWhole, [](Communicator& host) {
    over(host, host.rank())->progress().report(5, "backward");
    EXPECT_EQ(host.progress().step(), 5);
    EXPECT_STREQ(host.progress().operation(), "backward");
  });
}

TEST_F(Nccl, ASetWithMessagesInBothMemoriesIsRefused) {
  run_gpus(2, kWhole, false, [](Communicator& comm) {
    int out = 1, in = 0;
    const DeviceBlock block(&out, sizeof out);
    EXPECT_THROW(comm.exchange(1 - comm.rank(), std::span<const int>(&out, 1), std::span<int>(&in, 1)), BugError);
    comm.barrier();
  });
}

TEST_F(Nccl, TheNativeSumIsNccls) {
  run_gpus(4, kWhole, true,
           [](Communicator& comm) { laws::native_sum_is_the_sum_but_for_rounding_and_equal_on_all_ranks(comm, 1003); });
  EXPECT_EQ(small_nccl::counts().sums, 4);
  run_gpus(3, kWhole, true,
           [](Communicator& comm) { laws::native_reduction_is_the_ordered_one_but_for_rounding(comm, 7, /*differs=*/true); });
  EXPECT_EQ(small_nccl::counts().sums, 4 + 3);
}

TEST_F(Nccl, TwoRanksOnOneGpuAreRefusedByName) {
  const std::string text = failure_of([] {
    run_ranks(3, kWhole, [](Communicator& host) {
      EXPECT_THAT(why_no_nccl(host, host.rank()), "");
      EXPECT_THROW(over(host, host.rank() % 2), UserError);
      over(host, host.rank() % 2);
    });
  });
  EXPECT_THAT(text, AllOf(HasSubstr("ranks 0 and 2 are both on GPU 0000:00:00.0 of host "), HasSubstr("set gpu_sum to host")));
}

TEST_F(Nccl, ARankThatDoesNotTakePartIsNamedWhenTheTimeIsUp) {
  std::atomic<int> named{0};
  run_gpus(3, kWhole, true, [&](Communicator& comm) {
    comm.barrier();
    comm.set_timeout(0.5);
    comm.progress().report(7, "sum of gradients");
    if (comm.rank() == 2) {
      while (named < 2) std::this_thread::sleep_for(std::chrono::milliseconds(5));
      return;
    }
    EXPECT_THAT(failure_of([&] { comm.barrier(); }),
                HasSubstr(comm.describe(2) + " has not reported since step 7, operation 'sum of gradients'"));
    EXPECT_THAT(failure_of([&] { comm.barrier(); }), HasSubstr("cannot communicate any more"));
    ++named;
  });
  EXPECT_EQ(small_nccl::counts().aborts, 3);
}

TEST_F(Nccl, GpusThatAreNeverConnectedAreGivenUp) {
  small_nccl::reset({.never_connects = true});
  EXPECT_THAT(failure_of([] { run_gpus(2, {.timeout = 0.5}, true, [](Communicator&) {}); }), HasSubstr("connecting the GPUs"));
}

// Calls barriers until something fails; returns what, on the rank at fault, which the others wait for.
std::string failure_at(int rank, int ranks) {
  std::string text;
  std::atomic<bool> told{false};
  run_gpus(ranks, kWhole, true, [&](Communicator& comm) {
    comm.progress().report(5, "sum of gradients");
    comm.set_wait_hook([&] {
      if (told) throw SurroundingsError("the other rank has failed");
    });
    const std::string failure = failure_of([&] {
      for (int i = 0; i < 3; ++i) comm.barrier();
    });
    if (comm.rank() != rank) return;
    text = failure;
    EXPECT_NE(failure_of([&] { comm.barrier(); }), "nothing was thrown");
    told = true;
  });
  return text;
}

TEST_F(Nccl, WhatNcclSaysLaterEndsAWaitWithAllThatIsKnown) {
  small_nccl::reset({.rank = 1, .group = 2, .asynchronous = ncclRemoteError});
  EXPECT_THAT(
      failure_at(1, 3),
      AllOf(HasSubstr("barrier in 'sum of gradients' of step 5: 4 bytes from and to ranks 0, 2, by rank 1 of 3 failed on "
                      "GPU 1 of host "),
            HasSubstr("'remote process exited or there was a network error' (no route to the GPU)"),
            HasSubstr("NCCL_DEBUG=INFO"), HasSubstr("NCCL_SOCKET_IFNAME")));
  EXPECT_EQ(small_nccl::counts().aborts, 3);
}

// A group left open would swallow the abort, and with it the process: small_nccl counts that as a mistake.
TEST_F(Nccl, ACallThatFailsClosesItsGroupAndEndsTheConnection) {
  small_nccl::reset({.rank = 0, .group = 1, .issued = ncclSystemError});
  EXPECT_THAT(failure_at(0, 2), HasSubstr("from and to rank 1, by rank 0 of 2 failed on GPU 0"));
  EXPECT_EQ(small_nccl::counts().aborts, 2);
}

TEST_F(Nccl, AConnectionThatCannotBeginIsAnError) {
  small_nccl::reset({.connecting = ncclUnhandledCudaError});
  EXPECT_THAT(failure_of([] { run_gpus(2, kWhole, true, [](Communicator&) {}); }),
              AllOf(HasSubstr("connecting the GPUs in 'start-up'"), HasSubstr("'unhandled cuda error'")));
}

TEST_F(Nccl, AbortEndsTheConnectionAndTheJob) {
  run_gpus(1, kWhole, true, [](Communicator& comm) {
    try {
      comm.abort(42);
    } catch (const Error& error) {  // what the host's communicator of this test does
      EXPECT_EQ(error.exit_code(), 42);
    }
    EXPECT_EQ(small_nccl::counts().aborts, 1);
  });
}

}  // namespace
}  // namespace gru4rec

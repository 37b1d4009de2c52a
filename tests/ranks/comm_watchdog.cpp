// The watchdog of a rank, and how a program finds its world.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <string>
#include <thread>

#include "gru4rec/base/error.h"
#include "gru4rec/comm/threads.h"
#include "gru4rec/comm/watchdog.h"
#include "gru4rec/comm/world.h"

namespace gru4rec {
namespace {

using std::chrono::milliseconds;

const CommOptions kShort{.timeout = 0.3};

TEST(Watchdog, NamesItsRankWithTheStepAndOperationInWhichItHangs) {
  std::atomic<bool> barked{false};
  std::string text;
  run_ranks(2, kShort, [&](Communicator& comm) {
    if (comm.rank() == 0) return;
    comm.progress().report(12, "backward");
    const Watchdog watchdog(comm, [&](const std::string& message) {
      text = message;
      barked = true;
    });
    while (!barked) std::this_thread::sleep_for(milliseconds(5));
  });
  EXPECT_EQ(text.find("rank 1 (host "), 0U) << text;
  EXPECT_NE(text.find("has made no progress for 0."), std::string::npos) << text;
  EXPECT_NE(text.find("since step 12, operation 'backward'"), std::string::npos) << text;
}

TEST(Watchdog, KeepsQuietWhileThereIsProgressAndLeavesWaitsToTheirOwnLimit) {
  std::atomic<int> barks{0};
  run_ranks(2, {.timeout = 2.0}, [&](Communicator& comm) {
    const Watchdog watchdog(comm, [&](const std::string&) { ++barks; });
    for (int step = 0; step < 5; ++step) {  // together longer than the limit, each far below it
      comm.progress().report(step, "backward");
      std::this_thread::sleep_for(milliseconds(comm.rank() == 0 ? 500 : 0));
      comm.barrier();
    }
    if (comm.rank() == 1) {
      EXPECT_THROW(comm.barrier(), SurroundingsError);  // the wait's own limit
      return;
    }
    for (int step = 5; step < 15; ++step) {
      comm.progress().report(step, "backward");
      std::this_thread::sleep_for(milliseconds(300));
    }
  });
  EXPECT_EQ(barks.load(), 0);
}

TEST(Watchdog, DoesNotWatchAWorldOfOne) {
  const auto comm = make_single(kShort);
  std::atomic<int> barks{0};
  const Watchdog watchdog(*comm, [&](const std::string&) { ++barks; });
  std::this_thread::sleep_for(milliseconds(700));
  EXPECT_EQ(barks.load(), 0);
}

// A process without any of the variables by which launchers make themselves known.
class World : public testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "SLURM_STEP_NUM_TASKS", "PMI_SIZE"}) unsetenv(name);
  }
};

TEST_F(World, WithoutALauncherIsAWorldOfOneThatNeverTouchesMpi) {
  MpiEnvironment mpi;
  const auto world = make_world(mpi, {});
  EXPECT_STREQ(world->name(), "single");
  EXPECT_EQ(world->size(), 1);
  EXPECT_FALSE(mpi.initialised());
  mpi.finalize(*world);
}

TEST_F(World, OfProcessesThatCannotFindEachOtherIsRefused) {
  const auto refusal = [] {
    MpiEnvironment mpi;
    try {
      make_world(mpi, {});
    } catch (const UserError& error) {
      return std::string(error.what());
    }
    return std::string("not refused");
  };
  setenv("SLURM_STEP_NUM_TASKS", "4", 1);
  EXPECT_NE(refusal().find("srun --mpi=pmix"), std::string::npos) << refusal();
  unsetenv("SLURM_STEP_NUM_TASKS");
  setenv("PMI_SIZE", "2", 1);
  EXPECT_NE(refusal().find("another MPI's launcher started 2 processes"), std::string::npos) << refusal();
  setenv("PMI_SIZE", "1", 1);
  EXPECT_EQ(refusal(), "not refused");
  unsetenv("PMI_SIZE");
}

TEST_F(World, AnAbortBeforeMpiStartedEndsTheProcessWithItsCode) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(MpiEnvironment().abort(kExitUser), testing::ExitedWithCode(kExitUser), "");
  EXPECT_EXIT(make_single()->abort(kExitSurroundings), testing::ExitedWithCode(kExitSurroundings), "");
  EXPECT_EXIT(Watchdog::leave("rank 1 hangs"), testing::ExitedWithCode(kExitSurroundings), "rank 1 hangs");
}

TEST(CommOptions, LimitsThatMakeNoSenseAreRefused) {
  EXPECT_THROW(make_single({.timeout = 0.0}), BugError);
  EXPECT_THROW(make_single({.chunk_bytes = 0}), BugError);
  EXPECT_THROW(make_single({.chunk_bytes = std::size_t{1} << 31}), BugError);
}

}  // namespace
}  // namespace gru4rec

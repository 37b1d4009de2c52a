// comm_lost_rank FATE RANK [overlap]: a job of a few steps in which one rank meets a fate at step 5. The others must end in
// time, with the right code, and name it; tests/mpi/CMakeLists.txt says which. FATE is none, throws, killed, stopped, hangs,
// leaves, signalled, stopped_at_end or suspended (all ranks). With overlap a second thread of each rank sums the gradient in
// two blocks, and the rank meets its fate when it has sent the first.
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <thread>

#include "gru4rec/comm/agreement.h"
#include "gru4rec/comm/ordered_sum.h"
#include "gru4rec/comm/sum_thread.h"
#include "gru4rec/comm/watchdog.h"
#include "gru4rec/comm/world.h"

namespace gru4rec {
namespace {

constexpr double kTimeout = 4.0;  // seconds; a loaded machine keeps ranks that go on waiting for two
constexpr int kSteps = 10;
constexpr int kFatalStep = 5;

[[noreturn]] void hang() {
  for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
}

// Continues this process after a time longer than the limit, as a scheduler that suspends a job would.
void suspend_and_continue() {
  if (fork() == 0) {
    std::this_thread::sleep_for(std::chrono::duration<double>(2 * kTimeout));
    kill(getppid(), SIGCONT);
    _exit(0);
  }
  raise(SIGSTOP);
}

// Returns when the others have received all that was sent before: Open MPI may still hold it when a wait has ended.
void settle(Communicator& comm) {
  comm.barrier();
  comm.barrier();
}

void meet(const std::string& fate) {
  if (fate == "throws") throw UserError("session 17 is empty");
  if (fate == "killed") raise(SIGKILL);
  if (fate == "stopped") raise(SIGSTOP);
  if (fate == "hangs") hang();
  if (fate == "leaves") std::exit(0);  // without a word
}

void train(Communicator& comm, const std::string& fate, int whose, bool overlap) {
  constexpr std::size_t kLength = 50'001, kBlock = 30'000;  // of the gather, slices beyond the eager limit
  const ReplicaLayout layout(comm.size() + 1, comm.size());
  const int last = layout.replicas_of(comm.rank()).last - 1;
  OrderedSum sum(layout, comm.rank(), kLength);
  std::optional<SumThread> sums;
  if (overlap) sums.emplace(sum, comm);
  for (int step = 0; step < kSteps; ++step) {
    comm.progress().report(step, "backward");
    if (step == kFatalStep && fate == "suspended") suspend_and_continue();
    if (step == kFatalStep) settle(comm);
    if (step == kFatalStep && comm.rank() == whose && !overlap) meet(fate);
    StepReport report;
    report.step = step;
    for (const int replica : layout.replicas_of(comm.rank())) {
      sum.begin(replica)[0] = 1.0F;
      if (overlap && replica == last) {
        sum.settle(0, kBlock);
        sums->send(0, kBlock);
        if (step == kFatalStep && comm.rank() == whose) meet(fate);
      }
      sum.end(replica);
      report.losses.push_back(1.0);
    }
    if (step == kFatalStep && comm.rank() == whose && fate == "signalled") report.stop_signal = SIGUSR1;
    const Agreement all = agree(comm, layout, report);
    if (all.failed()) throw all.error();
    comm.progress().report(step, "sum of gradients");
    if (overlap) {
      sums->send(kBlock, kLength);
      sums->wait();
    } else {
      sum.reduce(comm);
    }
    if (sum.total()[0] != static_cast<float>(layout.replicas())) throw BugError("the sum is wrong at step {}", step);
    if (all.stop) throw Error(kExitSignalBase + all.stop, fmt::format("rank {} stopped at step {}", comm.rank(), step));
  }
  comm.progress().report(kSteps, "last words");
  settle(comm);
  if (fate == "stopped_at_end" && comm.rank() == whose) raise(SIGSTOP);
}

}  // namespace
}  // namespace gru4rec

int main(int argc, char** argv) {
  if (argc < 3) return gru4rec::kExitUser;
  gru4rec::MpiEnvironment mpi;
  try {
    const auto world = gru4rec::make_world(mpi, {.timeout = gru4rec::kTimeout});
    const gru4rec::Watchdog watchdog(*world);
    gru4rec::train(*world, argv[1], std::atoi(argv[2]), /*overlap=*/argc > 3);
    mpi.finalize(*world);
    std::puts("done");
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    mpi.abort(gru4rec::exit_code_of(error));
  }
}

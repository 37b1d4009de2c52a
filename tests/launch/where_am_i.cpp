// where_am_i [wait|throw]: the program the tests of launch/ and cluster/ start in place of gru4rec.
//
// Rank 0 prints a line for each rank, "rank R of N on HOST, local rank L", and, when a large exchange between all has given the
// right sums, "exchanged". `throw` then fails on the last rank with a UserError. `wait` waits until any rank gets USR1, and
// leaves with 128 + 10 two seconds later, as a training that saves first does.
#include <csignal>
#include <cstdio>
#include <cstring>
#include <thread>
#include <vector>

#include "gru4rec/base/error.h"
#include "gru4rec/comm/world.h"

namespace gru4rec {
namespace {

volatile std::sig_atomic_t got_signal = 0;

constexpr std::size_t kValues = 300'007;  // far beyond an eager message
constexpr int kPolls = 400;               // of 50 ms: a rank that nobody stops ends by itself

void show_ranks(const Communicator& comm) {
  if (comm.rank() != 0) return;
  int number = 0;
  for (const RankInfo& rank : comm.ranks())
    std::printf("rank %d of %d on %s, local rank %d\n", number++, comm.size(), rank.host.c_str(), rank.local_rank);
}

// Every rank gathers a long row of every rank's number.
void exchange_rows(Communicator& comm) {
  const std::vector<int> mine(kValues, comm.rank());
  const std::vector<std::size_t> counts(static_cast<std::size_t>(comm.size()), kValues);
  std::vector<int> all(kValues * counts.size(), -1);
  comm.all_gather_v<int>(mine, counts, all);
  for (std::size_t i = 0; i < all.size(); ++i)
    if (all[i] != static_cast<int>(i / kValues)) throw BugError("value {} is {}", i, all[i]);
  comm.barrier();
  if (comm.rank() == 0) std::printf("exchanged\n");
}

int wait_for_signal(Communicator& comm) {
  std::fprintf(stderr, "rank %d waits\n", comm.rank());
  int stop = 0;
  for (int poll = 0; poll < kPolls && stop == 0; ++poll) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    const int mine = got_signal;
    for (const int signal : comm.all_gather(mine)) stop = stop != 0 ? stop : signal;
  }
  if (stop == 0) throw SurroundingsError("no signal came");
  std::this_thread::sleep_for(std::chrono::seconds(2));
  if (comm.rank() == 0) std::printf("saved on signal %d\n", stop);
  return kExitSignalBase + stop;
}

int run(Communicator& comm, const char* action) {
  show_ranks(comm);
  exchange_rows(comm);
  if (std::strcmp(action, "throw") == 0 && comm.rank() == comm.size() - 1) throw UserError("thrown on purpose");
  return std::strcmp(action, "wait") == 0 ? wait_for_signal(comm) : kExitDone;
}

}  // namespace
}  // namespace gru4rec

int main(int argc, char** argv) {
  std::signal(SIGUSR1, [](int number) { gru4rec::got_signal = number; });
  gru4rec::MpiEnvironment mpi;
  try {
    const auto comm = gru4rec::make_world(mpi, {.timeout = 30});
    const int code = gru4rec::run(*comm, argc > 1 ? argv[1] : "");
    std::fflush(stdout);
    mpi.finalize(*comm);
    return code;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    mpi.abort(gru4rec::exit_code_of(error));
  }
}

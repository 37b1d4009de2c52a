// Watchdog: ends a rank that is stuck in its own code. Together with the time limit of every wait it keeps the promise that a
// lost or stuck rank ends the job with its name instead of a hang. Who notices what:
//
//   a rank is killed, or its host dies    mpirun ends the others (137 and the like)
//   a rank throws                         its `main` prints the cause and calls MpiEnvironment::abort
//   a rank is stopped (SIGSTOP), cut off, the others' waits expire; they call the roll (communicator.h), name the ranks that
//   or hangs, rank 0 included             did not answer by host and pid, and end the job with code 3
//   a rank hangs in its own code and      its watchdog prints its step and operation and leaves with code 3, upon which mpirun
//   its process can still run a thread    ends the others; needed too where nobody waits in a Communicator, but in MPI itself
//
// So no rank has a special part, and nothing but messages between ranks that both wait is needed: no second channel, no
// MPI_THREAD_MULTIPLE, no shared file system.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "gru4rec/comm/communicator.h"

namespace gru4rec {

// Watches comm.progress() from a thread of its own; `comm` must outlive it. Every Progress::report and every wait that ends is
// progress. The limit is comm_timeout outside of waits; within one, where the Communicator's own limit comes first and says
// more, twice that and ten seconds. Time during which the whole job is suspended does not count.
//
//   Watchdog watchdog(*world);   // after make_world, before the work
class Watchdog {
 public:
  using Action = std::function<void(const std::string& message)>;

  // Local. Starts the thread; `stuck` is called on it, once. In a world of one nobody waits and a debugger may hold the
  // process, so nothing is watched.
  explicit Watchdog(const Communicator& comm, Action stuck = leave);
  // Local. Ends the thread; does not communicate.
  ~Watchdog() = default;

  // Prints the message to standard error and leaves the process with code 3 at once, without destructors: the training thread
  // is stuck, and MPI_Abort belongs to it.
  [[noreturn]] static void leave(const std::string& message);

 private:
  void watch(const std::stop_token& stop);
  bool wait_a_little(const std::stop_token& stop);

  const Communicator& comm_;
  Action stuck_;
  std::mutex mutex_;
  std::condition_variable_any ended_;
  std::jthread thread_;  // last: it uses the others
};

}  // namespace gru4rec

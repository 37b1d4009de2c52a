#include "gru4rec/comm/watchdog.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>

#include "gru4rec/base/error.h"
#include "wait_clock.h"

namespace gru4rec {

Watchdog::Watchdog(const Communicator& comm, Action stuck) : comm_(comm), stuck_(std::move(stuck)) {
  if (comm_.size() > 1) thread_ = std::jthread([this](const std::stop_token& stop) { watch(stop); });
}

void Watchdog::leave(const std::string& message) {
  std::fprintf(stderr, "%s\n", message.c_str());
  std::fflush(stderr);
  _exit(kExitSurroundings);
}

// Returns false when the watchdog is to end.
bool Watchdog::wait_a_little(const std::stop_token& stop) {
  const auto pause = std::chrono::duration<double>(std::clamp(comm_.options().timeout / 20, 0.01, 0.5));
  std::unique_lock lock(mutex_);
  ended_.wait_for(lock, stop, pause, [] { return false; });
  return !stop.stop_requested();
}

void Watchdog::watch(const std::stop_token& stop) {
  const Progress& progress = comm_.progress();
  const double timeout = comm_.options().timeout;
  WaitClock since;
  uint64_t beats = progress.beats();
  while (wait_a_little(stop)) {
    if (progress.beats() != beats) {
      beats = progress.beats();
      since = WaitClock();
      continue;
    }
    const double waited = since.look();
    if (waited <= (progress.waiting() ? 2 * timeout + 10 : timeout)) continue;
    stuck_(fmt::format(
        "{} has made no progress for {:.1f} s since step {}, operation '{}'{}. It hangs there, or is slower than comm_timeout "
        "({} "
        "s): look at that process (gdb -p {}), then start again with --resume, or raise comm_timeout.",
        comm_.describe(comm_.rank()), waited, progress.step(), progress.operation(),
        progress.waiting() ? ", inside a call of the communication library" : "", timeout, comm_.ranks()[comm_.rank()].pid));
    return;
  }
}

}  // namespace gru4rec

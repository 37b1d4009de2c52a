// USR1, TERM and INT ask a run to save and leave. The handler only notes the signal; the training loop asks at every step, and
// the ranks agree on it (comm/agreement.h), so all of them stop at the same step. A second INT (Ctrl-C) ends the process at once:
// what was saved before stays, as files are put in their place whole.
#pragma once

#include <atomic>
#include <cstdint>

namespace gru4rec {

// A request to stop. Local; any thread, and signal handlers.
class StopFlag {
 public:
  // The first one counts.
  void raise(int signal);
  // Its signal, or 0.
  int received() const { return signal_; }
  // Seconds since it came; 0 if none did.
  double seconds_since() const;

 private:
  std::atomic<int> signal_{0};
  std::atomic<int64_t> at_ns_{0};
};

// Lets USR1, TERM and INT raise a flag, for the life of the object, and an INT after an INT end the process; then the former
// handlers are back. One object a process.
class StopOnSignals {
 public:
  explicit StopOnSignals(StopFlag& flag);
  ~StopOnSignals();
  StopOnSignals(const StopOnSignals&) = delete;
  StopOnSignals& operator=(const StopOnSignals&) = delete;
};

}  // namespace gru4rec

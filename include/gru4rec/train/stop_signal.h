// USR1, TERM and INT ask a run to save and leave. The handler only notes the signal; the training loop asks at every step, and
// the ranks agree on it (comm/agreement.h), so all of them stop at the same step.
#pragma once

namespace gru4rec {

// Installs the handlers for the life of the object, and restores the former ones. One object a process. Local.
class StopSignal {
 public:
  StopSignal();
  ~StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;

  // The signal received first, or 0. Local; any thread.
  int received() const;
  // Seconds since it came; 0 if none did.
  double seconds_since() const;
};

}  // namespace gru4rec

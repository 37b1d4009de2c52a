// Seconds since something began. A single look counts at most one second, so a job that is suspended as a whole and continued
// (SIGSTOP and SIGCONT, a preempting scheduler, a laptop's lid) does not find all its limits passed.
#pragma once

#include <algorithm>
#include <chrono>

namespace gru4rec {

class WaitClock {
 public:
  double look() {
    const auto now = std::chrono::steady_clock::now();
    waited_ += std::min(std::chrono::duration<double>(now - last_).count(), 1.0);
    last_ = now;
    return waited_;
  }

 private:
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
  double waited_ = 0.0;
};

}  // namespace gru4rec

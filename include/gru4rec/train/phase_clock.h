// Where the time of an epoch goes. Local; one thread.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>

namespace gru4rec {

// What a rank does at one moment; each moment belongs to one of them.
enum class Phase {
  other,
  batches,    // reading and packing
  compute,    // forward and backward
  agreement,  // the ranks agree on the step, which is mostly waiting for the slowest
  sum,        // of gradients over replicas and ranks, and the gather of weights; with overlap what is left of it after backward
  optimizer,
  evaluation,
  checkpoint,
};
constexpr size_t kPhases = 8;
constexpr std::array<const char*, kPhases> kPhaseNames = {"other", "batches",   "compute",    "agreement",
                                                          "sum",   "optimizer", "evaluation", "checkpoint"};

struct PhaseTimes {
  std::array<double, kPhases> seconds{};  // by Phase
  double operator[](Phase phase) const { return seconds[static_cast<size_t>(phase)]; }
  // Of the steps: all but evaluation, checkpoint and other.
  double steps() const {
    return (*this)[Phase::batches] + (*this)[Phase::compute] + (*this)[Phase::agreement] + (*this)[Phase::sum] +
           (*this)[Phase::optimizer];
  }
};

//   clock.enter(Phase::compute);    ends the phase before
//   clock.enter(Phase::other);
//   record(clock.take());           since the last take()
class PhaseClock {
 public:
  void enter(Phase phase) {
    const Clock::time_point now = Clock::now();
    times_.seconds[static_cast<size_t>(phase_)] += std::chrono::duration<double>(now - since_).count();
    phase_ = phase;
    since_ = now;
  }
  PhaseTimes take() {
    enter(phase_);
    const PhaseTimes times = times_;
    times_ = {};
    return times;
  }

 private:
  using Clock = std::chrono::steady_clock;
  Phase phase_ = Phase::other;
  Clock::time_point since_ = Clock::now();
  PhaseTimes times_;
};

}  // namespace gru4rec

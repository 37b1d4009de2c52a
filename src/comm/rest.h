// How a rank waits for a library that is polled. At first it asks without a pause but offers the core to others (sched_yield),
// long enough for the messages at 100 MB/s; then with pauses that grow to a millisecond, so that a rank that waits for a slow
// one leaves it the core.
#pragma once

#include <sched.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <thread>

namespace gru4rec {

// Of a thread beside one that computes: it leaves that the core, and looks often enough for the messages at 1 GB/s.
inline void rest_beside_others() { std::this_thread::sleep_for(std::chrono::microseconds(100)); }

// `waited`: seconds so far.
inline void rest(double waited, std::size_t bytes) {
  const double busy = 0.01 + 1e-8 * static_cast<double>(bytes);
  if (waited < busy) {
    sched_yield();
  } else {
    const double pause = std::clamp((waited - busy) / 20, 20e-6, 1e-3);
    std::this_thread::sleep_for(std::chrono::duration<double>(pause));
  }
}

}  // namespace gru4rec

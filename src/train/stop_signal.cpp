#include "gru4rec/train/stop_signal.h"

#include <array>
#include <atomic>
#include <csignal>
#include <ctime>

namespace gru4rec {
namespace {

constexpr std::array kSignals = {SIGUSR1, SIGTERM, SIGINT};
std::atomic<int> g_received{0};
std::atomic<int64_t> g_received_at_ns{0};
std::array<struct sigaction, kSignals.size()> g_former;

int64_t monotonic_ns() {  // clock_gettime is safe in a signal handler
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

extern "C" void note_signal(int number) {
  int none = 0;
  if (g_received.compare_exchange_strong(none, number)) g_received_at_ns = monotonic_ns();
}

}  // namespace

StopSignal::StopSignal() {
  g_received = 0;
  g_received_at_ns = 0;
  struct sigaction action {};
  action.sa_handler = note_signal;
  action.sa_flags = SA_RESTART;
  for (size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &action, &g_former[i]);
}

StopSignal::~StopSignal() {
  for (size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &g_former[i], nullptr);
}

int StopSignal::received() const { return g_received; }

double StopSignal::seconds_since() const {
  const int64_t at = g_received_at_ns;
  return at == 0 ? 0.0 : static_cast<double>(monotonic_ns() - at) * 1e-9;
}

}  // namespace gru4rec

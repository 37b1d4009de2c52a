#include "gru4rec/train/stop_signal.h"

#include <array>
#include <csignal>
#include <ctime>

namespace gru4rec {
namespace {

constexpr std::array kSignals = {SIGUSR1, SIGTERM, SIGINT};
std::atomic<StopFlag*> g_flag{nullptr};
std::array<struct sigaction, kSignals.size()> g_former;

int64_t monotonic_ns() {  // clock_gettime is safe in a signal handler
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

extern "C" void raise_flag(int number) {
  StopFlag* flag = g_flag;
  if (!flag) return;
  if (number == SIGINT && flag->received() == SIGINT) {  // does not want to wait for the save
    signal(number, SIG_DFL);
    raise(number);  // once the handler has returned
    return;
  }
  flag->raise(number);
}

}  // namespace

void StopFlag::raise(int signal) {
  int none = 0;
  if (signal_.compare_exchange_strong(none, signal)) at_ns_ = monotonic_ns();
}

double StopFlag::seconds_since() const {
  const int64_t at = at_ns_;
  return at == 0 ? 0.0 : static_cast<double>(monotonic_ns() - at) * 1e-9;
}

StopOnSignals::StopOnSignals(StopFlag& flag) {
  g_flag = &flag;
  struct sigaction action {};
  action.sa_handler = raise_flag;
  action.sa_flags = SA_RESTART;
  for (size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &action, &g_former[i]);
}

StopOnSignals::~StopOnSignals() {
  for (size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &g_former[i], nullptr);
  g_flag = nullptr;
}

}  // namespace gru4rec

#include "gru4rec/base/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

namespace gru4rec {

std::string duration_text(double seconds) {
  const auto whole = static_cast<int64_t>(std::max(0.0, seconds) + 0.5);
  const int64_t hours = whole / 3600, minutes = whole / 60 % 60;
  if (hours > 0) return fmt::format("{}:{:02}:{:02}", hours, minutes, whole % 60);
  return fmt::format("{}:{:02}", minutes, whole % 60);
}

ProgressLine::ProgressLine(bool wanted)
    : wanted_(wanted), terminal_(isatty(STDERR_FILENO) == 1), label_started_(Clock::now()), last_shown_(Clock::now()) {}

ProgressLine::~ProgressLine() { clear(); }

void ProgressLine::show(const std::string& label, double fraction, const std::function<std::string()>& fields) {
  if (!wanted_) return;
  const Clock::time_point now = Clock::now();
  if (label != label_) {
    label_ = label;
    label_started_ = now;
  }
  if (now - last_shown_ < (terminal_ ? std::chrono::milliseconds(100) : std::chrono::seconds(10))) return;
  last_shown_ = now;
  const double elapsed = std::chrono::duration<double>(now - label_started_).count();
  const std::string left = fraction > 0 && elapsed > 0 ? duration_text(elapsed * (1 - fraction) / fraction) : "?";
  const std::string line = fmt::format("{:>3.0f}%  {}  ETA {}", 100 * fraction, fields(), left);
  if (!terminal_) {
    fmt::print(stderr, "{} {}\n", label, line);
    return;
  }
  constexpr int kWidth = 20;
  const int filled = std::clamp(static_cast<int>(fraction * kWidth), 0, kWidth);
  fmt::print(stderr, "\r\x1b[K{} [{:#<{}}{:.<{}}] {}", label, "", filled, "", kWidth - filled, line);
  std::fflush(stderr);
  drawn_ = true;
}

void ProgressLine::clear() {
  if (!drawn_) return;
  fmt::print(stderr, "\r\x1b[K");
  std::fflush(stderr);
  drawn_ = false;
}

}  // namespace gru4rec

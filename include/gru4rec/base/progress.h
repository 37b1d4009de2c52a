// Progress on standard error: one line that is redrawn on a terminal, a plain line now and then elsewhere. Local; one thread.
#pragma once

#include <chrono>
#include <functional>
#include <string>

namespace gru4rec {

//   ProgressLine progress(options.show_progress);
//   progress.show("epoch 3/300", 0.42, [&] { return fmt::format("loss {:.4f}", loss); });
class ProgressLine {
 public:
  explicit ProgressLine(bool wanted);
  ~ProgressLine();
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  // `fraction` in [0, 1] of the work that `label` names; the time left is reckoned from when that label was first shown. Redrawn at
  // most ten times a second; elsewhere than on a terminal a line every ten seconds. Only then `fields` are asked for.
  void show(const std::string& label, double fraction, const std::function<std::string()>& fields);

  // Wipes the line, so that other text can be printed.
  void clear();

 private:
  using Clock = std::chrono::steady_clock;
  bool wanted_;
  bool terminal_;
  bool drawn_ = false;
  std::string label_;
  Clock::time_point label_started_;
  Clock::time_point last_shown_;
};

// "0:12", "3:04:59"
std::string duration_text(double seconds);

}  // namespace gru4rec

// A signal asks a run to save and leave; a second Ctrl-C does not wait for it.
#include <gtest/gtest.h>

#include <csignal>
#include <cstdlib>

#include "gru4rec/train/stop_signal.h"

namespace gru4rec {
namespace {

TEST(StopSignal, TheFirstOneIsNotedWhateverFollows) {
  for (const int first : {SIGUSR1, SIGTERM, SIGINT}) {
    StopFlag flag;
    const StopOnSignals handlers(flag);
    EXPECT_EQ(flag.received(), 0);
    raise(first);
    raise(SIGTERM);
    raise(SIGUSR1);
    EXPECT_EQ(flag.received(), first);
  }
}

TEST(StopSignal, ASecondInterruptEndsTheProcessAtOnce) {
  const auto interrupt = [](int times) {
    StopFlag flag;
    const StopOnSignals handlers(flag);
    for (int i = 0; i < times; ++i) raise(SIGINT);
    std::_Exit(flag.received() == SIGINT ? 7 : 8);
  };
  EXPECT_EXIT(interrupt(1), ::testing::ExitedWithCode(7), "");
  EXPECT_EXIT(interrupt(2), ::testing::KilledBySignal(SIGINT), "");
}

}  // namespace
}  // namespace gru4rec

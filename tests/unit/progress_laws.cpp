// The progress line, as it is where standard error is no terminal; tests/end_to_end/options.sh looks at the other kind.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gru4rec/base/progress.h"

namespace gru4rec {
namespace {

TEST(Progress, DurationsReadLikeAClock) {
  EXPECT_EQ(duration_text(-3), "0:00");
  EXPECT_EQ(duration_text(59.4), "0:59");
  EXPECT_EQ(duration_text(59.6), "1:00");
  EXPECT_EQ(duration_text(3599.9), "1:00:00");
  EXPECT_EQ(duration_text(11099), "3:04:59");
}

TEST(Progress, ElsewhereThanOnATerminalNothingIsRedrawnAndShortWorkSaysNothing) {
  ::testing::internal::CaptureStderr();
  {
    ProgressLine progress(true);
    for (int i = 0; i <= 100; ++i) progress.show("epoch 1/3", i / 100.0, [] { return "loss 1"; });
    progress.clear();
  }
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
}

}  // namespace
}  // namespace gru4rec

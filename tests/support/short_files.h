#pragma once

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>

namespace gru4rec::testing {

// While it lives, files end at `bytes`, as on a disk without room: it takes a part, and refuses the rest.
class ShortFiles {
 public:
  explicit ShortFiles(rlim_t bytes) : former_signal_(std::signal(SIGXFSZ, SIG_IGN)) {
    EXPECT_EQ(::getrlimit(RLIMIT_FSIZE, &former_), 0);
    const rlimit limit{bytes, former_.rlim_max};
    EXPECT_EQ(::setrlimit(RLIMIT_FSIZE, &limit), 0);
  }
  ~ShortFiles() {
    ::setrlimit(RLIMIT_FSIZE, &former_);
    std::signal(SIGXFSZ, former_signal_);
  }

 private:
  rlimit former_{};
  void (*former_signal_)(int);
};

}  // namespace gru4rec::testing

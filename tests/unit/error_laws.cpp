// Laws of errors that are not ours: whose they are to mend, and what is said of them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <new>
#include <stdexcept>
#include <system_error>

#include "gru4rec/base/error.h"
#include "gru4rec/base/out_of_memory.h"

namespace gru4rec {
namespace {

using ::testing::HasSubstr;

TEST(Errors, MemoryThatRunsOutIsTheSurroundingsWhoeverAskedForIt) {
  const std::runtime_error of_torch(
      "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: …");
  const std::runtime_error of_cuda("CUDA out of memory. Tried to allocate 2.00 GiB.");
  for (const std::exception* error : std::initializer_list<const std::exception*>{&of_torch, &of_cuda}) {
    EXPECT_EQ(exit_code_of(*error), kExitSurroundings);
    EXPECT_THAT(explain(*error), HasSubstr(error->what()));
    EXPECT_THAT(explain(*error), HasSubstr("train_batch_size"));
  }
  EXPECT_EQ(exit_code_of(std::bad_alloc()), kExitSurroundings);
  EXPECT_THAT(explain(std::bad_alloc()), HasSubstr("out of memory"));
}

TEST(Errors, WhatNobodyKnowsIsABugInItsOwnWords) {
  const std::runtime_error unknown("dimension out of range");
  EXPECT_EQ(exit_code_of(unknown), kExitBug);
  EXPECT_EQ(explain(unknown), "dimension out of range");
  EXPECT_EQ(exit_code_of(std::system_error(std::make_error_code(std::errc::too_many_files_open))), kExitSurroundings);
  EXPECT_EQ(exit_code_of(UserError("x")), kExitUser);
}

}  // namespace
}  // namespace gru4rec

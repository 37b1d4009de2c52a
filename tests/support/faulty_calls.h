// Makes the system calls that change files fail, or kills the process before one, at a chosen place. Link faulty_calls.cpp:
// it defines write, pwrite, ftruncate, fsync, rename … in front of the C library's, so calls of HDF5 and libstdc++ count too.
//
//   for (uint64_t n = 0; killed_at(n, [&] { write_store(); }); ++n) EXPECT_TRUE(former_store_or_new_one());
#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace gru4rec::testing {

enum class Fault {
  none,
  kill,           // SIGKILL before the call takes effect
  disk_full,      // this call and every later one that needs room fails with ENOSPC; removing and renaming work
  failing_fsync,  // this fsync and every later one fails with EIO
};

// Counts calls from now on in this process; at call `nth` (from 0) the fault happens. failing_fsync counts fsyncs only.
void arm(Fault fault, uint64_t nth);
uint64_t calls_since_arm();

// Both throw where this process has other threads (a forked child may then hang) and where the child does not end in 20 s.

// Runs `work` in a child that is killed before its nth call. False if it ended before that; then it must have succeeded.
bool killed_at(uint64_t nth, const std::function<void()>& work);

// Runs `work` in a child in which calls fail from the nth on. The exit code: 0, that of the error it threw
// (error.h; its text must say `wanted_text`, else 99), 98 if there are fewer calls. A signal throws.
int exit_with_fault(Fault fault, uint64_t nth, const std::string& wanted_text, const std::function<void()>& work);

}  // namespace gru4rec::testing

#include "support/faulty_calls.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <iterator>
#include <stdexcept>
#include <string_view>

#include "gru4rec/base/error.h"

namespace gru4rec::testing {

namespace {

std::atomic<Fault> g_fault{Fault::none};
std::atomic<uint64_t> g_nth{0}, g_calls{0};

enum class Call { needs_room, fsync, other };

// Counts a call; true if it has to fail, errno set.
bool fails(Call call) {
  const Fault fault = g_fault;
  if (fault == Fault::none) return false;
  if (fault == Fault::failing_fsync && call != Call::fsync) return false;
  const uint64_t count = g_calls++;
  if (count < g_nth) return false;
  if (fault == Fault::kill) ::kill(::getpid(), SIGKILL);
  if (fault == Fault::disk_full && call != Call::needs_room) return false;
  errno = fault == Fault::disk_full ? ENOSPC : EIO;
  return true;
}

// Files in memory (memfd_create) are no disk: their calls neither count nor fail.
bool fails(Call call, int fd) {
  if (g_fault == Fault::none) return false;
  char target[8] = {};
  const std::string link = "/proc/self/fd/" + std::to_string(fd);
  const bool in_memory =
      ::readlink(link.c_str(), target, sizeof target - 1) > 0 && std::string_view(target).starts_with("/memfd");
  return !in_memory && fails(call);
}

// A child of a process with other threads inherits the locks they hold, and nobody opens them.
pid_t fork_of_one_thread() {
  const auto threads = std::distance(std::filesystem::directory_iterator("/proc/self/task"), {});
  if (threads != 1)
    throw std::runtime_error("a fork beside " + std::to_string(threads - 1) +
                             " other threads may hang; run this under ctest, whose environment keeps Arrow from starting one");
  return ::fork();
}

// Of a child. Throws if it does not end by itself.
int wait_for(pid_t child) {
  int status = 0;
  for (int tenths = 0; tenths < 200; ++tenths) {
    if (::waitpid(child, &status, WNOHANG) == child) return status;
    ::usleep(tenths < 20 ? 1000 : 100'000);
  }
  ::kill(child, SIGKILL);
  ::waitpid(child, &status, 0);
  throw std::runtime_error("the child did not end");
}

int run_and_report(const std::string& wanted_text, const std::function<void()>& work) {
  try {
    work();
    return calls_since_arm() > g_nth ? 0 : 98;
  } catch (const std::exception& error) {
    if (std::string(error.what()).find(wanted_text) != std::string::npos) return exit_code_of(error);
    std::fprintf(stderr, "unexpected text: %s\n", error.what());
    return 99;
  }
}

}  // namespace

void arm(Fault fault, uint64_t nth) {
  g_nth = nth;
  g_calls = 0;
  g_fault = fault;
}

uint64_t calls_since_arm() { return g_calls; }

bool killed_at(uint64_t nth, const std::function<void()>& work) {
  const pid_t child = fork_of_one_thread();
  if (child == 0) {
    arm(Fault::kill, nth);
    try {
      work();
    } catch (const std::exception& error) {
      std::fprintf(stderr, "child: %s\n", error.what());
      ::_exit(1);
    }
    ::_exit(0);
  }
  const int status = wait_for(child);
  if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) return true;
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return false;
  throw std::runtime_error("the child failed by itself");
}

int exit_with_fault(Fault fault, uint64_t nth, const std::string& wanted_text, const std::function<void()>& work) {
  const pid_t child = fork_of_one_thread();
  if (child == 0) {
    arm(fault, nth);
    std::exit(run_and_report(wanted_text, work));  // with what HDF5 does at exit
  }
  const int status = wait_for(child);
  if (!WIFEXITED(status)) throw std::runtime_error("the child ended by signal " + std::to_string(WTERMSIG(status)));
  return WEXITSTATUS(status);
}

}  // namespace gru4rec::testing

// HDF5 1.10.8 leaks 264 bytes of its own when a file it is about to make cannot be written.
extern "C" const char* __lsan_default_suppressions() { return "leak:libhdf5"; }

// The calls. Straight to the kernel, so that nothing has to be looked up.
using gru4rec::testing::Call;
using gru4rec::testing::fails;

extern "C" {

ssize_t write(int fd, const void* data, size_t bytes) {
  return fails(Call::needs_room, fd) ? -1 : ::syscall(SYS_write, fd, data, bytes);
}
ssize_t pwrite(int fd, const void* data, size_t bytes, off_t offset) {
  return fails(Call::needs_room, fd) ? -1 : ::syscall(SYS_pwrite64, fd, data, bytes, offset);
}
ssize_t pwrite64(int fd, const void* data, size_t bytes, off64_t offset) { return pwrite(fd, data, bytes, offset); }
int ftruncate(int fd, off_t size) noexcept {
  return fails(Call::needs_room, fd) ? -1 : static_cast<int>(::syscall(SYS_ftruncate, fd, size));
}
int ftruncate64(int fd, off64_t size) noexcept { return ftruncate(fd, size); }
int fsync(int fd) { return fails(Call::fsync) ? -1 : static_cast<int>(::syscall(SYS_fsync, fd)); }
int fdatasync(int fd) { return fails(Call::fsync) ? -1 : static_cast<int>(::syscall(SYS_fdatasync, fd)); }
int rename(const char* from, const char* to) noexcept {
  return fails(Call::other) ? -1 : static_cast<int>(::syscall(SYS_rename, from, to));
}
int unlink(const char* path) noexcept { return fails(Call::other) ? -1 : static_cast<int>(::syscall(SYS_unlink, path)); }
int remove(const char* path) noexcept {
  if (fails(Call::other)) return -1;
  const int done = static_cast<int>(::syscall(SYS_unlink, path));
  return done != 0 && errno == EISDIR ? static_cast<int>(::syscall(SYS_rmdir, path)) : done;
}
int mkdir(const char* path, mode_t mode) noexcept {
  return fails(Call::needs_room) ? -1 : static_cast<int>(::syscall(SYS_mkdir, path, mode));
}
int open(const char* path, int flags, ...) {
  mode_t mode = 0;
  if (flags & O_CREAT) {
    va_list arguments;
    va_start(arguments, flags);
    mode = va_arg(arguments, mode_t);
    va_end(arguments);
  }
  if ((flags & (O_CREAT | O_TRUNC)) != 0 && fails(Call::needs_room)) return -1;
  return static_cast<int>(::syscall(SYS_openat, AT_FDCWD, path, flags, mode));
}

}  // extern "C"

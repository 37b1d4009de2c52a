// The kinds of failure and the exit codes they end the program with. A message has four parts: what, got, wanted, what to do.
#pragma once

#include <fmt/format.h>

#include <exception>
#include <stdexcept>
#include <string>
#include <utility>

namespace gru4rec {

enum ExitCode : int {
  kExitDone = 0,
  kExitUser = 2,          // the user can fix it: configuration, data, a checkpoint that does not fit
  kExitSurroundings = 3,  // I/O, network, a lost rank
  kExitBug = 4,           // our own invariant does not hold
  kExitSignalBase = 128,  // + signal number: stopped on request after saving
};

// Base of all errors this project throws. Local.
class Error : public std::runtime_error {
 public:
  Error(int exit_code, const std::string& message) : std::runtime_error(message), exit_code_(exit_code) {}
  int exit_code() const { return exit_code_; }

 private:
  int exit_code_;
};

// The configuration, the data or a file handed in is not what it has to be; the user can fix it. Exit code 2.
struct UserError : Error {
  explicit UserError(const std::string& message) : Error(kExitUser, message) {}
  template <typename... Args>
  explicit UserError(fmt::format_string<Args...> format, Args&&... args)
      : Error(kExitUser, fmt::format(format, std::forward<Args>(args)...)) {}
};

// The machine, the disk, the network or another rank failed. Exit code 3.
struct SurroundingsError : Error {
  explicit SurroundingsError(const std::string& message) : Error(kExitSurroundings, message) {}
  template <typename... Args>
  explicit SurroundingsError(fmt::format_string<Args...> format, Args&&... args)
      : Error(kExitSurroundings, fmt::format(format, std::forward<Args>(args)...)) {}
};

// An invariant of our own does not hold. Exit code 4.
struct BugError : Error {
  explicit BugError(const std::string& message) : Error(kExitBug, message) {}
  template <typename... Args>
  explicit BugError(fmt::format_string<Args...> format, Args&&... args)
      : Error(kExitBug, fmt::format(format, std::forward<Args>(args)...)) {}
};

// The exit code for any exception: an Error's own, 3 for std::bad_alloc and system errors, 4 for everything else.
int exit_code_of(const std::exception& error) noexcept;

// Text of the current errno, for messages: "No space left on device".
std::string errno_text(int error_number);

}  // namespace gru4rec

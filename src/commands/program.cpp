#include "program.h"

#include <fmt/format.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <thread>

#include "gru4rec/base/error.h"
#include "gru4rec/base/host_name.h"
#include "gru4rec/base/out_of_memory.h"

namespace gru4rec {
namespace {

// Log lines go to standard error, results to standard output; ranks other than 0 only warn.
void set_up_log(const std::string& level) {
  const auto mode = std::getenv("NO_COLOR") ? spdlog::color_mode::never : spdlog::color_mode::automatic;
  spdlog::set_default_logger(spdlog::stderr_color_mt("gru4rec", mode));
  const int rank = launched_rank();
  spdlog::set_pattern(rank > 0 ? fmt::format("%^rank {}: %v%$", rank) : "%^%v%$");
  const auto wanted = spdlog::level::from_str(level);
  spdlog::set_level(rank > 0 ? std::max(wanted, spdlog::level::warn) : wanted);
}

// One rank's failure is printed by that rank; a failure that all share only by the first, which then ends the job before the
// others are done waiting.
void report(const std::exception& error) {
  const int rank = launched_rank();
  if (rank > 0) std::this_thread::sleep_for(std::chrono::seconds(1));
  const std::string who = rank < 0 ? "gru4rec" : fmt::format("gru4rec: rank {} (host {}, pid {})", rank, host_name(), getpid());
  fmt::print(stderr, "{}: {}{}\n", who, exit_code_of(error) == kExitBug ? "this is a bug, please report it: " : "",
             explain(error));
}

}  // namespace

int launched_rank() {
  if (!MpiEnvironment::started_by_launcher()) return -1;
  for (const char* name : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK"})
    if (const char* rank = std::getenv(name)) return std::atoi(rank);
  return -1;
}

CommandLine begin(int argc, const char* const* argv) {
  CommandLine command_line = parse_command_line(argc, argv, /*read_files=*/launched_rank() <= 0);
  set_up_log(command_line.options.log_level);
  for (const std::string& warning : command_line.warnings) spdlog::warn(warning);
  return command_line;
}

int guard(MpiEnvironment& environment, const std::function<int()>& work) {
  std::signal(SIGXFSZ, SIG_IGN);  // what is beyond `ulimit -f` is then refused, as on a full disk
  try {
    return work();
  } catch (const std::exception& error) {
    report(error);
    environment.abort(exit_code_of(error));
  }
}

void become(const char* program, char** argv) {
  const std::filesystem::path path = std::filesystem::read_symlink("/proc/self/exe").replace_filename(program);
  ::execv(path.c_str(), argv);
  throw UserError("cannot start {}: {}. It belongs beside gru4rec: build or install both, or copy both.", path.string(),
                  std::strerror(errno));
}

}  // namespace gru4rec

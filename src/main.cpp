// `main` owns MPI and the exit code: everything below it throws.
#include <fmt/format.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <thread>

#include "commands/command_line.h"
#include "commands/commands.h"
#include "commands/world.h"
#include "gru4rec/base/config.h"
#include "gru4rec/base/error.h"
#include "gru4rec/base/heap.h"
#include "gru4rec/base/host_name.h"
#include "gru4rec/base/out_of_memory.h"
#include "gru4rec/comm/world.h"

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

int run(const CommandLine& command_line, MpiEnvironment& environment) {
  for (const std::string& warning : command_line.warnings) spdlog::warn(warning);
  if (command_line.command != "ingest") grow_heap_in_huge_pages();
  if (command_line.command == "ingest") return run_ingest(command_line.options, command_line.append);
  if (command_line.command == "train") return run_train(command_line.options, command_line.train, environment);
  if (command_line.command == "run") return run_run(command_line.options, environment);
  if (command_line.command == "tune") return run_tune(command_line.options, command_line.tune, environment);
  if (command_line.command == "evaluate") return run_evaluate(command_line.evaluate, environment);
  if (command_line.command == "recommend") return run_recommend(command_line.recommend);
  if (command_line.command == "export") return run_export(command_line.exported);
  if (command_line.command == "doctor") return run_doctor(command_line.options, command_line.names_data, environment);
  if (command_line.command == "options") {
    fmt::print("{}", to_yaml(command_line.options));
    return kExitDone;
  }
  if (command_line.command == "report") return run_report(command_line.report);
  if (command_line.command == "inspect") return run_inspect(command_line.inspect);
  fmt::print("{}", command_line.text);
  return kExitDone;
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
}  // namespace gru4rec

int main(int argc, char** argv) {
  using namespace gru4rec;
  keep_freed_memory();
  MpiEnvironment environment;
  try {
    const CommandLine command_line = parse_command_line(argc, argv, /*read_files=*/launched_rank() <= 0);
    set_up_log(command_line.options.log_level);
    return run(command_line, environment);
  } catch (const std::exception& error) {
    report(error);
    environment.abort(exit_code_of(error));
  }
}

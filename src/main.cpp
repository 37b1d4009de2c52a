// The program `gru4rec`. What needs no LibTorch is done here, a quarter of a second sooner than LibTorch is loaded; for the
// rest the process becomes gru4rec-torch (torch_main.cpp).
#include <fmt/format.h>

#include <string>

#include "commands/commands.h"
#include "commands/program.h"
#include "gru4rec/base/config.h"
#include "gru4rec/base/error.h"
#include "gru4rec/base/heap.h"

namespace gru4rec {
namespace {

// Of what is no command there is only a text to be printed.
bool needs_torch(const std::string& command) {
  return !command.empty() && command != "ingest" && command != "options" && command != "report";
}

int run(const CommandLine& command_line) {
  if (command_line.command == "ingest") return run_ingest(command_line.options, command_line.append);
  if (command_line.command == "report") return run_report(command_line.report);
  fmt::print("{}", command_line.command == "options" ? to_yaml(command_line.options) : command_line.text);
  return kExitDone;
}

}  // namespace
}  // namespace gru4rec

int main(int argc, char** argv) {
  using namespace gru4rec;
  MpiEnvironment environment;
  return guard(environment, [&] {
    if (needs_torch(parse_command_line(argc, argv, /*read_files=*/false).command)) become("gru4rec-torch", argv);
    keep_freed_memory();
    return run(begin(argc, argv));
  });
}

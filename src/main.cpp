// The program `gru4rec`. What needs no LibTorch is done here, a quarter of a second sooner than LibTorch is loaded; for the
// rest the process becomes gru4rec-torch (torch_main.cpp).
#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <string>
#include <string_view>

#include "commands/commands.h"
#include "commands/program.h"
#include "gru4rec/base/config.h"
#include "gru4rec/base/error.h"
#include "gru4rec/base/heap.h"

namespace gru4rec {
namespace {

// The help of a command is printed here, too.
bool needs_torch(int argc, const char* const* argv) {
  static const std::set<std::string_view> commands = {"train",     "run",    "tune",   "evaluate",
                                                      "recommend", "export", "doctor", "inspect"};
  const auto asks_for_help = [](std::string_view word) { return word == "--help" || word == "-h"; };
  return argc > 1 && commands.contains(argv[1]) && std::none_of(argv + 2, argv + argc, asks_for_help);
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
    if (needs_torch(argc, argv)) become("gru4rec-torch", argv);
    keep_freed_memory();
    return run(begin(argc, argv));
  });
}

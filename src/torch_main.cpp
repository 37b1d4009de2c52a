// The program `gru4rec-torch`: the commands that need LibTorch. Users start `gru4rec`, which becomes this one.
#include <fmt/format.h>
#include <sys/prctl.h>

#include "commands/commands.h"
#include "commands/program.h"
#include "gru4rec/base/error.h"
#include "gru4rec/base/heap.h"

namespace gru4rec {
namespace {

int run(const CommandLine& command_line, MpiEnvironment& environment) {
  const std::string& command = command_line.command;
  if (command == "train") return run_train(command_line.options, command_line.train, environment);
  if (command == "run") return run_run(command_line.options, environment);
  if (command == "tune") return run_tune(command_line.options, command_line.tune, environment);
  if (command == "evaluate") return run_evaluate(command_line.evaluate, environment);
  if (command == "recommend") return run_recommend(command_line.recommend);
  if (command == "export") return run_export(command_line.exported);
  if (command == "doctor") return run_doctor(command_line.options, command_line.names_data, environment);
  if (command == "inspect") return run_inspect(command_line.inspect);
  if (command.empty()) {
    fmt::print("{}", command_line.text);
    return kExitDone;
  }
  throw UserError("gru4rec-torch is what gru4rec becomes for some of its commands. Start gru4rec.");
}

}  // namespace
}  // namespace gru4rec

int main(int argc, char** argv) {
  using namespace gru4rec;
  prctl(PR_SET_NAME, "gru4rec");  // as ps and top show it
  keep_freed_memory();
  grow_heap_in_huge_pages();
  MpiEnvironment environment;
  return guard(environment, [&] { return run(begin(argc, argv), environment); });
}

// Writes the example checkpoint: write_example_checkpoint FILE SEED. For tests that watch a real process.
#include <cstdio>
#include <cstdlib>

#include "gru4rec/base/error.h"
#include "support/checkpoint_example.h"

int main(int argc, char** argv) {
  using namespace gru4rec;
  try {
    if (argc != 3) throw UserError("usage: write_example_checkpoint FILE SEED");
    testing::CheckpointExample(std::strtoull(argv[2], nullptr, 10)).save(argv[1]);
    return kExitDone;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return exit_code_of(error);
  }
}

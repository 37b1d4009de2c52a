// Writes the example store into a folder: write_example_store FOLDER SESSIONS SHARDS. For tests that watch or limit a real
// process.
#include <cstdio>
#include <cstdlib>

#include "gru4rec/base/error.h"
#include "gru4rec/base/hash.h"
#include "support/store_example.h"

int main(int argc, char** argv) {
  using namespace gru4rec;
  try {
    if (argc != 4) throw UserError("usage: write_example_store FOLDER SESSIONS SHARDS");
    const auto sessions = testing::example_sessions(std::strtoull(argv[2], nullptr, 10), 97);
    const StoreInfo info = testing::write_example(argv[1], sessions, std::atoll(argv[3]), 97);
    std::printf("%s\n", hex_text(info.data_digest).c_str());
    return kExitDone;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return exit_code_of(error);
  }
}

#include "folders.h"

namespace gru4rec::testing {

std::filesystem::path source_folder() { return GRU4REC_SOURCE_DIR; }
std::filesystem::path build_folder() { return GRU4REC_BINARY_DIR; }

}  // namespace gru4rec::testing

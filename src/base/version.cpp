#include "gru4rec/base/version.h"

namespace gru4rec {

const char* const kVersion = GRU4REC_VERSION;

}  // namespace gru4rec

// The version of this program, as CMakeLists.txt has it.
#pragma once

namespace gru4rec {

extern const char* const kVersion;  // "0.1.0"

}  // namespace gru4rec

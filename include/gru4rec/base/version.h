// Versions: of this program, as CMakeLists.txt has it, and of the HDF5 it runs with.
#pragma once

#include <string>

namespace gru4rec {

extern const char* const kVersion;  // "0.1.0"
std::string hdf5_version();         // "1.10.8"; Local

}  // namespace gru4rec

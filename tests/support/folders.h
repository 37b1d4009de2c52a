// Where this checkout and this build are. Only folders.cpp is compiled with these paths, so that a compiler cache knows the tests
// of another checkout.
#pragma once

#include <filesystem>

namespace gru4rec::testing {

std::filesystem::path source_folder();
std::filesystem::path build_folder();

}  // namespace gru4rec::testing

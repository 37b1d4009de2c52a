// Lists of texts in HDF5 files of ours: their bytes one after the other, and where each begins. Local.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "gru4rec/base/hdf5.h"

namespace gru4rec {

// A list of texts as flat bytes and rising offsets [n + 1].
struct FlatTexts {
  std::string bytes;
  std::vector<uint64_t> offsets = {0};
  void add(std::string_view text);
};

// As a uint8 array and a uint64 array.
void write_texts(Hdf5File& file, const std::string& bytes_name, const std::string& offsets_name, const FlatTexts& texts);

// Throws UserError if the offsets do not divide the bytes.
std::vector<std::string> read_texts(const Hdf5File& file, const std::string& bytes_name, const std::string& offsets_name);

}  // namespace gru4rec

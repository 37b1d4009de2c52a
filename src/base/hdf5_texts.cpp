#include "gru4rec/base/hdf5_texts.h"

namespace gru4rec {

void FlatTexts::add(std::string_view text) {
  bytes += text;
  offsets.push_back(bytes.size());
}

void write_texts(Hdf5File& file, const std::string& bytes_name, const std::string& offsets_name, const FlatTexts& texts) {
  file.write_text(bytes_name, texts.bytes);
  file.write(offsets_name, texts.offsets);
}

std::vector<std::string> read_texts(const Hdf5File& file, const std::string& bytes_name, const std::string& offsets_name) {
  const std::string bytes = file.read_text(bytes_name);
  const auto offsets = file.read<uint64_t>(offsets_name);
  if (offsets.empty() || offsets.front() != 0 || offsets.back() != bytes.size()) {
    throw UserError("{} of {} has to start at 0 and end at {}, the length of {}. Write the file again.", offsets_name,
                    file.path().string(), bytes.size(), bytes_name);
  }
  std::vector<std::string> texts;
  texts.reserve(offsets.size() - 1);
  for (size_t i = 0; i + 1 < offsets.size(); ++i) {
    if (offsets[i + 1] < offsets[i] || offsets[i + 1] > bytes.size()) {
      throw UserError("{} of {} falls or leaves {} at index {}. Write the file again.", offsets_name, file.path().string(),
                      bytes_name, i + 1);
    }
    texts.push_back(bytes.substr(offsets[i], offsets[i + 1] - offsets[i]));
  }
  return texts;
}

}  // namespace gru4rec

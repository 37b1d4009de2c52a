// Small things about text. Local.
#pragma once

#include <algorithm>
#include <string>

namespace gru4rec {

// ASCII letters in lower case, all else as it is.
inline std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  return text;
}

}  // namespace gru4rec

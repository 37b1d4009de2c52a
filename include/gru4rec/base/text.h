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

// Without blanks, tabs and ends of lines around it.
inline std::string trimmed(const std::string& text) {
  const size_t first = text.find_first_not_of(" \t\r\n");
  return first == std::string::npos ? std::string() : text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1);
}

}  // namespace gru4rec

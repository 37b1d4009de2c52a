// Small text helpers of this folder. (fmt::join of fmt 9 makes g++ 12 warn of an overflow that is not there.)
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace gru4rec {

inline std::string join(const std::vector<std::string>& parts, std::string_view between) {
  std::string text;
  for (const std::string& part : parts) text.append(text.empty() ? "" : between).append(part);
  return text;
}

inline std::vector<std::string> numbers(const std::vector<int>& values) {
  std::vector<std::string> texts;
  for (const int value : values) texts.push_back(std::to_string(value));
  return texts;
}

}  // namespace gru4rec

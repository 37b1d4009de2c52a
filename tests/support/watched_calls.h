// What a real process did to the files of a folder, as strace saw it.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

namespace gru4rec::testing {

// As strace -y prints it: pwrite64(7</path>, …) or rename("/from", "/to").
struct WatchedCall {
  std::string name;
  std::filesystem::path file;  // of the descriptor, or the first path
  std::filesystem::path to;    // of a rename
};

inline WatchedCall parse_watched_call(const std::string& line) {
  const size_t open = line.find('('), name = line.rfind(' ', open) + 1;
  WatchedCall call{line.substr(name, open - name), {}, {}};
  const bool by_path = call.name == "rename" || call.name == "unlink";
  const auto between = [&line](char from, char to, size_t start) {
    const size_t first = line.find(from, start) + 1;
    return line.substr(first, line.find(to, first) - first);
  };
  call.file = by_path ? between('"', '"', open) : between('<', '>', open);
  if (call.name == "rename") call.to = between('"', '"', line.find("\", ") + 1);
  return call;
}

// Runs a command under strace; its calls that change files in `folder`, in order. Empty if it failed or could not be watched.
inline std::vector<WatchedCall> watched_calls(const std::string& command, const std::filesystem::path& folder,
                                              const std::filesystem::path& trace) {
  const std::string watched = fmt::format(
      "ASAN_OPTIONS=detect_leaks=0 strace -f -y -e trace=pwrite64,write,ftruncate,fsync,fdatasync,rename,unlink -e signal=none "
      "-o {} {} >/dev/null 2>&1",
      trace.string(), command);
  std::vector<WatchedCall> calls;
  if (std::system(watched.c_str()) != 0) return calls;
  std::ifstream in(trace);
  for (std::string line; std::getline(in, line);) {
    if (line.find(folder.string()) != std::string::npos) calls.push_back(parse_watched_call(line));
  }
  return calls;
}

}  // namespace gru4rec::testing

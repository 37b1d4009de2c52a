// A sealed HDF5 file: its first 512 bytes (the HDF5 user block) hold magic, version, kind, file size, the extents of its large
// arrays and xxh3 of everything outside them. The seal is checked with plain reads *before* the HDF5 library sees
// the file, because its parser is not safe on damaged metadata (1.10.8). Layout: docs/formats.md.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace gru4rec {

enum class FileKind : uint32_t { manifest = 1, shard = 2, checkpoint = 3 };

constexpr uint64_t kUserBlockBytes = 512;

struct Extent {
  uint64_t offset;  // bytes from the start of the file
  uint64_t bytes;
};

struct Seal {
  FileKind kind;
  uint64_t file_bytes;
  uint64_t digest;               // xxh3 of the file without its user block and without the extents
  std::vector<Extent> extents;   // rising, disjoint; at most 16
};

// Writes the seal of a complete HDF5 file that has a 512-byte user block. Does not fsync. Local.
void seal_file(const std::filesystem::path& path, FileKind kind, const std::vector<Extent>& arrays);

// Reads and verifies a seal. Throws UserError (what is wrong with which file and what to do) or SurroundingsError (I/O). Local.
Seal check_seal(const std::filesystem::path& path, FileKind kind);

}  // namespace gru4rec

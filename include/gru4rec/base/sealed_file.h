// A sealed HDF5 file: its first 512 bytes (the HDF5 user block) hold magic, version, kind, file size, the extents of its large
// arrays and xxh3 of everything outside them. The seal is checked with plain reads *before* the HDF5 library sees
// the file, because its parser is not safe on damaged metadata (1.10.8). The bytes inside the extents are the reader's to
// check, by block, when it reads them. Layout: docs/formats.md.
//
// A seal finds damage: bad disks, cut copies, files that are no store. It is no signature; who wants to forge a file can.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace gru4rec {

enum class FileKind : uint32_t { manifest = 1, shard = 2, checkpoint = 3 };

// "store manifest", "store shard", "checkpoint".
std::string kind_name(FileKind kind);

constexpr uint64_t kUserBlockBytes = 512;
constexpr size_t kMaxExtents = 16;

struct Extent {
  uint64_t offset = 0;  // bytes from the start of the file
  uint64_t bytes = 0;
  friend bool operator==(const Extent&, const Extent&) = default;
};

struct Seal {
  FileKind kind = FileKind::manifest;
  uint64_t file_bytes = 0;
  uint64_t digest = 0;          // xxh3 of the file without its user block and without the extents
  std::vector<Extent> extents;  // rising, disjoint; at most kMaxExtents
};

// Writes the seal of a complete HDF5 file that has a 512-byte user block and returns it. Empty extents are left out, the others
// may come in any order. Does not fsync. Local.
Seal seal_file(const std::filesystem::path& path, FileKind kind, const std::vector<Extent>& arrays);

// Reads and verifies a seal. Throws UserError (what is wrong with which file and what to do) or SurroundingsError (I/O). Local.
Seal check_seal(const std::filesystem::path& path, FileKind kind);
// The same for whatever kind the file says it is.
Seal check_seal(const std::filesystem::path& path);

}  // namespace gru4rec

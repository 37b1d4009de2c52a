#include "gru4rec/base/sealed_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <optional>

#include "gru4rec/base/atomic_file.h"
#include "gru4rec/base/error.h"
#include "gru4rec/base/hash.h"

namespace gru4rec {

namespace fs = std::filesystem;

namespace {

constexpr std::array<char, 8> kMagic = {'G', 'R', 'U', '4', 'S', 'E', 'A', 'L'};
constexpr std::array<unsigned char, 8> kHdf5Signature = {0x89, 'H', 'D', 'F', '\r', '\n', 0x1a, '\n'};
constexpr uint32_t kVersion = 1;

// The user block, byte for byte (docs/formats.md).
struct UserBlock {
  std::array<char, 8> magic;
  uint32_t version;
  uint32_t kind;
  uint64_t file_bytes;
  uint64_t digest;
  uint32_t extent_count;
  uint32_t reserved_a;
  std::array<Extent, kMaxExtents> extents;
  std::array<char, 208> reserved_b;
  uint64_t checksum;  // xxh3 of all before it
};
static_assert(sizeof(UserBlock) == kUserBlockBytes);

uint64_t checksum_of(const UserBlock& block) { return hash_bytes(&block, offsetof(UserBlock, checksum)); }

class File {
 public:
  File(const fs::path& path, int flags) : path_(path), fd_(::open(path.c_str(), flags | O_CLOEXEC | O_NONBLOCK)) {
    if (fd_ < 0 && (errno == ENOENT || errno == ENOTDIR)) {
      throw UserError("there is no file {}. Check the path.", path.string());
    }
    if (fd_ < 0) throw_io_error("open", path, errno);
    struct stat status {};
    ::fstat(fd_, &status);
    if (!S_ISREG(status.st_mode)) {
      ::close(fd_);
      throw UserError("{} is not a file. Check the path.", path.string());
    }
    bytes_ = static_cast<uint64_t>(status.st_size);
  }
  ~File() { ::close(fd_); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  void read(void* data, size_t bytes, uint64_t offset) const { read_at(fd_, data, bytes, offset, path_); }
  void write(const void* data, size_t bytes, uint64_t offset) const { write_at(fd_, data, bytes, offset, path_); }
  bool has_hdf5_signature(uint64_t offset) const {
    std::array<unsigned char, 8> found{};
    if (bytes_ < offset + found.size()) return false;
    read(found.data(), found.size(), offset);
    return found == kHdf5Signature;
  }
  uint64_t bytes() const { return bytes_; }
  std::string name() const { return path_.string(); }

 private:
  fs::path path_;
  int fd_;
  uint64_t bytes_;
};

// xxh3 of [512, end) without the extents, which are rising and disjoint.
uint64_t digest_outside(const File& file, const std::vector<Extent>& extents) {
  Digest digest;
  std::vector<char> buffer(std::min<uint64_t>(uint64_t{1} << 20, file.bytes()));
  auto add = [&](uint64_t from, uint64_t to) {
    while (from < to) {
      const size_t bytes = std::min<uint64_t>(buffer.size(), to - from);
      file.read(buffer.data(), bytes, from);
      digest.update_bytes(buffer.data(), bytes);
      from += bytes;
    }
  };
  uint64_t at = kUserBlockBytes;
  for (const Extent& extent : extents) {
    add(at, extent.offset);
    at = extent.offset + extent.bytes;
  }
  add(at, file.bytes());
  return digest.value();
}

// What is wrong with a list of extents, or nothing. Written so that no sum can overflow.
std::optional<std::string> extents_fault(const std::vector<Extent>& extents, uint64_t file_bytes) {
  uint64_t at = kUserBlockBytes;
  for (const Extent& extent : extents) {
    if (extent.bytes == 0) return "an empty array extent";
    if (extent.offset < at) return "array extents that overlap";
    if (extent.offset > file_bytes || extent.bytes > file_bytes - extent.offset)
      return "an array extent beyond the end of the file";
    at = extent.offset + extent.bytes;
  }
  return std::nullopt;
}

// A file that HDF5 could read but nobody has sealed, or no file of ours at all.
[[noreturn]] void refuse_unsealed(const File& file) {
  if (file.has_hdf5_signature(kUserBlockBytes) || file.has_hdf5_signature(0)) {
    throw UserError(
        "{} has no seal: it was not completely written by gru4rec, or by another program. If you wrote it yourself, "
        "seal it with: gru4rec inspect --seal {}",
        file.name(), file.name());
  }
  throw UserError("{} is not a file of gru4rec: it starts neither with a seal nor with an HDF5 signature. Check the path.",
                  file.name());
}

UserBlock read_user_block(const File& file) {
  UserBlock block{};
  if (file.bytes() >= kUserBlockBytes) file.read(&block, sizeof block, 0);
  if (block.magic != kMagic) refuse_unsealed(file);
  if (checksum_of(block) != block.checksum) {
    throw UserError("{} is damaged: the checksum of its first 512 bytes is {}, they say {}. Copy or write it again.",
                    file.name(), hex_text(checksum_of(block)), hex_text(block.checksum));
  }
  if (block.version != kVersion) {
    throw UserError(
        "{} has format version {}, this program reads version {}. Use the program that wrote it, or write it again.",
        file.name(), block.version, kVersion);
  }
  return block;
}

}  // namespace

std::string kind_name(FileKind kind) {
  switch (kind) {
    case FileKind::manifest:
      return "store manifest";
    case FileKind::shard:
      return "store shard";
    case FileKind::checkpoint:
      return "checkpoint";
  }
  return fmt::format("file of unknown kind {}", static_cast<uint32_t>(kind));
}

Seal seal_file(const fs::path& path, FileKind kind, const std::vector<Extent>& arrays) {
  const File file(path, O_RDWR);
  if (!file.has_hdf5_signature(kUserBlockBytes)) refuse_unsealed(file);
  Seal seal{kind, file.bytes(), 0, {}};
  std::copy_if(arrays.begin(), arrays.end(), std::back_inserter(seal.extents), [](const Extent& e) { return e.bytes > 0; });
  std::sort(seal.extents.begin(), seal.extents.end(), [](const Extent& a, const Extent& b) { return a.offset < b.offset; });
  if (seal.extents.size() > kMaxExtents) {
    throw BugError("{} has {} arrays to leave out of its seal, at most {} fit", path.string(), seal.extents.size(),
                   kMaxExtents);
  }
  if (const auto fault = extents_fault(seal.extents, seal.file_bytes)) throw BugError("sealing {}: {}", path.string(), *fault);
  seal.digest = digest_outside(file, seal.extents);

  UserBlock block{};
  block.magic = kMagic;
  block.version = kVersion;
  block.kind = static_cast<uint32_t>(kind);
  block.file_bytes = seal.file_bytes;
  block.digest = seal.digest;
  block.extent_count = static_cast<uint32_t>(seal.extents.size());
  std::copy(seal.extents.begin(), seal.extents.end(), block.extents.begin());
  block.checksum = checksum_of(block);
  file.write(&block, sizeof block, 0);
  return seal;
}

Seal check_seal(const fs::path& path) {
  const File file(path, O_RDONLY);
  const UserBlock block = read_user_block(file);
  Seal seal{static_cast<FileKind>(block.kind), block.file_bytes, block.digest, {}};
  if (file.bytes() != seal.file_bytes) {
    throw UserError("{} has {} bytes, its seal says {}. It was cut off or added to: copy or write it again.", path.string(),
                    file.bytes(), seal.file_bytes);
  }
  const UserBlock nothing{};
  if (block.reserved_a != nothing.reserved_a || block.reserved_b != nothing.reserved_b) {
    throw UserError("{} has a seal with fields this program does not know. Use the program that wrote it, or write it again.",
                    path.string());
  }
  if (block.extent_count > kMaxExtents) {
    throw UserError("{} is damaged: its seal lists {} arrays, at most {} fit. Copy or write it again.", path.string(),
                    block.extent_count, kMaxExtents);
  }
  seal.extents.assign(block.extents.begin(), block.extents.begin() + block.extent_count);
  const bool more = std::any_of(block.extents.begin() + block.extent_count, block.extents.end(),
                                [](const Extent& unused) { return unused != Extent{}; });
  if (more) throw UserError("{} is damaged: its seal lists more arrays than it counts. Copy or write it again.", path.string());
  if (const auto fault = extents_fault(seal.extents, seal.file_bytes)) {
    throw UserError("{} is damaged: its seal lists {}. Copy or write it again.", path.string(), *fault);
  }
  const uint64_t digest = digest_outside(file, seal.extents);
  if (digest != seal.digest) {
    throw UserError("{} is damaged: its content has digest {}, its seal says {}. Copy or write it again.", path.string(),
                    hex_text(digest), hex_text(seal.digest));
  }
  return seal;
}

Seal check_seal(const fs::path& path, FileKind kind) {
  Seal seal = check_seal(path);
  if (seal.kind != kind) {
    throw UserError("{} is a {}, not a {}. Check the path.", path.string(), kind_name(seal.kind), kind_name(kind));
  }
  return seal;
}

}  // namespace gru4rec

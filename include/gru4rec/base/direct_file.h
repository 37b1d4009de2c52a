// Large blocks written past the page cache (O_DIRECT), the next one made ready while the disk has the last. Copying a gigabyte
// into pages of the kernel takes a processor seconds, which training beside it or after it lacks; handing it to the disk takes
// a tenth of that, and what the run reads stays cached.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>

namespace gru4rec {

// Beside a descriptor that has the file open for writing. What does not fill whole blocks at either end goes through that one,
// and so does all of a write of less than a mebibyte, for which the cache costs little, and the rest where the system refuses a
// direct write, for whatever reason: an ordinary one has the same, or is fine.
// The bytes of the file are the same either way, and are read as usual. Not durable before an fsync. Local; one thread.
class DirectFile {
 public:
  // Puts the bytes that come next into all of `out`.
  using Next = std::function<void(std::span<char> out)>;

  // `path` names the file of `fd`, which stays the caller's.
  DirectFile(std::filesystem::path path, int fd);
  ~DirectFile();
  DirectFile(const DirectFile&) = delete;
  DirectFile& operator=(const DirectFile&) = delete;

  // All of `bytes`, at `offset`; returns when they are written. Throws SurroundingsError that names the path.
  void write(const void* data, uint64_t bytes, uint64_t offset);
  // The same of bytes that `next` is asked for by and by, in order; throws what it throws.
  void write(uint64_t bytes, uint64_t offset, const Next& next);

 private:
  char* buffer(size_t which);
  // Bytes [from, to) of a buffer, the first of which is byte `begin` of the file, where a block begins.
  void write_buffer(const char* buffer, size_t from, size_t to, uint64_t begin);
  // Whole blocks out of memory that is laid out as they are. Returns how much the system took; 0: write the rest as usual.
  size_t write_blocks(const char* blocks, size_t bytes, uint64_t offset);

  struct Free {
    void operator()(char* memory) const { std::free(memory); }
  };
  const std::filesystem::path path_;
  const int cached_;
  bool opened_ = false;                     // or tried to be,
  int direct_ = -1;                         // -1: none
  std::unique_ptr<char, Free> buffers_[2];  // one is filled while the other is written
};

}  // namespace gru4rec

#include "gru4rec/base/direct_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <future>
#include <new>
#include <utility>

#include "gru4rec/base/atomic_file.h"

namespace gru4rec {

namespace {

// Disks have blocks of 512 or 4,096 bytes; addresses in memory, offsets and lengths have to be multiples of it.
constexpr size_t kBlock = 4096;
constexpr size_t kBufferBytes = size_t{4} << 20;

}  // namespace

DirectFile::DirectFile(std::filesystem::path path, int fd)
    : path_(std::move(path)), cached_(fd), direct_(::open(path_.c_str(), O_WRONLY | O_DIRECT | O_CLOEXEC)) {}

DirectFile::~DirectFile() {
  if (direct_ >= 0) ::close(direct_);
}

void DirectFile::write(const void* data, size_t bytes, uint64_t offset) {
  const std::span<const char> piece(static_cast<const char*>(data), bytes);
  write(std::span(&piece, 1), offset);
}

void DirectFile::write(std::span<const std::span<const char>> pieces, uint64_t offset) {
  if (direct_ < 0) return write_at(cached_, pieces, offset, path_);
  size_t filled = 0;                          // which of the buffers
  uint64_t begin = offset / kBlock * kBlock;  // of it in the file
  size_t from = offset - begin, to = from;    // what of it is filled
  std::future<void> writing;                  // the other one; ends before this function does
  for (std::span<const char> piece : pieces)
    while (!piece.empty()) {
      const size_t part = std::min(kBufferBytes - to, piece.size());
      std::memcpy(buffer(filled) + to, piece.data(), part);
      to += part;
      piece = piece.subspan(part);
      if (to < kBufferBytes) continue;
      if (writing.valid()) writing.get();
      writing = std::async([=, this, full = buffer(filled)] { write_buffer(full, from, to, begin); });
      filled = 1 - filled;
      begin += kBufferBytes;
      from = to = 0;
    }
  if (writing.valid()) writing.get();
  if (from < to) write_buffer(buffer(filled), from, to, begin);
}

char* DirectFile::buffer(size_t which) {
  auto& buffer = buffers_[which];
  if (!buffer) buffer.reset(static_cast<char*>(std::aligned_alloc(kBlock, kBufferBytes)));
  if (!buffer) throw std::bad_alloc();
  return buffer.get();
}

void DirectFile::write_buffer(const char* buffer, size_t from, size_t to, uint64_t begin) {
  const size_t first_block = (from + kBlock - 1) / kBlock * kBlock, last_block = to / kBlock * kBlock;
  if (direct_ >= 0 && first_block < last_block) {
    write_at(cached_, buffer + from, first_block - from, begin + from, path_);
    from = first_block + write_blocks(buffer + first_block, last_block - first_block, begin + first_block);
  }
  write_at(cached_, buffer + from, to - from, begin + from, path_);
}

size_t DirectFile::write_blocks(const char* blocks, size_t bytes, uint64_t offset) {
  ssize_t done;
  do done = ::pwrite(direct_, blocks, bytes, static_cast<off_t>(offset));
  while (done < 0 && errno == EINTR);
  if (done < 0) ::close(std::exchange(direct_, -1));
  return done < 0 ? 0 : static_cast<size_t>(done) / kBlock * kBlock;
}

}  // namespace gru4rec

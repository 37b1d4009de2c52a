#include "gru4rec/base/direct_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
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
  if (direct_ < 0) {
    for (const std::span<const char> piece : pieces) {
      write_at(cached_, piece.data(), piece.size(), offset, path_);
      offset += piece.size();
    }
    return;
  }
  if (!buffer_) buffer_.reset(static_cast<char*>(std::aligned_alloc(kBlock, kBufferBytes)));
  if (!buffer_) throw std::bad_alloc();
  uint64_t begin = offset / kBlock * kBlock;  // of the buffer in the file
  size_t from = offset - begin, to = from;    // what of it is filled
  for (std::span<const char> piece : pieces)
    while (!piece.empty()) {
      const size_t part = std::min(kBufferBytes - to, piece.size());
      std::memcpy(buffer_.get() + to, piece.data(), part);
      to += part;
      piece = piece.subspan(part);
      if (to < kBufferBytes) continue;
      write_buffer(from, to, begin);
      begin += kBufferBytes;
      from = to = 0;
    }
  write_buffer(from, to, begin);
}

void DirectFile::write_buffer(size_t from, size_t to, uint64_t begin) {
  const size_t first_block = (from + kBlock - 1) / kBlock * kBlock, last_block = to / kBlock * kBlock;
  if (direct_ >= 0 && first_block < last_block) {
    write_at(cached_, buffer_.get() + from, first_block - from, begin + from, path_);
    from = first_block + write_blocks(buffer_.get() + first_block, last_block - first_block, begin + first_block);
  }
  write_at(cached_, buffer_.get() + from, to - from, begin + from, path_);
}

size_t DirectFile::write_blocks(const char* blocks, size_t bytes, uint64_t offset) {
  ssize_t done;
  do done = ::pwrite(direct_, blocks, bytes, static_cast<off_t>(offset));
  while (done < 0 && errno == EINTR);
  if (done < 0) ::close(std::exchange(direct_, -1));
  return done < 0 ? 0 : static_cast<size_t>(done) / kBlock * kBlock;
}

}  // namespace gru4rec

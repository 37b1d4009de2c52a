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
  const char* from = static_cast<const char*>(data);
  const uint64_t end = offset + bytes;
  const uint64_t first_block = (offset + kBlock - 1) / kBlock * kBlock;
  const uint64_t last_block = end / kBlock * kBlock;
  uint64_t at = offset;
  if (direct_ >= 0 && first_block < last_block) {
    write_at(cached_, from, first_block - offset, offset, path_);
    if (!buffer_) buffer_.reset(static_cast<char*>(std::aligned_alloc(kBlock, kBufferBytes)));
    if (!buffer_) throw std::bad_alloc();
    for (at = first_block; at < last_block;) {
      const size_t part = std::min<uint64_t>(kBufferBytes, last_block - at);
      std::memcpy(buffer_.get(), from + (at - offset), part);
      const size_t done = write_blocks(buffer_.get(), part, at);
      if (done == 0) break;
      at += done;
    }
  }
  write_at(cached_, from + (at - offset), end - at, at, path_);
}

size_t DirectFile::write_blocks(const char* blocks, size_t bytes, uint64_t offset) {
  ssize_t done;
  do done = ::pwrite(direct_, blocks, bytes, static_cast<off_t>(offset));
  while (done < 0 && errno == EINTR);
  if (done < 0) ::close(std::exchange(direct_, -1));
  return done < 0 ? 0 : static_cast<size_t>(done) / kBlock * kBlock;
}

}  // namespace gru4rec

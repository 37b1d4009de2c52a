#include "gru4rec/base/direct_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <future>
#include <new>
#include <thread>
#include <utility>

#include "gru4rec/base/atomic_file.h"

namespace gru4rec {

namespace {

// Disks have blocks of 512 or 4,096 bytes; addresses in memory, offsets and lengths have to be multiples of it.
constexpr size_t kBlock = 4096;
constexpr size_t kBufferBytes = size_t{4} << 20;
constexpr size_t kLarge = size_t{1} << 20;  // for a write to pass the cache
static_assert(kLarge <= kBufferBytes);

}  // namespace

DirectFile::DirectFile(std::filesystem::path path, int fd) : path_(std::move(path)), cached_(fd) {}

DirectFile::~DirectFile() {
  if (direct_ >= 0) ::close(direct_);
}

void DirectFile::write(const void* data, uint64_t bytes, uint64_t offset) {
  if (bytes < kLarge) return write_at(cached_, data, bytes, offset, path_);
  const char* behind = static_cast<const char*>(data);
  write(bytes, offset, [&](std::span<char> out) {
    std::memcpy(out.data(), behind, out.size());
    behind += out.size();
  });
}

void DirectFile::write(uint64_t bytes, uint64_t offset, const Next& next) {
  if (bytes < kLarge) {
    next({buffer(0), bytes});
    return write_at(cached_, buffer(0), bytes, offset, path_);
  }
  if (!opened_) direct_ = ::open(path_.c_str(), O_WRONLY | O_DIRECT | O_CLOEXEC);
  opened_ = true;
  size_t filled = 0;                          // which of the buffers
  uint64_t begin = offset / kBlock * kBlock;  // of it in the file
  size_t from = offset - begin;               // where in it the bytes begin
  std::future<void> writing;                  // the other one; ends before this function does
  while (bytes > 0) {
    const size_t part = std::min(kBufferBytes - from, bytes), to = from + part;
    next({buffer(filled) + from, part});
    if (writing.valid()) writing.get();
    bytes -= part;
    if (bytes == 0) return write_buffer(buffer(filled), from, to, begin);
    writing = std::async([=, this, full = buffer(filled)] { write_buffer(full, from, to, begin); });
    std::this_thread::yield();  // on one core it would begin only when the next buffer is full
    filled = 1 - filled;
    begin += kBufferBytes;
    from = 0;
  }
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

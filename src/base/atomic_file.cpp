#include "gru4rec/base/atomic_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <string>
#include <utility>

#include "gru4rec/base/error.h"

namespace gru4rec {

namespace fs = std::filesystem;

namespace {

std::string_view remedy(int error_number) {
  switch (error_number) {
    case ENOSPC:
    case EDQUOT:
      return "Free some space there, or choose another folder.";
    case EACCES:
    case EPERM:
    case EROFS:
      return "Check the permissions of the file and its folder, or choose another folder.";
    case ENOENT:
    case ENOTDIR:
      return "Check the path.";
    case EMFILE:
    case ENFILE:
      return "Raise the limit of open files (ulimit -n).";
    case EFBIG:
      return "Raise the limit of file sizes (ulimit -f), or use more shards.";
    default:
      return "Check the disk or the network file system it is on.";
  }
}

fs::path folder_of(const fs::path& path) { return path.has_parent_path() ? path.parent_path() : fs::path("."); }

std::atomic<uint64_t> g_next_temporary{0};

// Opens a new file that we hold the lock of. A cleaner may have removed it between the two steps, so the name is looked at
// again.
int create_locked(const fs::path& path) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (fd < 0) return -1;
  ::flock(fd, LOCK_EX | LOCK_NB);  // a file system without locks: nothing is ever cleaned up there
  struct stat status {};
  if (::fstat(fd, &status) == 0 && status.st_nlink > 0) return fd;
  ::close(fd);
  errno = EEXIST;
  return -1;
}

bool is_temporary(const std::string& name) { return name.starts_with('.') && name.find(".tmp-") != std::string::npos; }

}  // namespace

void throw_io_error(std::string_view action, const fs::path& path, int error_number) {
  throw SurroundingsError("cannot {} {}: {}. {}", action, path.string(), errno_text(error_number), remedy(error_number));
}

AtomicFile::AtomicFile(fs::path final_path) : final_(std::move(final_path)) {
  remove_stale_temporaries(folder_of(final_));
  do {
    const std::string name = fmt::format(".{}.tmp-{}-{}", final_.filename().string(), ::getpid(), g_next_temporary++);
    temporary_ = folder_of(final_) / name;
    fd_ = create_locked(temporary_);
  } while (fd_ < 0 && errno == EEXIST);
  if (fd_ < 0) throw_io_error("create", final_, errno);
}

AtomicFile::AtomicFile(AtomicFile&& other) noexcept
    : final_(std::move(other.final_)),
      temporary_(std::move(other.temporary_)),
      fd_(std::exchange(other.fd_, -1)),
      synced_(other.synced_),
      committed_(other.committed_) {}

AtomicFile::~AtomicFile() {
  if (fd_ < 0) return;
  if (!committed_) ::unlink(temporary_.c_str());
  ::close(fd_);
}

void AtomicFile::write(const void* data, size_t bytes) {
  synced_ = false;
  const char* next = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t done = ::write(fd_, next, bytes);
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) throw_io_error("write", temporary_, errno);
    next += done;
    bytes -= static_cast<size_t>(done);
  }
}

void AtomicFile::sync() {
  if (::fsync(fd_) != 0) throw_io_error("make durable (fsync)", temporary_, errno);
  synced_ = true;
}

void AtomicFile::commit() { commit_as(final_); }

void AtomicFile::commit_as(const fs::path& final_path) {
  if (committed_) throw BugError("{} was committed twice", final_path.string());
  if (!synced_) sync();
  if (std::rename(temporary_.c_str(), final_path.c_str()) != 0) throw_io_error("rename a temporary file to", final_path, errno);
  committed_ = true;
  sync_folder(folder_of(final_path));
}

void write_file_atomically(const fs::path& path, std::string_view content) {
  AtomicFile out(path);
  out.write(content.data(), content.size());
  out.commit();
}

void remove_stale_temporaries(const fs::path& folder) {
  std::error_code ignored;  // cleaning up is a courtesy; a folder that cannot be read is reported by whoever needs it
  for (fs::directory_iterator entry(folder, ignored), end; !ignored && entry != end; entry.increment(ignored)) {
    if (!is_temporary(entry->path().filename().string())) continue;
    const int fd = ::open(entry->path().c_str(), O_RDWR | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) continue;
    if (::flock(fd, LOCK_EX | LOCK_NB) == 0) ::unlink(entry->path().c_str());
    ::close(fd);
  }
}

void sync_folder(const fs::path& folder) {
  const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) throw_io_error("open", folder, errno);
  const int failed = ::fsync(fd) == 0 ? 0 : errno;
  ::close(fd);
  if (failed != 0 && failed != EINVAL) throw_io_error("make durable (fsync)", folder, failed);  // EINVAL: nothing to sync there
}

void write_at(int fd, const void* data, size_t bytes, uint64_t offset, const fs::path& path) {
  const char* next = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t done = ::pwrite(fd, next, bytes, static_cast<off_t>(offset));
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) throw_io_error("write", path, errno);
    next += done;
    offset += static_cast<uint64_t>(done);
    bytes -= static_cast<size_t>(done);
  }
}

void read_at(int fd, void* data, size_t bytes, uint64_t offset, const fs::path& path) {
  char* next = static_cast<char*>(data);
  while (bytes > 0) {
    const ssize_t done = ::pread(fd, next, bytes, static_cast<off_t>(offset));
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) throw_io_error("read", path, errno);
    if (done == 0) {
      struct stat status {};
      const uint64_t end = ::fstat(fd, &status) == 0 ? std::min<uint64_t>(status.st_size, offset) : offset;
      throw UserError("{} ends at byte {}, {} bytes short of what it has to hold. It was cut off: write or copy it again.",
                      path.string(), end, offset + bytes - end);
    }
    next += done;
    offset += static_cast<uint64_t>(done);
    bytes -= static_cast<size_t>(done);
  }
}

}  // namespace gru4rec

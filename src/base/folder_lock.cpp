#include "gru4rec/base/folder_lock.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/file.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>

#include "gru4rec/base/atomic_file.h"
#include "gru4rec/base/error.h"
#include "gru4rec/base/host_name.h"

namespace gru4rec {
namespace {

namespace fs = std::filesystem;

// "host node7, pid 4711", or what is known of a holder that has not written it yet.
std::string holder_of(int fd) {
  std::array<char, 320> text{};
  const ssize_t bytes = pread(fd, text.data(), text.size(), 0);
  return bytes > 0 ? std::string(text.data(), static_cast<size_t>(bytes)) : "host and pid not known yet";
}

}  // namespace

FolderLock::FolderLock(const fs::path& folder, const char* file, const char* what, const char* option) {
  if (const std::string holder = take(folder, file, what, option); !holder.empty())
    throw UserError(
        "the {} {} is in use by another process ({}). Wait for it, stop it (kill -USR1 there makes it save and leave), or pass "
        "another {}.",
        what, folder.string(), holder, option);
}

std::unique_ptr<FolderLock> FolderLock::attempt(const fs::path& folder, const char* file, const char* what,
                                                const char* option) {
  std::unique_ptr<FolderLock> lock(new FolderLock);
  return lock->take(folder, file, what, option).empty() ? std::move(lock) : nullptr;
}

std::string FolderLock::take(const fs::path& folder, const char* file, const char* what, const char* option) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error)
    throw SurroundingsError("cannot make the {} {}: {}. Pass a place you may write to as {}.", what, folder.string(),
                            error.message(), option);
  const fs::path path = folder / file;
  fd_ = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (fd_ < 0) throw_io_error("write", path, errno);
  if (flock(fd_, LOCK_EX | LOCK_NB) == 0) {
    const std::string me = fmt::format("host {}, pid {}", host_name(), getpid());
    // A disk that is full now is no reason to refuse: the lock holds, others only do not learn by whom.
    if (ftruncate(fd_, 0) != 0 || pwrite(fd_, me.data(), me.size(), 0) < 0) spdlog::debug("cannot write {}", path.string());
    return "";
  }
  const int why = errno;
  const std::string holder = holder_of(fd_);
  close(std::exchange(fd_, -1));
  if (why == EWOULDBLOCK) return holder;
  if (why != ENOLCK && why != EOPNOTSUPP && why != ENOSYS) throw_io_error("lock", path, why);
  spdlog::warn("cannot lock {}: {}. Nothing keeps a second run out of the {}: see to it that none is started there.",
               path.string(), errno_text(why), what);
  return "";
}

FolderLock::~FolderLock() {
  if (fd_ < 0) return;
  [[maybe_unused]] const int ignored = ftruncate(fd_, 0);  // only a courtesy: nobody reads it without a holder
  close(fd_);
}

}  // namespace gru4rec

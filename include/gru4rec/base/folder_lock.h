// A folder that one process at a time writes to: a run's, its checkpoints', a trial's, a store's.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

namespace gru4rec {

// Makes a folder and holds the lock (flock) of a hidden file in it until the object dies, or the process does: no lock is ever
// left behind. The file says who holds it, for the message to others. On a file system without locks it warns and holds
// nothing. Throws UserError if another has the lock, with its host and process; SurroundingsError. Local; one thread.
class FolderLock {
 public:
  // `what` and `option` for messages: "run folder", "run_dir".
  FolderLock(const std::filesystem::path& folder, const char* file, const char* what, const char* option);
  // The same, but null if another has the lock.
  static std::unique_ptr<FolderLock> attempt(const std::filesystem::path& folder, const char* file, const char* what,
                                             const char* option);
  ~FolderLock();
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  FolderLock() = default;
  // Who has it, if another has.
  std::string take(const std::filesystem::path& folder, const char* file, const char* what, const char* option);

  int fd_ = -1;
};

}  // namespace gru4rec

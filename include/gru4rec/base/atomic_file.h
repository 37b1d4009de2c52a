// Files of which existing means complete, and the few calls of the operating system that files of this project go through.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string_view>

namespace gru4rec {

// A new file under a temporary name in the folder of the final one. commit() makes it durable and gives it its name:
// fsync of the file, rename, fsync of the folder. Until then a file of that name stays what it was, whatever happens; after it
// the new one is there, whatever happens. The destructor removes what was not committed.
//
// The temporary name is `.NAME.tmp-PID-N`. It is held by a lock (flock) that dies with the process; temporary files whose
// lock is free are remains of a process that was killed, and the next AtomicFile in the folder removes them.
// Local; one thread. Throws SurroundingsError with path, cause and remedy.
//
//   AtomicFile out("runs/a/result.json");
//   out.write(text.data(), text.size());
//   out.commit();
class AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path final_path);
  ~AtomicFile();
  AtomicFile(AtomicFile&& other) noexcept;
  AtomicFile& operator=(AtomicFile&&) = delete;

  // The temporary path, for a writer that wants a path (HDF5). It must write into this file, not replace it.
  const std::filesystem::path& path() const { return temporary_; }
  int fd() const { return fd_; }

  // Appends at the place of the file descriptor.
  void write(const void* data, size_t bytes);

  // Makes the content durable under the temporary name: what commit() does first, for who wants to know earlier whether there
  // is room. Nothing may be written through fd() or path() after it.
  void sync();

  void commit();
  // The same under another name in the same folder, for names that depend on the content.
  void commit_as(const std::filesystem::path& final_path);

 private:
  std::filesystem::path final_;
  std::filesystem::path temporary_;
  int fd_ = -1;
  bool synced_ = false;
  bool committed_ = false;
};

// Replaces a small file in one go.
void write_file_atomically(const std::filesystem::path& path, std::string_view content);

// Removes temporary files in `folder` that belong to no living process. A folder that is not there has none.
void remove_stale_temporaries(const std::filesystem::path& folder);

// fsync of a folder: makes names that were created, renamed or removed in it durable.
void sync_folder(const std::filesystem::path& folder);

// All of `bytes`, at `offset`; retries interrupted and short calls. Throws SurroundingsError that names `path`.
void write_at(int fd, const void* data, size_t bytes, uint64_t offset, const std::filesystem::path& path);
// The same for reading; the end of the file before `bytes` is a UserError (the file is shorter than it claims to be).
void read_at(int fd, void* data, size_t bytes, uint64_t offset, const std::filesystem::path& path);

// "cannot write /a/b: No space left on device. Free some space there, or …": SurroundingsError for an errno.
[[noreturn]] void throw_io_error(std::string_view action, const std::filesystem::path& path, int error_number);

}  // namespace gru4rec

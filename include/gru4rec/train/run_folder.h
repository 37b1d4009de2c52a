// runs/NAME/: config.yaml, run.json, metrics.jsonl, tensorboard/, checkpoints/, result.json, report.html (docs/formats.md).
// Only rank 0 has one. Local; one thread.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "gru4rec/report/event_files.h"

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

class RunFolder {
 public:
  // Makes the folder and that of its checkpoints, wherever that is, and locks both until the object dies: two runs never write
  // to one of them. Throws UserError if another process holds a lock.
  RunFolder(std::filesystem::path folder, const std::filesystem::path& checkpoints);

  const std::filesystem::path& path() const { return folder_; }

  void write_config(const std::string& yaml) const;
  // run.json: what trains, on what, where.
  void write_run(const nlohmann::json& run) const;
  // A step for TensorBoard. Of many steps fewer are recorded, chosen by their number alone.
  void record_step(int64_t step, double loss, double learning_rate);
  // One line of metrics.jsonl, and the same for TensorBoard; `record` has a "step".
  void append_metrics(const nlohmann::json& record);
  // Hands on what record_step() keeps in memory, so that a checkpoint never knows more.
  void flush_steps() { events_.flush(); }
  // Removes what is of later steps (and a torn last line): what a resumed run will write again.
  void cut_metrics_after(int64_t step) const;
  // result.json, and its "test" for TensorBoard.
  void write_result(const nlohmann::json& result, int64_t step);
  // report.html, out of the other files. A failure is only warned of: nothing is lost that `gru4rec report` could not make.
  void write_report() const;

 private:
  std::filesystem::path folder_;
  EventFiles events_;
  FolderLock lock_;
  FolderLock checkpoints_lock_;  // of a name of its own, as the two folders may be one
};

}  // namespace gru4rec

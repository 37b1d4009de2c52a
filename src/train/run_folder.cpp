#include "gru4rec/train/run_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>

#include "gru4rec/base/atomic_file.h"
#include "gru4rec/base/error.h"

namespace gru4rec {

namespace fs = std::filesystem;

RunFolder::RunFolder(fs::path folder) : folder_(std::move(folder)) {
  std::error_code error;
  fs::create_directories(folder_, error);
  if (error)
    throw SurroundingsError("cannot make the run folder {}: {}. Pass a place you may write to as run_dir.", folder_.string(),
                            error.message());
  const fs::path lock = folder_ / ".lock";
  lock_ = open(lock.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (lock_ < 0) throw_io_error("write", lock, errno);
  if (flock(lock_, LOCK_EX | LOCK_NB) != 0) {
    close(lock_);
    throw UserError("the run folder {} is in use by another process. Wait for it, stop it, or pass another run_dir.",
                    folder_.string());
  }
}

RunFolder::~RunFolder() { close(lock_); }

void RunFolder::write_config(const std::string& yaml) const { write_file_atomically(folder_ / "config.yaml", yaml); }

void RunFolder::append_metrics(const nlohmann::json& record) const {
  const fs::path path = folder_ / "metrics.jsonl";
  std::ofstream out(path, std::ios::app);
  out << record.dump() << '\n' << std::flush;
  if (!out) throw_io_error("write", path, errno);
}

void RunFolder::cut_metrics_after(int64_t step) const {
  const fs::path path = folder_ / "metrics.jsonl";
  std::ifstream in(path);
  if (!in) return;
  std::string kept;
  for (std::string line; std::getline(in, line);) {
    const auto record = nlohmann::json::parse(line, nullptr, false);
    if (record.is_discarded() || !record.contains("step")) continue;
    if (record["step"].get<int64_t>() <= step) kept += line + '\n';
  }
  write_file_atomically(path, kept);
}

void RunFolder::write_result(const nlohmann::json& result) const {
  write_file_atomically(folder_ / "result.json", result.dump(2) + "\n");
}

}  // namespace gru4rec

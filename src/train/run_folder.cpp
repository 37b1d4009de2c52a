#include "gru4rec/train/run_folder.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <fstream>
#include <utility>

#include "gru4rec/base/atomic_file.h"
#include "gru4rec/base/error.h"
#include "gru4rec/comm/communicator.h"
#include "gru4rec/report/report.h"

namespace gru4rec {

namespace fs = std::filesystem;

namespace {

// "host node7, pid 4711", or what is known of a holder that has not written it yet.
std::string holder_of(int fd) {
  std::array<char, 320> text{};
  const ssize_t bytes = pread(fd, text.data(), text.size(), 0);
  return bytes > 0 ? std::string(text.data(), static_cast<size_t>(bytes)) : "host and pid not known yet";
}

// Every number of a record under a tag for TensorBoard: {"seconds": 2, "valid": {"mrr@10": 0.1}, "ranks": [7]} → epoch/seconds,
// valid/mrr@10, ranks/0.
std::vector<Scalar> scalars_of(const nlohmann::json& record) {
  std::vector<Scalar> scalars;
  for (const auto& [key, value] : record.items()) {
    if (value.is_number() && key != "step") scalars.push_back({"epoch/" + key, value.get<double>()});
    if (!value.is_structured()) continue;
    for (const auto& [part, number] : value.items())
      if (number.is_number()) scalars.push_back({fmt::format("{}/{}", key, part), number.get<double>()});
  }
  return scalars;
}

// All of the first 4096, then every second one, from 8192 every fourth and so on: a million steps leave 20,000.
bool is_recorded(int64_t step) {
  return static_cast<uint64_t>(step) % std::bit_floor(std::max<uint64_t>(1, static_cast<uint64_t>(step) / 2048)) == 0;
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

RunFolder::RunFolder(fs::path folder, const fs::path& checkpoints)
    : folder_(std::move(folder)),
      events_(folder_ / "tensorboard"),
      lock_(folder_, ".lock", "run folder", "run_dir"),
      checkpoints_lock_(checkpoints, ".checkpoints.lock", "folder of checkpoints", "checkpoint_dir") {}

void RunFolder::write_config(const std::string& yaml) const { write_file_atomically(folder_ / "config.yaml", yaml); }

void RunFolder::write_run(const nlohmann::json& run) const { write_file_atomically(folder_ / "run.json", run.dump(2) + "\n"); }

void RunFolder::record_step(int64_t step, double loss, double learning_rate) {
  if (is_recorded(step)) events_.add(step, {{{"train/loss", loss}, {"train/learning_rate", learning_rate}}});
}

void RunFolder::append_metrics(const nlohmann::json& record) {
  const fs::path path = folder_ / "metrics.jsonl";
  std::ofstream out(path, std::ios::app);
  out << record.dump() << '\n' << std::flush;
  if (!out) throw_io_error("write", path, errno);
  events_.add(record.at("step").get<int64_t>(), scalars_of(record));
  events_.flush();
}

void RunFolder::cut_metrics_after(int64_t step) const {
  // What is said of the test part was said at an end that is none any more.
  events_.cut([step](int64_t at, const std::string& tag) { return at <= step && !tag.starts_with("test/"); });
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

void RunFolder::write_result(const nlohmann::json& result, int64_t step) {
  write_file_atomically(folder_ / "result.json", result.dump(2) + "\n");
  if (!result.contains("test")) return;
  events_.add(step, scalars_of({{"test", result["test"]}}));
  events_.flush();
}

void RunFolder::write_report() const {
  try {
    write_run_report(folder_);
  } catch (const std::exception& error) {
    spdlog::warn("no report of this run: {}", error.what());
  }
}

}  // namespace gru4rec

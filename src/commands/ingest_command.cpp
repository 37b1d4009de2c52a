#include <spdlog/spdlog.h>

#include <filesystem>
#include <memory>

#include "commands.h"
#include "gru4rec/base/error.h"
#include "gru4rec/base/folder_lock.h"
#include "gru4rec/base/hash.h"
#include "gru4rec/base/progress.h"
#include "gru4rec/data/ingest.h"

namespace gru4rec {
namespace {

constexpr const char* kLockFile = ".lock";

// Joins what was read to the store, or says why that changed nothing.
int run_append(const Options& options, const ReadProgress& progress, ProgressLine& line) {
  const AppendReport report = append(options, progress);
  line.clear();
  const StoreInfo& store = report.ingest.store;
  if (report.already_there > 0)
    spdlog::warn("{} of {} events are in the store already, with session, item and time, and were left out",
                 report.already_there, report.events_read);
  if (report.late > 0)
    spdlog::warn(
        "{} new events are older than the newest of the store: they stand where their time is, and what was valid or "
        "test data may be so no more",
        report.late);
  if (!report.grown) {
    spdlog::warn("nothing new: of {} events none joined the store, which stays as it was", report.events_read);
    fmt::print("store {} (digest {}) unchanged\n", options.store, hex_text(store.data_digest));
    return kExitDone;
  }
  fmt::print("store {} (digest {}, was {})\n{}", options.store, hex_text(store.data_digest), hex_text(store.grown_from.back()),
             report.ingest.text());
  return kExitDone;
}

// The new store has what the options name, and nothing else.
void warn_of_appended(const std::filesystem::path& folder) {
  if (!is_store(folder)) return;
  std::vector<uint64_t> grown_from;
  try {
    grown_from = Store(folder).info().grown_from;
  } catch (const Error&) {
    return;  // one that cannot be read is replaced as well
  }
  if (!grown_from.empty())
    spdlog::warn(
        "the store {} grew by --append, {} time(s), and is made anew of what these options name alone: runs on it can go on "
        "only "
        "if it is the same then",
        folder.string(), grown_from.size());
}

// Removes the folder that the lock made, unless there is more in it.
void leave_nothing(const std::filesystem::path& store) {
  std::error_code ignored;
  std::filesystem::remove(store / kLockFile, ignored);
  std::filesystem::remove(store, ignored);
}

}  // namespace

int run_ingest(const Options& options, bool append) {
  const bool is_new = !std::filesystem::exists(options.store);
  std::unique_ptr<FolderLock> lock;
  if (!append || is_store(options.store)) {
    lock = FolderLock::attempt(options.store, kLockFile, "store", "store");
    if (!lock) throw UserError("another ingest writes the store {}. Wait for its end, or pass another store.", options.store);
  }
  ProgressLine line(options.show_progress);
  const ReadProgress progress = [&](uint64_t rows, double fraction) {
    line.show("reading", fraction, [&] { return fmt::format("{:.1f}M events", static_cast<double>(rows) / 1e6); });
  };
  if (append) return run_append(options, progress, line);
  warn_of_appended(options.store);
  try {
    const IngestReport report = ingest(options, progress);
    line.clear();
    fmt::print("store {} (digest {})\n{}", options.store, hex_text(report.store.data_digest), report.text());
    return kExitDone;
  } catch (...) {
    if (is_new) leave_nothing(options.store);
    throw;
  }
}

}  // namespace gru4rec

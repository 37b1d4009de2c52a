#include "gru4rec/train/run_folder.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <fstream>
#include <iterator>
#include <utility>

#include "gru4rec/base/atomic_file.h"
#include "gru4rec/base/config.h"
#include "gru4rec/base/error.h"
#include "gru4rec/report/report.h"

namespace gru4rec {

namespace fs = std::filesystem;

namespace {

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

std::optional<Options> options_of_run(const fs::path& folder) {
  std::ifstream in(folder / "config.yaml");
  if (!in) return std::nullopt;
  try {
    const Options options = options_from_yaml({std::istreambuf_iterator<char>(in), {}}, (folder / "config.yaml").string());
    return fs::weakly_canonical(options.run_dir) == fs::weakly_canonical(folder) ? std::optional(options) : std::nullopt;
  } catch (const UserError&) {
    return std::nullopt;
  }
}

RunFolder::RunFolder(fs::path folder, const fs::path& checkpoints)
    : folder_(std::move(folder)),
      events_(folder_ / "tensorboard"),
      lock_(folder_, ".lock", "run folder", "run_dir"),
      checkpoints_lock_(checkpoints, ".checkpoints.lock", "folder of checkpoints", "checkpoint_dir") {}

RunFolder::~RunFolder() {
  try {
    write_steps();
  } catch (const std::exception&) {
    return;
  }
}

void RunFolder::write_config(const std::string& yaml) const { write_file_atomically(folder_ / "config.yaml", yaml); }

void RunFolder::write_run(const nlohmann::json& run) const { write_file_atomically(folder_ / "run.json", run.dump(2) + "\n"); }

void RunFolder::record_step(int64_t step, double loss, double learning_rate) {
  constexpr size_t kMost = 128;  // who looks on sees no less than of an event at a time: a file's buffer has room for as many
  if (!is_recorded(step)) return;
  steps_.push_back({step, loss, learning_rate, seconds_since_1970()});
  if (steps_.size() >= kMost) write_steps();
}

void RunFolder::write_steps() {
  for (const Step& each : std::exchange(steps_, {}))
    events_.add(each.step, {{{"train/loss", each.loss}, {"train/learning_rate", each.learning_rate}}}, each.time);
}

void RunFolder::flush_steps() {
  write_steps();
  events_.flush();
}

void RunFolder::append_metrics(const nlohmann::json& record) {
  const fs::path path = folder_ / "metrics.jsonl";
  std::ofstream out(path, std::ios::app);
  out << record.dump() << '\n' << std::flush;
  if (!out) throw_io_error("write", path, errno);
  write_steps();
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

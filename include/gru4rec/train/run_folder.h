// runs/NAME/: config.yaml, run.json, metrics.jsonl, tensorboard/, checkpoints/, result.json, report.html (docs/formats.md).
// Only rank 0 has one. Local; one thread.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "gru4rec/base/folder_lock.h"
#include "gru4rec/base/options.h"
#include "gru4rec/report/event_files.h"

namespace gru4rec {

// The options of the run that a folder holds, by its config.yaml; nothing where there is none that can be read, or where it is
// that of another folder, as in a copy.
std::optional<Options> options_of_run(const std::filesystem::path& folder);

class RunFolder {
 public:
  // Makes the folder and that of its checkpoints, wherever that is, and locks both until the object dies: two runs never write
  // to one of them. Throws UserError if another process holds a lock.
  RunFolder(std::filesystem::path folder, const std::filesystem::path& checkpoints);
  ~RunFolder();  // hands on what it can, and is silent

  const std::filesystem::path& path() const { return folder_; }

  void write_config(const std::string& yaml) const;
  // run.json: what trains, on what, where.
  void write_run(const nlohmann::json& run) const;
  // A step for TensorBoard. Of many steps fewer are recorded, chosen by their number alone.
  // Many steps are made events at once, which is several times as fast as each beside the work of its step.
  void record_step(int64_t step, double loss, double learning_rate);
  // One line of metrics.jsonl, and the same for TensorBoard; `record` has a "step".
  void append_metrics(const nlohmann::json& record);
  // Hands on what record_step() keeps in memory, so that a checkpoint never knows more.
  void flush_steps();
  // Removes what is of later steps (and a torn last line): what a resumed run will write again.
  void cut_metrics_after(int64_t step) const;
  // result.json, and its "test" for TensorBoard.
  void write_result(const nlohmann::json& result, int64_t step);
  // report.html, out of the other files. A failure is only warned of: nothing is lost that `gru4rec report` could not make.
  void write_report() const;

 private:
  std::filesystem::path folder_;
  struct Step {
    int64_t step;
    double loss, learning_rate, time;
  };
  void write_steps();

  EventFiles events_;
  std::vector<Step> steps_;  // that are no events yet
  FolderLock lock_;
  FolderLock checkpoints_lock_;  // of a name of its own, as the two folders may be one
};

}  // namespace gru4rec

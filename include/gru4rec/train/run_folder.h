// runs/NAME/: config.yaml, metrics.jsonl, checkpoints/, result.json. Only rank 0 has one. Local; one thread.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

namespace gru4rec {

class RunFolder {
 public:
  // Makes the folder and takes its lock until the object dies. Throws UserError if another process holds it.
  explicit RunFolder(std::filesystem::path folder);
  ~RunFolder();
  RunFolder(const RunFolder&) = delete;
  RunFolder& operator=(const RunFolder&) = delete;

  const std::filesystem::path& path() const { return folder_; }

  void write_config(const std::string& yaml) const;
  // One line of metrics.jsonl; `record` has a "step".
  void append_metrics(const nlohmann::json& record) const;
  // Removes the lines of later steps (and a torn last line): what a resumed run will write again.
  void cut_metrics_after(int64_t step) const;
  void write_result(const nlohmann::json& result) const;

 private:
  std::filesystem::path folder_;
  int lock_ = -1;
};

}  // namespace gru4rec

// A trained model, opened to be used: weights, original ids, and the options it was trained with. Local.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "gru4rec/base/config.h"
#include "gru4rec/base/options.h"
#include "gru4rec/model/gru4rec.h"
#include "gru4rec/train/checkpoint.h"

namespace gru4rec {

struct ServedModel {
  std::filesystem::path file;  // the checkpoint itself
  CheckpointInfo info;         // its catalogue is known
  Options options;             // of the run that wrote it, and the overrides
  std::unique_ptr<Gru4Rec> model;

  const Catalogue& catalogue() const { return *info.catalogue; }
};

// `checkpoint`: a file, a run's folder (its best one) or a folder of checkpoints (the newest). Checkpoints of earlier versions
// have no original ids; those are then read from the option `store` or, without that, from the store that the checkpoint names.
// Pins kernels as the options say (train/determinism.h), so it comes before any tensor operation of the process.
// Throws UserError if a file is damaged, or the ids are nowhere.
ServedModel open_model(const std::filesystem::path& checkpoint, const std::vector<Override>& overrides);

// Throws UserError if the model reads sessions backward, as teachers do; `what` it would have been used for.
void require_forward(const ServedModel& model, std::string_view what);

// Ids of items by their original ids.
class ItemIndex {
 public:
  explicit ItemIndex(const std::vector<std::string>& names);  // which must outlive it
  int64_t find(std::string_view name) const;                  // 1…catalogue; 0: unknown

 private:
  std::unordered_map<std::string_view, int64_t> by_name_;
};

}  // namespace gru4rec

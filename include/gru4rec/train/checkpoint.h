// Checkpoints: one sealed HDF5 file a step, written atomically, independent of the number of ranks (docs/formats.md).
//
//   /catalogue   the original ids of its items, so that a checkpoint alone can recommend
//   /state       tensors, their average, moments, counters, best so far, the options that change numbers, replicas, data digest
//   /provenance  what else is known of the run that wrote it: version, capability, threads, world size, other options
//
// The digest is xxh3 over /state in a documented order: equal runs have equal digests.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "gru4rec/base/options.h"
#include "gru4rec/data/store.h"
#include "gru4rec/model/gru4rec.h"
#include "gru4rec/train/optimizer.h"
#include "gru4rec/train/state.h"

namespace gru4rec {

// What a model needs of its store to answer with original ids.
struct Catalogue {
  std::vector<std::string> item_names;  // the original id of item i + 1 is item_names[i]
  int64_t max_inputs = 0;               // the last items of a session that an evaluation shows the model; 0: all of them
};
Catalogue catalogue_of(const Store& store, const Options& options);

// The number that each item has in a catalogue, by its original id; [names + 1], entry 0 and those of unknown items are 0.
std::vector<uint32_t> numbers_in(const Catalogue& catalogue, const std::vector<std::string>& names);

// What a checkpoint says besides tensors.
struct CheckpointInfo {
  TrainState state;
  ModelShape shape;
  int64_t replicas = 1;
  uint64_t data_digest = 0;     // of the store it was trained on
  uint64_t teacher_digest = 0;  // of the checkpoint it learned from; 0: none
  std::string number_options;   // YAML of the options that change numbers
  uint64_t digest = 0;          // filled by save and load
  // Provenance
  std::string options;  // YAML of all options
  std::string store;    // folder
  int64_t world_size = 1;
  int64_t threads = 1;
  std::string capability;  // of the processor, as kernels were chosen by
  std::string version;     // of this program
  double train_seconds = 0;
  uint64_t start_digest = 0;                   // of the checkpoint whose weights it began with; 0: none, or not known
  std::shared_ptr<const Catalogue> catalogue;  // null: not known, as in files of earlier versions
};

// The tensors of a checkpoint. A view, no longer of use than what it was taken of.
struct StateTensors {
  // Parameters, first and second moment, and the moving average of the weights, empty where there is none.
  using Buffers = std::array<std::span<const float>, 4>;
  const ParameterLayout& layout;  // of each buffer
  Buffers buffers;
};

// Writes FOLDER/step-00000500.h5. Returns the digest. Local. Throws SurroundingsError; former files stay as they are.
uint64_t save_checkpoint(const std::filesystem::path& file, const CheckpointInfo& info, const StateTensors& state);
// `average`: null without one.
StateTensors state_of(const Gru4Rec& model, const Optimizer& optimizer, const Gru4Rec* average = nullptr);

// Reads and verifies a file: seal, shapes, digest. Local. Throws UserError if it is damaged or no checkpoint.
CheckpointInfo read_checkpoint_info(const std::filesystem::path& file);
// The same, and fills what training goes on with; shapes must agree, and `average` is null if and only if the file has none.
// The model may have more items than the file: then what belongs to those stays as it is.
CheckpointInfo load_checkpoint(const std::filesystem::path& file, Gru4Rec& model, Optimizer& optimizer,
                               Gru4Rec* average = nullptr);
// The same, and fills `model` with the weights that are evaluated: the average where the file has one. Shapes must be equal.
CheckpointInfo load_weights(const std::filesystem::path& file, Gru4Rec& model);

// The files of one run. Local.
class CheckpointFolder {
 public:
  CheckpointFolder(std::filesystem::path folder, int64_t keep);

  std::filesystem::path file_of(int64_t step) const;
  std::vector<int64_t> steps() const;  // rising; by file name only

  // The newest file that holds, and a line for each newer one that does not: they are to be shown loudly.
  struct Found {
    int64_t step;
    CheckpointInfo info;
    std::vector<std::string> skipped;
  };
  std::optional<Found> newest_good() const;

  // Removes all but the newest `keep` and the best.
  void prune(int64_t best_step) const;

  const std::filesystem::path& path() const { return folder_; }

 private:
  std::filesystem::path folder_;
  int64_t keep_;
};

// The checkpoint a user means by a path: the file itself, or the newest one of a run's folder or of a folder of checkpoints; of
// a run's folder the second gives the best one, by what the newest undamaged one says. Local. UserError if there is none.
std::filesystem::path newest_checkpoint_at(const std::filesystem::path& path);
std::filesystem::path best_checkpoint_at(const std::filesystem::path& path);

// For `inspect`.
std::string describe_checkpoint(const std::filesystem::path& file);

}  // namespace gru4rec

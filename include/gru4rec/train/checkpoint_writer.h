// Writes the checkpoints of a run, if wanted in the background: a copy of the state is taken, and a thread writes it while
// training goes on. One is in flight at most. The destructor waits for it, and says nothing of its failure. Local.
//
//   CheckpointWriter writer({folder, keep}, /*in_background=*/true);
//   writer.write(info, state);   // returns when the state is copied, or waits for the checkpoint before it
//   …
//   writer.check();              // at any time: throws what the write failed with
//   writer.wait();               // until it is durable
#pragma once

#include <array>
#include <future>
#include <optional>
#include <vector>

#include "gru4rec/train/checkpoint.h"

namespace gru4rec {

class CheckpointWriter {
 public:
  CheckpointWriter(CheckpointFolder folder, bool in_background) : folder_(std::move(folder)), in_background_(in_background) {}

  // Begins to take the memory of the copies, in the background, so that the first write() need not. That one waits for it, and
  // throws its failure.
  void make_room(const StateTensors& state);
  // Writes the file of info.state.step and prunes the folder. In the background the failure of the one before is thrown here.
  void write(const CheckpointInfo& info, const StateTensors& state);
  // Throws the failure of the one in flight, if it has failed by now. A failure is thrown once.
  void check();
  // Until nothing is in flight. Throws its failure.
  void wait();

  const CheckpointFolder& folder() const { return folder_; }

 private:
  void write_now(const CheckpointInfo& info, const StateTensors& state) const;

  const CheckpointFolder folder_;
  const bool in_background_;
  CheckpointInfo info_;  // of the one in flight
  std::optional<ParameterLayout> layout_;
  std::array<std::vector<float>, 4> copy_;  // its tensors; their memory is kept for the next
  std::future<void> in_flight_;             // the last one: it ends before what it reads
};

}  // namespace gru4rec

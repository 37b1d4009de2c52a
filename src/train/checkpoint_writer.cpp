#include "gru4rec/train/checkpoint_writer.h"

#include <chrono>

#include "gru4rec/base/heap.h"

namespace gru4rec {

void CheckpointWriter::write(const CheckpointInfo& info, const StateTensors& state) {
  wait();
  if (!in_background_) return write_now(info, state);
  info_ = info;
  const std::array<std::span<const float>, 4> from = {state.parameters, state.first_moment, state.second_moment, state.average};
  for (size_t i = 0; i < copy_.size(); ++i) {
    if (copy_[i].capacity() < from[i].size()) {
      copy_[i].reserve(from[i].size());
      want_huge_pages(copy_[i].data(), from[i].size_bytes());
    }
    copy_[i].assign(from[i].begin(), from[i].end());
  }
  layout_ = state.layout;
  in_flight_ = std::async(std::launch::async, [this] { write_now(info_, {*layout_, copy_[0], copy_[1], copy_[2], copy_[3]}); });
}

void CheckpointWriter::write_now(const CheckpointInfo& info, const StateTensors& state) const {
  save_checkpoint(folder_.file_of(info.state.step), info, state);
  folder_.prune(info.state.best.step);
}

void CheckpointWriter::check() {
  if (in_flight_.valid() && in_flight_.wait_for(std::chrono::seconds(0)) == std::future_status::ready) in_flight_.get();
}

void CheckpointWriter::wait() {
  if (in_flight_.valid()) in_flight_.get();
}

}  // namespace gru4rec

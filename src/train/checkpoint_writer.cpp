#include "gru4rec/train/checkpoint_writer.h"

#include <chrono>

#include "gru4rec/base/heap.h"

namespace gru4rec {

void CheckpointWriter::make_room(const StateTensors& state) {
  if (!in_background_) return;
  wait();
  std::array<size_t, 4> floats{};
  for (size_t i = 0; i < floats.size(); ++i) floats[i] = state.buffers[i].size();
  in_flight_ = std::async(std::launch::async, [this, floats] {
    for (size_t i = 0; i < floats.size(); ++i) {
      reserve_in_huge_pages(copy_[i], floats[i]);
      copy_[i].resize(floats[i]);
    }
  });
}

void CheckpointWriter::write(const CheckpointInfo& info, const StateTensors& state) {
  wait();
  if (!in_background_) return write_now(info, state);
  info_ = info;
  layout_ = state.layout;
  for (size_t i = 0; i < copy_.size(); ++i) copy_[i].assign(state.buffers[i].begin(), state.buffers[i].end());
  in_flight_ = std::async(std::launch::async, [this] {
    write_now(info_, {*layout_, {copy_[0], copy_[1], copy_[2], copy_[3]}});
  });
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

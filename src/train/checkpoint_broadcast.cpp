#include "gru4rec/train/checkpoint_broadcast.h"

namespace gru4rec {
namespace {

template <typename T>
void send(Communicator& comm, T& value) {
  comm.broadcast(0, std::span<T>(&value, 1));
}

void send(Communicator& comm, std::vector<int64_t>& values) {
  auto size = static_cast<uint64_t>(values.size());
  send(comm, size);
  values.resize(size);
  comm.broadcast(0, std::span<int64_t>(values));
}

}  // namespace

void broadcast_checkpoint(Communicator& comm, CheckpointInfo& info, Gru4Rec& model, Optimizer& optimizer, Gru4Rec* average) {
  TrainState& state = info.state;
  send(comm, state.epoch);
  send(comm, state.batch);
  send(comm, state.step);
  send(comm, state.epoch_loss);
  send(comm, state.epoch_targets);
  send(comm, state.best);
  send(comm, state.best_histogram.targets);
  send(comm, state.best_histogram.at);
  send(comm, state.plateau_rate);
  send(comm, info.replicas);
  send(comm, info.data_digest);
  send(comm, info.train_seconds);
  info.number_options = comm.broadcast_text(0, info.number_options);
  comm.broadcast(0, model.parameters());
  comm.broadcast(0, optimizer.first_moment());
  comm.broadcast(0, optimizer.second_moment());
  if (average) comm.broadcast(0, average->parameters());
}

}  // namespace gru4rec

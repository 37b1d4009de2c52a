// A small checkpoint in which no two numbers are alike, for tests of the file itself.
#pragma once

#include <filesystem>
#include <functional>

#include "gru4rec/train/checkpoint.h"

namespace gru4rec::testing {

struct CheckpointExample {
  explicit CheckpointExample(uint64_t seed = 1)
      : info(example_info()), model(info.shape), average(info.shape), adam(model.layout(), {}) {
    model.initialise(seed);
    average.initialise(seed + 100);
    info.state.step += static_cast<int64_t>(seed);
    for (size_t i = 0; i < adam.first_moment().size(); ++i) {
      adam.first_moment()[i] = 0.01f * static_cast<float>(i) - 0.3f;
      adam.second_moment()[i] = 1e-4f * static_cast<float>(i + seed);
    }
  }

  static CheckpointInfo example_info() {
    CheckpointInfo info;
    info.shape.catalogue = 43;
    info.shape.embedding_size = 5;
    info.shape.hidden_size = 7;
    info.shape.num_layers = 2;
    info.state.epoch = 3;
    info.state.batch = 11;
    info.state.step = 500;
    info.state.epoch_loss = 1234.5;
    info.state.epoch_targets = 613;
    info.state.best = {0.0421, 1, 2, 480};
    info.state.best_histogram = RankHistogram(20);
    for (int64_t rank = 1; rank < 40; ++rank) info.state.best_histogram.add(rank % 7 * rank % 23);
    info.state.plateau_rate = 0.25;
    info.replicas = 3;
    info.data_digest = 0x123456789abcdef0;
    info.number_options = "seed: 2020\nlearning_rate: 0.001\n";
    info.options = info.number_options + "run_dir: runs/example\n";
    info.store = "store/example";
    info.world_size = 2;
    info.threads = 1;
    info.capability = "AVX2";
    info.version = "0.1.0";
    info.train_seconds = 12.25;
    info.start_digest = 77;
    auto catalogue = std::make_shared<Catalogue>();
    for (int64_t item = 1; item <= info.shape.catalogue; ++item)
      catalogue->item_names.push_back("id " + std::to_string(7 * item));
    catalogue->max_inputs = 9;
    info.catalogue = catalogue;
    return info;
  }

  StateTensors state() const { return state_of(model, adam, &average); }
  uint64_t save(const std::filesystem::path& file) const { return save_checkpoint(file, info, state()); }

  CheckpointInfo info;
  Gru4Rec model, average;
  Optimizer adam;
};

}  // namespace gru4rec::testing

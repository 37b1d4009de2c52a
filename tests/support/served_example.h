// A model with made-up weights and original ids, as it is after a checkpoint was opened.
#pragma once

#include <memory>

#include "gru4rec/serve/served_model.h"
#include "support/store_example.h"

namespace gru4rec::testing {

inline ServedModel served_example(const ModelShape& shape, int64_t max_inputs = 12, uint64_t seed = 3) {
  ServedModel served;
  served.info.shape = shape;
  auto catalogue = std::make_shared<Catalogue>();
  catalogue->item_names = example_names(static_cast<uint64_t>(shape.catalogue));
  catalogue->max_inputs = max_inputs;
  served.info.catalogue = catalogue;
  served.model = std::make_unique<Gru4Rec>(shape);
  served.model->initialise(seed, EmbeddingInit::unit);
  return served;
}

// Scores that are small integers, many of them equal, whatever the session: the dense layer is its bias only.
inline void make_scores_equal(Gru4Rec& model) {
  const auto fill = [&](const std::string& name) {
    const Stream random{5, Purpose::parameter_init, name.size()};
    at::Tensor values = model.parameter(name);
    for (int64_t i = 0; i < values.numel(); ++i)
      values.data_ptr<float>()[i] = static_cast<float>(random.below(static_cast<uint64_t>(i), 5)) - 2.0f;
  };
  model.parameter("dense.weight").zero_();
  fill("dense.bias");
  fill(model.layout().table().name);
}

// Ids of a made-up session of 1 to 30 items, some of them unknown (0).
inline std::vector<int64_t> session_example(uint64_t index, int64_t catalogue) {
  const Stream random{9, Purpose::block_order, index};
  std::vector<int64_t> items(1 + random.below(0, 30));
  for (size_t i = 0; i < items.size(); ++i)
    items[i] =
        random.uniform(100 + i) < 0.1 ? 0 : 1 + static_cast<int64_t>(random.below(200 + i, static_cast<uint64_t>(catalogue)));
  return items;
}

// As original ids.
inline std::vector<std::string> names_of(const std::vector<int64_t>& items, const Catalogue& catalogue) {
  std::vector<std::string> names;
  for (const int64_t item : items) names.push_back(item == 0 ? "unknown" : catalogue.item_names[item - 1]);
  return names;
}

}  // namespace gru4rec::testing

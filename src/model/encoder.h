// The part of the model between item embeddings and queries: GRU layers, dropout of their states, the rows of the targets and
// the dense layer. The backward pass is written out: a graph that is built and walked for each step would cost more than the
// small operations in it.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "gru4rec/model/gru4rec.h"
#include "gru4rec/model/gru_layer.h"

namespace gru4rec {

class Encoder {
 public:
  // weights  views in the order of the layout, but for the table and the scale of scores
  // masks    [layers] multiply the states of a layer; undefined or missing: no dropout
  // probe    is shown every tensor by its name, if there is one
  // Shape and batch must outlive it.
  Encoder(const ModelShape& shape, const Batch& batch, std::vector<at::Tensor> weights, std::vector<at::Tensor> masks,
          Precision precision, Gru4Rec::Probe probe);

  // embedded [inputs, E] → queries [targets, E], without a dense layer [targets, hidden]. for_gradients: remembers what
  // add_gradients() needs, the traces of all layers.
  at::Tensor queries(const at::Tensor& embedded, bool for_gradients);

  // Adds to `gradients`, which are as the weights, and returns that of the embedded inputs if it is wanted.
  at::Tensor add_gradients(const at::Tensor& grad_queries, const std::vector<at::Tensor>& gradients, bool wants_embedded) const;

 private:
  struct Layer {
    at::Tensor input;
    GruTrace trace;
  };

  bool has_mask(size_t layer) const { return layer < masks_.size() && masks_[layer].defined(); }
  void probe(const char* name, const at::Tensor& tensor) const;
  void probe_layer(const char* name, size_t layer, const at::Tensor& tensor) const;  // a name with {} for the number
  at::Tensor rows_of_targets(const at::Tensor& states);
  at::Tensor gradient_of_states(const at::Tensor& grad_of_targets) const;

  const ModelShape& shape_;
  const Batch& batch_;
  const std::vector<at::Tensor> weights_, masks_;
  const Precision precision_;
  const Gru4Rec::Probe probe_;
  std::vector<Layer> layers_;
  at::Tensor target_rows_;    // where the model computes; undefined: each row once, in order
  at::Tensor target_states_;  // [targets, hidden]
};

}  // namespace gru4rec

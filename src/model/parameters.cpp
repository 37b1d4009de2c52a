#include "gru4rec/model/parameters.h"

#include <functional>
#include <numeric>

#include "gru4rec/base/error.h"

namespace gru4rec {
namespace {

constexpr int64_t kAlignFloats = 16;
int64_t padded(int64_t floats) { return (floats + kAlignFloats - 1) / kAlignFloats * kAlignFloats; }

}  // namespace

int64_t ParameterInfo::size() const {
  return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<int64_t>());
}

ParameterLayout::ParameterLayout(const ModelShape& shape) {
  int64_t offset = 0;
  auto append = [&](std::string name, std::vector<int64_t> dimensions) {
    parameters_.push_back({std::move(name), std::move(dimensions), offset});
    offset += padded(parameters_.back().size());
  };
  const int64_t hidden = shape.hidden_size;
  for (int64_t layer = 0; layer < shape.num_layers; ++layer) {
    append(fmt::format("gru_layers.weight_ih_l{}", layer), {3 * hidden, layer == 0 ? shape.embedding_size : hidden});
    append(fmt::format("gru_layers.weight_hh_l{}", layer), {3 * hidden, hidden});
  }
  if (shape.dense_layer) {
    append("dense.weight", {shape.embedding_size, hidden});
    append("dense.bias", {shape.embedding_size});
  } else if (shape.embedding_size != hidden) {
    throw BugError("a model without a dense layer has embedding_size {} and hidden_size {}", shape.embedding_size, hidden);
  }
  if (shape.cosine && shape.learn_score_scale) append("score_scale", {1});
  append("item_embedding.weight", {shape.table_rows(), shape.embedding_size});
  padded_table_ = padded(parameters_.back().size());
}

int64_t ParameterLayout::floats_of_rows(int64_t rows) const { return padded(rows * table().shape[1]); }

const ParameterInfo& ParameterLayout::find(const std::string& name) const {
  for (const ParameterInfo& parameter : parameters_)
    if (parameter.name == name) return parameter;
  throw BugError("there is no parameter named '{}'", name);
}

int64_t ParameterLayout::trained_parameters(bool frozen_table) const {
  int64_t trained = 0;
  for (const ParameterInfo& parameter : parameters_) trained += parameter.size();
  return frozen_table ? trained - table().size() : trained;
}

}  // namespace gru4rec

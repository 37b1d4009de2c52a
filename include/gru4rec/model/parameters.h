// Where every parameter and its gradient stand in one flat buffer each. Dense parameters come first, then the item table.
// Every tensor starts at a multiple of 16 floats (64 bytes), so that kernels see the same alignment in every buffer.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "gru4rec/data/row_set.h"

namespace gru4rec {

struct ModelShape {
  int64_t catalogue = 0;  // items; the table has one row more, row 0 for padding
  int64_t embedding_size = 64;
  int64_t hidden_size = 128;
  int64_t num_layers = 1;
  double dropout_prob = 0.3;         // of the embedded input
  double hidden_dropout_prob = 0.0;  // of the states between layers
  double output_dropout_prob = 0.0;  // of the last layer's state
  bool dense_layer = true;           // between the last state and the scores; without it the state is the query, and E = H
  bool score_padding = true;
  bool cosine = false;  // scores are score_scale × cosine, else dot products
  double score_scale = 16.0;
  bool learn_score_scale = false;  // score_scale is a parameter, this is its initial value

  int64_t table_rows() const { return catalogue + 1; }
};

struct ParameterInfo {
  std::string
      name;  // RecBole's: item_embedding.weight, gru_layers.weight_ih_l0, …, dense.weight, dense.bias; ours: score_scale
  std::vector<int64_t> shape;
  int64_t offset;  // floats from the start of the parameter buffer; of dense parameters also in the gradient buffer
  int64_t size() const;
};

// The rows that the two parts of the table's gradient have: all (nullptr), or those of a set. The inputs of a batch are few
// rows of a large table, and sampled losses move few rows in both parts.
struct GradientRows {
  const RowSet* few = nullptr;
  bool of_output_too = false;

  const RowSet* input() const { return few; }
  const RowSet* output() const { return of_output_too ? few : nullptr; }
};

// Parameter buffer: [dense | table]. Gradient buffer: [dense | table from the output layer | table from the inputs]; the two
// parts of the table are summed over replicas separately and added once, by the optimizer. Where only some rows can have a
// gradient, a part may be of those rows (GradientRows).
class ParameterLayout {
 public:
  explicit ParameterLayout(const ModelShape& shape);

  const std::vector<ParameterInfo>& parameters() const { return parameters_; }  // the table is the last one
  const ParameterInfo& table() const { return parameters_.back(); }
  const ParameterInfo& find(const std::string& name) const;  // BugError if there is none

  // Numbers that are trained, without the padding of the buffers.
  int64_t trained_parameters(bool frozen_table) const;

  int64_t dense_floats() const { return table().offset; }
  int64_t table_floats() const { return padded_table_; }
  int64_t parameter_floats() const { return dense_floats() + table_floats(); }
  // Of the gradient buffer; a table that is held constant has no part in it.
  int64_t gradient_floats(bool frozen_table = false) const { return dense_floats() + (frozen_table ? 0 : 2 * table_floats()); }
  int64_t gradient_floats_by_rows(const GradientRows& rows) const {
    return table_input_gradient(rows) + floats_of(rows.input());
  }
  int64_t table_output_gradient() const { return dense_floats(); }  // offset
  int64_t table_input_gradient(const GradientRows& rows = {}) const {
    return dense_floats() + floats_of(rows.output());
  }  // offset
  int64_t floats_of_rows(int64_t rows) const;
  // Whether a batch of so many targets reads few enough rows for the part of the inputs to be worth having by rows, on which
  // ranks have to agree before each step. Sessions are of the same popular items, far fewer than there are targets.
  bool reads_few_rows(int64_t targets) const { return 2 * table().shape[0] > targets; }

 private:
  int64_t floats_of(const RowSet* rows) const { return rows ? floats_of_rows(rows->size()) : table_floats(); }

  std::vector<ParameterInfo> parameters_;
  int64_t padded_table_;
};

}  // namespace gru4rec

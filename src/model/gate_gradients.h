// The gradients of a GRU's gates and what they are multiplied by, in bf16 on the processor: rounded once, where the loop that
// makes them still has them in its nearest cache, and from there laid out for each product (bf16_tiles.h).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "gru4rec/model/gru_kernels.h"
#include "gru4rec/model/gru_layer.h"

namespace gru4rec {

// Local; one at a time on a thread, whose memory it takes.
class GateGradients {
 public:
  // Whether products of this precision on tensors like this one are made here. Gates of other sizes than a multiple of
  // bf16::kUnit would have to be padded one by one, which costs more than it saves.
  static bool are_for(const at::Tensor& like, int64_t hidden, Precision precision);

  // capacity  rows that are held at most
  GateGradients(const at::Tensor& weight_ih, const at::Tensor& weight_hh, int64_t capacity);
  GateGradients(const GateGradients&) = delete;
  GateGradients& operator=(const GateGradients&) = delete;

  // The pointwise part of `step`, whose gradients of gates are held from row `place` on (grad_input and grad_recurrent of the
  // step are not used), and their product with W_hh, which is added to step.carried.
  void take(const GruBackwardStep& step, int64_t place);

  // The products of `rows` held rows from `place` on. input [rows, in] and before [rows, hidden] are the first of those that
  // belong to them. Adds to the sums of the weights; grad_input [rows, in] is written, unless it is null.
  void multiply(int64_t place, int64_t rows, const float* input, const float* before, float* grad_input,
                const GruGradients& sums) const;

 private:
  int64_t columns() const { return 4 * hidden_; }  // of a held row: r, z, n and n ∘ r

  int64_t in_, hidden_;
};

}  // namespace gru4rec

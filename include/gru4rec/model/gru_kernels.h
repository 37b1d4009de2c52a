// The pointwise part of one time step of a GRU, fused: forward and backward. As in model/row_kernels.h, the same bits with
// AVX-512, AVX2 and neither.
#pragma once

#include <cstdint>
#include <vector>

namespace gru4rec {

// One row a sequence that is still running, in the layout of gru_layer.h. Contiguous; pointers to the first row. Local.
struct GruForwardStep {
  int64_t rows, hidden;
  float* gates;            // [rows, 3·hidden] W_i x; becomes r, z, n
  const float* recurrent;  // [rows, 3·hidden] W_h h; null: h is zero
  const float* before;     // [rows, hidden] h; null with it
  float* recurrent_n;      // [rows, hidden] out: W_hn h
  float* after;            // [rows, hidden] out: h'
};

struct GruBackwardStep {
  int64_t rows, hidden;
  const float* gates;        // [rows, 3·hidden] r, z, n
  const float* recurrent_n;  // [rows, hidden]
  const float* before;       // [rows, hidden] h; null: it is zero
  const float* grad;         // [rows, hidden] of the state after the step, from its uses outside
  float* carried;            // [rows, hidden] the same from the step behind, in its first carried_rows; becomes the part of the
                             // gradient of `before` that does not go through W_h: grad ∘ z
  int64_t carried_rows;
  float* grad_input;         // [rows, 3·hidden] out: of W_i x
  float* grad_recurrent;     // [rows, 3·hidden] out: of W_h h
  float* kept_before;        // [rows, hidden] out: h, beside the gradients that are multiplied by it
  int64_t rows_to_come = 0;  // behind these, of gates, recurrent_n and grad: of a call that follows

  // The rows [at, at + count) of it.
  GruBackwardStep part(int64_t at, int64_t count) const;
};

void gru_forward_step(const GruForwardStep& step);
void gru_backward_step(const GruBackwardStep& step);

// The same for one instruction set. Those that this processor has, the one that is used first.
struct GruKernels {
  const char* name;
  void (*forward)(const GruForwardStep&);
  void (*backward)(const GruBackwardStep&);
};
const std::vector<GruKernels>& gru_kernels();

}  // namespace gru4rec

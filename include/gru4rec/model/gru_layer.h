// One GRU layer over a packed batch, without biases, as torch.nn.GRU(bias=False) computes it (Cho et al. 2014, in the variant
// of cuDNN: the reset gate is applied after the recurrent product):
//
//     r = σ(W_ir x + W_hr h)    z = σ(W_iz x + W_hz h)    n = tanh(W_in x + r ∘ (W_hn h))    h' = (1 - z) ∘ n + z ∘ h
//
// Per step one recurrent product on the sequences still running and the pointwise part; backward is the mirror image. The input
// product, and those for the gradients of W_ih, W_hh and x, are of some steps together, as many as a cache holds the rows of.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "gru4rec/base/options.h"

namespace gru4rec {

// What backward needs, one row an input.
struct GruTrace {
  at::Tensor gates;        // [inputs, 3·hidden] r, z, n after their nonlinearity
  at::Tensor recurrent_n;  // [inputs, hidden] W_hn h
  at::Tensor states;       // [inputs, hidden] h', the layer's output
};

// input        [inputs, in]      packed time-major (data/batch.h)
// step_sizes   [steps]
// weight_ih    [3·hidden, in]    gates stacked r, z, n
// weight_hh    [3·hidden, hidden]
// returns      the states after each input, and how they came about; sequences start from the zero state
//
// precision    of the products, fp32 or bf16 (model/products.h); gates, states and gradients are fp32
//
// Tensors are contiguous, on one device. Local, as the other.
GruTrace gru_forward(const at::Tensor& input, const std::vector<int64_t>& step_sizes, const at::Tensor& weight_ih,
                     const at::Tensor& weight_hh, Precision precision = Precision::fp32);

struct GruGradients {
  at::Tensor input;  // [inputs, in]; undefined: not wanted
  at::Tensor weight_ih, weight_hh;
};

// grad_states [inputs, hidden], the gradient of the states; the rest as it was given to gru_forward() and came from there.
GruGradients gru_backward(const at::Tensor& grad_states, const at::Tensor& input, const std::vector<int64_t>& step_sizes,
                          const at::Tensor& weight_ih, const at::Tensor& weight_hh, const GruTrace& trace,
                          Precision precision = Precision::fp32, bool wants_input = true);

}  // namespace gru4rec

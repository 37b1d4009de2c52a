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

// input        [inputs, in]      packed time-major (data/batch.h)
// step_sizes   [steps]
// weight_ih    [3·hidden, in]    gates stacked r, z, n
// weight_hh    [3·hidden, hidden]
// returns      [inputs, hidden]  the state after each input; sequences start from the zero state
//
// precision    of the products, fp32 or bf16 (model/products.h); gates, states and gradients are fp32
//
// Differentiable in input and weights (one autograd node). Local.
at::Tensor gru_layer(const at::Tensor& input, const std::vector<int64_t>& step_sizes, const at::Tensor& weight_ih,
                     const at::Tensor& weight_hh, Precision precision = Precision::fp32);

}  // namespace gru4rec

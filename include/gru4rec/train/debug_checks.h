// What --debug adds to a run: finite checks on every tensor and gradient between modules and on the gradients of weights, by
// name, and the norms of each parameter and gradient at each step. It changes no number: a debug run has the bits of any other.
#pragma once

#include <span>

#include "gru4rec/model/gru4rec.h"

namespace gru4rec {

// Checks a model's tensors for the life of the object: one with a NaN or infinite element throws UserError with its name, shape
// and first bad element. Local.
class TensorWatch {
 public:
  explicit TensorWatch(Gru4Rec& model);
  ~TensorWatch();
  TensorWatch(const TensorWatch&) = delete;
  TensorWatch& operator=(const TensorWatch&) = delete;

 private:
  Gru4Rec& model_;
};

// One line a parameter on standard error: norm of the weights after the update, norm of the mean gradient before it. Local.
void print_norms(const Gru4Rec& model, std::span<const float> gradient_sum, const GradientRows& rows, int64_t count,
                 int64_t step);

}  // namespace gru4rec

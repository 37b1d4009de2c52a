// Negative items for the sampled losses: drawn uniformly or by popularity, as a pure function of what they are drawn for.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "gru4rec/base/random.h"
#include "gru4rec/data/store.h"

namespace gru4rec {

// Events of each item in the training sessions of a store, those with a training target; [catalogue + 1], entry 0 counts events
// outside the catalogue. Reads all items of the store once. Local.
std::vector<uint64_t> training_popularity(const Store& store);

// Draws items 1…catalogue with probability ∝ popularity^alpha; alpha 0 is uniform. An item never seen in training has
// popularity 0 and is drawn only where alpha is 0. Local; const functions may be called by several threads.
class NegativeSampler {
 public:
  // `popularity` as training_popularity gives it; of another alpha than 0 at least one item must have some.
  NegativeSampler(std::span<const uint64_t> popularity, double alpha);

  // The index-th draw of a stream.
  int64_t draw(const Stream& stream, uint64_t index) const;
  // The same without `except`: drawn again until it is another item (one with the largest number where there is no other).
  int64_t draw_except(const Stream& stream, uint64_t index, int64_t except) const;

  double probability(int64_t item) const;  // of draw()

 private:
  std::vector<double> cumulative_;  // [catalogue] Σ weights of the items 1…i+1; empty for uniform
  int64_t catalogue_;
};

}  // namespace gru4rec

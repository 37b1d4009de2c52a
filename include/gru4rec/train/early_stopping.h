// RecBole's rule (recbole/utils/utils.py, early_stopping): a value equal to the best counts as an improvement; training stops
// when more than `patience` evaluations in a row were worse. Values are compared as RecBole prints them, rounded to
// metric_decimal_place.
#pragma once

#include <cstdint>

namespace gru4rec {

// What early stopping remembers; part of the training state.
struct BestSoFar {
  double value = -1.0;  // rounded; every metric is at least 0
  int64_t stalled = 0;  // evaluations since
  uint64_t epoch = 0;   // of the best, from 0
  int64_t step = -1;    // its checkpoint; -1: none yet
  bool operator==(const BestSoFar&) const = default;
};

struct EarlyStopping {
  int64_t patience;       // stopping_step
  int64_t decimal_place;  // metric_decimal_place

  struct Verdict {
    bool improved;
    bool stop;
  };
  // Takes the value of an evaluation into `best` (value and stalled only).
  Verdict judge(double value, BestSoFar& best) const;
  // Whether training has to stop.
  bool exhausted(const BestSoFar& best) const { return best.stalled > patience; }
};

// To `places` decimals, halves to even on the decimal expansion, as Python's round().
double round_decimal(double value, int64_t places);

}  // namespace gru4rec

#include "gru4rec/train/early_stopping.h"

#include <fmt/format.h>

#include <cstdlib>

namespace gru4rec {

double round_decimal(double value, int64_t places) {
  return std::strtod(fmt::format("{:.{}f}", value, places).c_str(), nullptr);
}

EarlyStopping::Verdict EarlyStopping::judge(double value, BestSoFar& best) const {
  const double rounded = round_decimal(value, decimal_place);
  if (rounded >= best.value) {
    best.value = rounded;
    best.stalled = 0;
    return {true, false};
  }
  ++best.stalled;
  return {false, exhausted(best)};
}

}  // namespace gru4rec

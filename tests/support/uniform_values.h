// Numbers for tests, the same on every machine.
#pragma once

#include <vector>

#include "gru4rec/base/random.h"

namespace gru4rec::testing {

// `count` floats, uniform in ±bound; another `key`, other floats.
inline std::vector<float> uniform_values(size_t count, double bound, uint64_t key) {
  const Stream stream{7, Purpose::parameter_init, key};
  std::vector<float> out(count);
  for (size_t i = 0; i < count; ++i) out[i] = static_cast<float>(bound * (2 * stream.uniform(i) - 1));
  return out;
}

}  // namespace gru4rec::testing

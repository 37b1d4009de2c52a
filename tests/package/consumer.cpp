// Initialises a model and prints what it is: the library's headers, LibTorch and the options are usable from outside.
#include <cmath>
#include <cstdio>

#include "gru4rec/base/options.h"
#include "gru4rec/base/version.h"
#include "gru4rec/comm/world.h"
#include "gru4rec/model/gru4rec.h"

int main() {
  const gru4rec::Options options;
  gru4rec::Gru4Rec model({.catalogue = 37, .embedding_size = options.embedding_size, .hidden_size = options.hidden_size});
  model.initialise(options.seed);
  double sum = 0;
  for (const float value : model.parameters()) sum += std::abs(value);
  const auto world = gru4rec::make_single();
  std::printf("gru4rec %s: %zu parameters, world of %d\n", gru4rec::kVersion, model.parameters().size(), world->size());
  return sum > 0 && world->size() == 1 ? 0 : 1;
}

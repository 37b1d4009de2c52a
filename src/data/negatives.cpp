#include "gru4rec/data/negatives.h"

#include <algorithm>
#include <cmath>

#include "gru4rec/base/error.h"

namespace gru4rec {

std::vector<uint64_t> training_popularity(const Store& store) {
  constexpr uint64_t kSessionsAtOnce = 4096;
  std::vector<uint64_t> popularity(store.info().catalogue + 1);
  std::vector<uint32_t> items;
  for (uint64_t first = 0; first < store.info().sessions; first += kSessionsAtOnce) {
    const auto shapes = store.shapes(first, std::min(kSessionsAtOnce, store.info().sessions - first));
    const uint64_t first_event = shapes.front().first_event;
    items.resize(shapes.back().first_event + shapes.back().events - first_event);
    store.read_items(first_event, items);
    for (const auto& shape : shapes) {
      if (shape.train_end < 2) continue;  // a session of valid or test
      for (uint32_t i = 0; i < shape.train_end; ++i) ++popularity[items[shape.first_event - first_event + i]];
    }
  }
  return popularity;
}

NegativeSampler::NegativeSampler(std::span<const uint64_t> popularity, double alpha)
    : catalogue_(static_cast<int64_t>(popularity.size()) - 1) {
  if (alpha == 0) return;
  double total = 0;
  for (const uint64_t events : popularity.subspan(1)) {
    if (events > 0) total += std::pow(static_cast<double>(events), alpha);
    cumulative_.push_back(total);
  }
  if (total == 0) throw BugError("no item has been seen in training: nothing to draw negatives from");
}

int64_t NegativeSampler::draw(const Stream& stream, uint64_t index) const {
  if (cumulative_.empty()) return 1 + static_cast<int64_t>(stream.below(index, static_cast<uint64_t>(catalogue_)));
  const double place = stream.uniform(index) * cumulative_.back();
  const auto found = std::upper_bound(cumulative_.begin(), cumulative_.end(), place);
  return 1 + std::min<int64_t>(found - cumulative_.begin(), catalogue_ - 1);
}

int64_t NegativeSampler::draw_except(const Stream& stream, uint64_t index, int64_t except) const {
  constexpr uint64_t kTries = 1000;  // of which all hit an item of probability 0.9 once in 10^45
  for (uint64_t attempt = 0; attempt < kTries; ++attempt) {
    const int64_t item = draw(stream, index * kTries + attempt);
    if (item != except) return item;
  }
  return except == catalogue_ ? 1 : catalogue_;
}

double NegativeSampler::probability(int64_t item) const {
  if (cumulative_.empty()) return 1.0 / static_cast<double>(catalogue_);
  const double before = item > 1 ? cumulative_[static_cast<size_t>(item - 2)] : 0.0;
  return (cumulative_[static_cast<size_t>(item - 1)] - before) / cumulative_.back();
}

}  // namespace gru4rec

// What the replicas of a rank work on, step by step: their shares of a global batch, packed, with the negatives of a sampled
// loss. They are made when a step asks for them, or ahead: by a second thread, while the step before computes.
//
//   BatchSource source(store, plan, options, /*ahead=*/true);
//   std::vector<Share> shares = source.take({epoch, batch, step});   // and the next step's are begun
#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <optional>
#include <stop_token>
#include <thread>
#include <vector>

#include "gru4rec/data/batch.h"
#include "gru4rec/data/plan.h"

namespace gru4rec {

// A step by its place in the data, and by its number, which counts on over epochs.
struct StepPlace {
  uint64_t epoch = 0;
  uint64_t batch = 0;
  int64_t step = 0;
  bool operator==(const StepPlace&) const = default;
};

// What one replica works on in a step.
struct Share {
  uint32_t replica = 0;
  Batch batch;
  Batch backward;  // the same segments from their ends, whole, where a teacher reads them
};

struct BatchOptions {
  uint32_t first_replica = 0, last_replica = 1;  // the replicas [first, last)
  uint64_t seed = 0;
  uint64_t epochs = 0;  // nothing is made ahead for later ones
  double item_dropout_prob = 0;
  Direction direction = Direction::forward;
  bool backward_too = false;
  // The negatives of a batch in a step; none: there are none. Called by either thread.
  std::function<std::vector<int64_t>(const Batch&, const StepPlace&)> draw;
};

// Local; called by one thread.
class BatchSource {
 public:
  // The store outlives it. It asks a copy of the plan, so that others may ask theirs meanwhile.
  BatchSource(const Store& store, EpochPlan plan, const BatchOptions& options, bool ahead);
  ~BatchSource() = default;
  BatchSource(const BatchSource&) = delete;
  BatchSource& operator=(const BatchSource&) = delete;

  // The shares of this rank, in the order of replicas: a pure function of the place. Any place may be asked for; ahead are made
  // those of the place that follows. Throws what reading the store and drawing throw, for these and no others.
  std::vector<Share> take(const StepPlace& place);
  // Not where it was not wanted, nor where the system has no thread for it.
  bool makes_ahead() const { return thread_.joinable(); }

 private:
  struct Made {
    std::optional<StepPlace> place;
    std::vector<Share> shares;
    std::exception_ptr error;
  };
  std::vector<Share> make(const StepPlace& place);
  StepPlace after(const StepPlace& place) const;
  Made take_what_was_made();
  void order(const StepPlace& place);
  void run(const std::stop_token& stop);

  // Of the thread that makes ahead while it does, of the caller's otherwise.
  EpochPlan plan_;
  ItemReader items_;
  const BatchOptions options_;

  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::optional<StepPlace> ordered_;  // until the thread begins
  bool making_ = false;               // and then until it has ended
  Made made_;
  std::jthread thread_;  // the last one: it ends before what it uses. None where nothing is made ahead.
};

}  // namespace gru4rec

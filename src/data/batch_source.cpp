#include "gru4rec/data/batch_source.h"

#include <system_error>
#include <utility>

namespace gru4rec {

BatchSource::BatchSource(const Store& store, EpochPlan plan, const BatchOptions& options, bool ahead)
    : plan_(std::move(plan)), items_(store), options_(options) {
  if (!ahead) return;
  try {
    thread_ = std::jthread([this](const std::stop_token& stop) { run(stop); });
  } catch (const std::system_error&) {  // no more threads are to be had: it does without
  }
}

std::vector<Share> BatchSource::make(const StepPlace& place) {
  std::vector<Share> shares;
  for (uint32_t replica = options_.first_replica; replica < options_.last_replica; ++replica) {
    const std::vector<Segment> segments = plan_.share(place.epoch, place.batch, replica);
    Share share{replica, pack(segments, items_, {options_.item_dropout_prob, options_.seed, place.epoch}, options_.direction),
                options_.backward_too ? pack(segments, items_, {}, Direction::backward) : Batch()};
    if (options_.draw) share.batch.negatives = options_.draw(share.batch, place);
    shares.push_back(std::move(share));
  }
  return shares;
}

StepPlace BatchSource::after(const StepPlace& place) const {
  const bool last = place.batch + 1 == plan_.batches(place.epoch);
  return {place.epoch + last, last ? 0 : place.batch + 1, place.step + 1};
}

std::vector<Share> BatchSource::take(const StepPlace& place) {
  Made made;
  if (thread_.joinable()) made = take_what_was_made();
  if (made.place != place) made = {place, make(place), nullptr};
  if (made.error) std::rethrow_exception(made.error);
  if (thread_.joinable())
    if (const StepPlace next = after(place); next.epoch < options_.epochs) order(next);
  return std::move(made.shares);
}

// When this returns nothing is ordered or in the making. What the thread has not begun, as where its core has other work, is
// not waited for.
BatchSource::Made BatchSource::take_what_was_made() {
  std::unique_lock lock(mutex_);
  ordered_.reset();
  changed_.wait(lock, [this] { return !making_; });
  return std::exchange(made_, {});
}

void BatchSource::order(const StepPlace& place) {
  {
    const std::lock_guard lock(mutex_);
    ordered_ = place;
  }
  changed_.notify_all();
}

void BatchSource::run(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  while (changed_.wait(lock, stop, [this] { return ordered_.has_value(); })) {
    Made made{std::exchange(ordered_, std::nullopt), {}, nullptr};
    making_ = true;
    lock.unlock();
    try {
      made.shares = make(*made.place);
    } catch (...) {
      made.error = std::current_exception();
    }
    lock.lock();
    made_ = std::move(made);
    making_ = false;
    changed_.notify_all();
  }
}

}  // namespace gru4rec

#include "gru4rec/comm/sum_thread.h"

#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>

#include "gru4rec/base/error.h"

namespace gru4rec {
namespace {

// As linux/sched/types.h has it, which contradicts sched.h of the C library where that has none of its own.
struct SchedulingPolicy {
  uint32_t bytes;
  uint32_t policy;
  uint64_t flags;
  int32_t nice;
  uint32_t priority;
  uint64_t runtime;  // ns; of a usual policy the length of a turn
  uint64_t deadline, period;
};

// Asks for turns of 0.1 ms on the processor: where backward has the core, the scheduler of Linux (from 6.12 on) then lets this
// thread have it when there is something to send, and not at the end of a turn of some ms, in which the network runs dry.
// Earlier ones, and other policies than the usual one, go on as they are.
void want_short_turns() {
  constexpr uint64_t kTurn = 100'000;  // ns, the shortest there is
  SchedulingPolicy policy{};
  if (syscall(SYS_sched_getattr, 0, &policy, sizeof policy, 0) != 0 || policy.policy != SCHED_OTHER) return;
  policy.runtime = kTurn;
  syscall(SYS_sched_setattr, 0, &policy, 0);
}

}  // namespace

// What the training thread waits for: that so many parts are summed.
class SumThread::Summed : public Transfer {
 public:
  Summed(SumThread& thread, std::size_t parts) : Transfer("ordered sum, second thread"), thread_(thread), parts_(parts) {}

  bool advance(double) override {
    const auto done = [this] { return thread_.error_ || thread_.summed_ >= parts_; };
    std::unique_lock lock(thread_.mutex_);
    thread_.changed_.wait_for(lock, std::chrono::milliseconds(20), done);
    if (thread_.error_) std::rethrow_exception(thread_.error_);
    return done();
  }
  std::vector<int> missing() const override { return thread_.main_.others(); }

 private:
  SumThread& thread_;
  const std::size_t parts_;
};

SumThread::SumThread(OrderedSum& sum, Communicator& main)
    : sum_(sum), main_(main), own_(main.for_another_thread()), thread_([this](const std::stop_token& stop) { run(stop); }) {}

void SumThread::send(std::size_t first, std::size_t last) {
  ++sent_;
  {
    const std::lock_guard lock(mutex_);
    parts_.push_back({first, last});
  }
  changed_.notify_all();
}

// Part by part: each has the whole time limit.
void SumThread::wait() {
  for (; awaited_ < sent_; ++awaited_) main_.wait(std::make_unique<Summed>(*this, awaited_ + 1));
}

void SumThread::run(const std::stop_token& stop) {
  want_short_turns();
  own_->set_wait_hook([this, &stop] {
    if (stop.stop_requested()) throw SurroundingsError("rank {} gave up the ordered sum", main_.rank());
  });
  try {
    for (FloatRange part{}; next_part(stop, part);) {
      own_->progress().report(main_.progress().step(), "sum of gradients");
      sum_.reduce(*own_, part.first, part.last);
      {
        const std::lock_guard lock(mutex_);
        ++summed_;
      }
      changed_.notify_all();
    }
  } catch (...) {
    {
      const std::lock_guard lock(mutex_);
      error_ = std::current_exception();
    }
    changed_.notify_all();
  }
}

bool SumThread::next_part(const std::stop_token& stop, FloatRange& part) {
  std::unique_lock lock(mutex_);
  if (!changed_.wait(lock, stop, [this] { return !parts_.empty(); })) return false;
  part = parts_.front();
  parts_.pop_front();
  return true;
}

}  // namespace gru4rec

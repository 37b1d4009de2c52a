// The ordered sum beside the rest of a step: a second thread, with a communicator of its own, sums parts of the gradient while
// the training thread makes the others.
//
//   SumThread sums(sum, comm);
//   …
//   sum.settle(first, last), sums.send(first, last);   // as the backward of the last replica goes on
//   …
//   sum.end(replica), sums.send(0, first), …           // what is left
//   sums.wait();                                       // sum.total() is the sum over all replicas
//
// An error of the thread ends it, and wait() throws it. Time limits and the roll are the training thread's, of its wait for
// this one as of any other: whoever answers there is well, whatever its second thread waits for.
#pragma once

#include <condition_variable>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <stop_token>
#include <thread>

#include "gru4rec/comm/communicator.h"
#include "gru4rec/comm/ordered_sum.h"

namespace gru4rec {

class SumThread {
 public:
  // Collective. `main` is the training thread's; both live longer. Throws what for_another_thread() does.
  SumThread(OrderedSum& sum, Communicator& main);
  // Its destructor is Local, and gives up what is not summed yet.

  // Collective, but returns at once. The floats [first, last) of the sum: the same parts on all ranks, in the same order.
  void send(std::size_t first, std::size_t last);
  // Collective. Until all that was sent is summed.
  void wait();

 private:
  class Summed;

  void run(const std::stop_token& stop);
  bool next_part(const std::stop_token& stop, FloatRange& part);  // false: the thread is to end

  OrderedSum& sum_;
  Communicator& main_;
  std::unique_ptr<Communicator> own_;
  std::size_t sent_ = 0, awaited_ = 0;  // parts, since the beginning; of the training thread
  std::mutex mutex_;                    // guards what follows
  std::condition_variable_any changed_;
  std::deque<FloatRange> parts_;  // that nobody has begun to sum
  std::size_t summed_ = 0;        // since the beginning
  std::exception_ptr error_;
  std::jthread thread_;  // the last one: it ends before the others do
};

}  // namespace gru4rec

#include "gru4rec/comm/threads.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>

#include "gru4rec/base/error.h"
#include "gru4rec/base/host_name.h"

namespace gru4rec {
namespace {

// A wait that ended because another rank did; never the first cause.
struct RankLost : SurroundingsError {
  using SurroundingsError::SurroundingsError;
};

// A receive that was started before its message was sent.
struct Expected {
  std::span<std::byte> bytes;
  std::size_t arrived = 0;
  bool done = false;
};

// Messages from one rank to another: either some have arrived and none is expected, or the reverse.
struct Channel {
  std::deque<std::vector<std::byte>> arrived;
  std::deque<Expected*> expected;
};

enum class Life { running, returned, failed };

struct Failure {
  int rank;
  std::exception_ptr error;
  bool lost;  // a RankLost
};

// What the ranks of one process share. Every member is guarded by `mutex`.
struct Shared {
  explicit Shared(int ranks) : size(ranks), changed(ranks), life(ranks, Life::running), answers(ranks) {}

  Channel& channel(std::size_t lane, int from, int to) {
    while (lanes.size() <= lane) lanes.emplace_back(static_cast<std::size_t>(size) * size);
    return lanes[lane][static_cast<std::size_t>(from) * size + to];
  }
  void wake_all() {
    for (auto& one : changed) one.notify_all();
  }

  const int size;
  std::mutex mutex;
  std::deque<std::vector<Channel>> lanes;        // the first is that of run_ranks, one more of each for_another_thread()
  std::vector<std::condition_variable> changed;  // by waiting rank
  std::vector<Life> life;
  std::vector<Failure> failures;  // in order of time
  bool roll = false;              // somebody has called it
  Answers answers;
};

class ThreadTransfer : public Transfer {
 public:
  ThreadTransfer(Shared& shared, std::size_t lane, int rank, const char* primitive, std::span<const Outgoing> out,
                 std::span<const Incoming> in)
      : shared_(shared), lane_(lane), rank_(rank), name_(primitive), expected_(in.size()) {
    const std::lock_guard lock(shared_.mutex);
    for (const Outgoing& message : out) send(message);
    for (std::size_t i = 0; i < in.size(); ++i) {
      peers_.push_back(in[i].peer);
      receive(in[i], expected_[i]);
    }
  }

  ~ThreadTransfer() override {  // a wait that failed takes its memory back
    const std::lock_guard lock(shared_.mutex);
    for (std::size_t i = 0; i < expected_.size(); ++i)
      if (!expected_[i].done) std::erase(shared_.channel(lane_, peers_[i], rank_).expected, &expected_[i]);
  }

  bool advance(double) override {
    std::unique_lock lock(shared_.mutex);
    if (complete()) return true;
    refuse_lost_ranks();
    shared_.changed[rank_].wait_for(lock, std::chrono::milliseconds(20));
    return complete();
  }

  std::vector<int> missing() const override {
    const std::lock_guard lock(shared_.mutex);
    return missing_unlocked();
  }

 private:
  void send(const Outgoing& message) {
    Channel& channel = shared_.channel(lane_, rank_, message.peer);
    if (channel.expected.empty()) {
      channel.arrived.emplace_back(message.bytes.begin(), message.bytes.end());
      return;
    }
    deliver(message.bytes, *channel.expected.front());
    channel.expected.pop_front();
    shared_.changed[message.peer].notify_all();
  }

  void receive(const Incoming& message, Expected& expected) {
    expected.bytes = message.bytes;
    Channel& channel = shared_.channel(lane_, message.peer, rank_);
    if (channel.arrived.empty()) {
      channel.expected.push_back(&expected);
      return;
    }
    deliver(channel.arrived.front(), expected);
    channel.arrived.pop_front();
  }

  static void deliver(std::span<const std::byte> bytes, Expected& expected) {
    expected.arrived = bytes.size();
    expected.done = true;
    if (bytes.size() == expected.bytes.size()) std::memcpy(expected.bytes.data(), bytes.data(), bytes.size());
  }

  bool complete() const {
    bool all = true;
    for (std::size_t i = 0; i < expected_.size(); ++i) {
      const Expected& one = expected_[i];
      all = all && one.done;
      if (one.done && one.arrived != one.bytes.size())
        throw BugError("{}: rank {} sent {} bytes to rank {}, which wanted {}; both must pass the same sizes", name_, peers_[i],
                       one.arrived, rank_, one.bytes.size());
    }
    return all;
  }

  std::vector<int> missing_unlocked() const {
    std::vector<bool> open(shared_.size, false);
    for (std::size_t i = 0; i < expected_.size(); ++i)
      if (!expected_[i].done) open[peers_[i]] = true;
    std::vector<int> peers;
    for (int rank = 0; rank < shared_.size; ++rank)
      if (open[rank]) peers.push_back(rank);
    return peers;
  }

  void refuse_lost_ranks() const {
    for (int rank = 0; rank < shared_.size; ++rank)
      if (shared_.life[rank] == Life::failed)
        throw RankLost("{}: rank {} of {} cannot go on, because rank {} ended with an error", name_, rank_, shared_.size, rank);
    for (const int rank : missing_unlocked())
      if (shared_.life[rank] == Life::returned)
        throw RankLost("{}: rank {} of {} waits for rank {}, which has already returned; all ranks must make the same calls",
                       name_, rank_, shared_.size, rank);
  }

  Shared& shared_;
  const std::size_t lane_;
  const int rank_;
  const char* name_;
  std::vector<Expected> expected_;  // never grows: channels point into it
  std::vector<int> peers_;          // of expected_
};

class ThreadCommunicator : public Communicator {
 public:
  ThreadCommunicator(Shared& shared, std::size_t lane, int rank, std::vector<RankInfo> ranks, const CommOptions& options)
      : Communicator("threads", rank, std::move(ranks), options), shared_(shared), lane_(lane) {}

  std::unique_ptr<Communicator> for_another_thread() override {
    if (lane_ > 0) return Communicator::for_another_thread();
    return std::make_unique<ThreadCommunicator>(shared_, next_lane_++, rank(), ranks(), options_for_another_thread());
  }

  [[noreturn]] void abort(int exit_code) override {
    throw Error(exit_code, fmt::format("rank {} ended the job with exit code {}", rank(), exit_code));
  }

 protected:
  std::unique_ptr<Transfer> post(const char* primitive, std::span<const Outgoing> out, std::span<const Incoming> in) override {
    return std::make_unique<ThreadTransfer>(shared_, lane_, rank(), primitive, out, in);
  }

  bool roll_called() override {
    if (lane_ > 0) return false;
    const std::lock_guard lock(shared_.mutex);
    return shared_.roll;
  }

  Answers roll_call(const Whereabouts& mine, double seconds) override {
    std::unique_lock lock(shared_.mutex);
    shared_.roll = true;
    shared_.answers[rank()] = mine;
    shared_.wake_all();
    const auto all_here = [this] {
      return std::all_of(shared_.answers.begin(), shared_.answers.end(), [](const auto& answer) { return answer.has_value(); });
    };
    shared_.changed[rank()].wait_for(lock, std::chrono::duration<double>(seconds), all_here);
    return shared_.answers;
  }

 private:
  Shared& shared_;
  const std::size_t lane_;
  std::size_t next_lane_ = 1;
};

void run_one(Shared& shared, Communicator& comm, const std::function<void(Communicator&)>& body) {
  Failure failure{comm.rank(), nullptr, false};
  try {
    body(comm);
  } catch (const RankLost&) {
    failure.error = std::current_exception();
    failure.lost = true;
  } catch (...) {
    failure.error = std::current_exception();
  }
  const std::lock_guard lock(shared.mutex);
  shared.life[comm.rank()] = failure.error ? Life::failed : Life::returned;
  if (failure.error) shared.failures.push_back(failure);
  shared.wake_all();
}

std::pair<int, std::string> code_and_text(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const std::exception& known) {
    return {exit_code_of(known), known.what()};
  } catch (...) {
    return {kExitBug, "an exception of unknown type"};
  }
}

[[noreturn]] void rethrow(const Shared& shared) {
  auto first = std::find_if(shared.failures.begin(), shared.failures.end(), [](const Failure& f) { return !f.lost; });
  if (first == shared.failures.end()) first = shared.failures.begin();
  const auto [code, cause] = code_and_text(first->error);
  std::string text = fmt::format("rank {} of {}: {}", first->rank, shared.size, cause);
  for (auto other = shared.failures.begin(); other != shared.failures.end(); ++other)
    if (other != first && !other->lost) text += fmt::format(" | rank {}: {}", other->rank, code_and_text(other->error).second);
  switch (code) {
    case kExitUser:
      throw UserError(text);
    case kExitSurroundings:
      throw SurroundingsError(text);
    case kExitBug:
      throw BugError(text);
    default:
      throw Error(code, text);
  }
}

}  // namespace

void run_ranks(int ranks, const CommOptions& options, const std::function<void(Communicator&)>& body) {
  if (ranks < 1) throw BugError("run_ranks got {} ranks; it wants at least one", ranks);
  Shared shared(ranks);
  std::vector<RankInfo> infos;
  for (int rank = 0; rank < ranks; ++rank) infos.push_back({host_name(), getpid(), rank});
  std::vector<std::unique_ptr<ThreadCommunicator>> comms;
  for (int rank = 0; rank < ranks; ++rank)
    comms.push_back(std::make_unique<ThreadCommunicator>(shared, 0, rank, infos, options));
  {
    std::vector<std::jthread> threads;
    for (int rank = 0; rank < ranks; ++rank) threads.emplace_back([&, rank] { run_one(shared, *comms[rank], body); });
  }
  if (!shared.failures.empty()) rethrow(shared);
}

void run_ranks(int ranks, const std::function<void(Communicator&)>& body) { run_ranks(ranks, CommOptions{}, body); }

}  // namespace gru4rec

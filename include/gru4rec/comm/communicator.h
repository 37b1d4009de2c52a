// Communicator: what ranks say to each other, over one narrow set of primitives.
//
// "Collective" means that every rank of the communicator calls the function, in the same order, with sizes that agree; "Local"
// means that it concerns the calling rank only. Everything a backend has to provide is a set of point-to-point messages that
// are started together and polled (Communicator::post); the collectives are written once, over direct messages from rank to
// rank, so that a wait always knows exactly whose message is missing. Where all ranks are processes that read each other's
// memory, short values of all_gather() lie there instead (share_notes()), and are waited for alike.
//
// Waiting. No call blocks without limit. A wait that lasts longer than CommOptions::timeout calls the roll: ranks that are in a
// wait themselves answer with their step and operation, and a rank that is stopped, stuck in its own code or cut off cannot.
// Then every rank that answered throws the same SurroundingsError, which names the silent ones by rank, host and pid, and
// `main` ends the job with code 3. After an error in a wait the communicator is unusable: each further call throws, and memory
// handed to it may still be written until the process ends.
//
// Threads. One thread uses a communicator; another thread of its rank gets one of its own (for_another_thread). `progress()`
// may be read by any.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

namespace gru4rec {

// Settings of a communicator; equal on all ranks.
struct CommOptions {
  double timeout = 600.0;                          // seconds without progress after which a rank is taken for lost
  std::size_t chunk_bytes = std::size_t{1} << 30;  // longer messages travel in pieces of this size (MPI counts are ints)
};

// Who a rank is, for messages and the start-up block.
struct RankInfo {
  std::string host;
  int64_t pid = 0;
  int local_rank = 0;  // among the ranks that share this rank's memory
};

// Where a rank is. Its training thread writes, its watchdog and error messages read. Thread-safe. Local.
//
//   comm.progress().report(state.step, "backward");
class Progress {
 public:
  // `operation` must be a string literal (it is read by another thread at any later time).
  void report(int64_t step, const char* operation) {
    step_.store(step, std::memory_order_relaxed);
    operation_.store(operation, std::memory_order_relaxed);
    beat();
  }
  void beat() { beats_.fetch_add(1, std::memory_order_release); }
  void set_waiting(bool waiting) { waiting_.store(waiting, std::memory_order_relaxed); }

  int64_t step() const { return step_.load(std::memory_order_relaxed); }  // -1: before the first report
  const char* operation() const { return operation_.load(std::memory_order_relaxed); }
  uint64_t beats() const { return beats_.load(std::memory_order_acquire); }
  bool waiting() const { return waiting_.load(std::memory_order_relaxed); }  // inside a wait of the communicator

 private:
  std::atomic<int64_t> step_{-1};
  std::atomic<const char*> operation_{"start-up"};
  std::atomic<uint64_t> beats_{0};
  std::atomic<bool> waiting_{false};
};

// One message to, or from, another rank. Messages between two ranks arrive in the order in which they were started.
struct Outgoing {
  int peer;
  std::span<const std::byte> bytes;
};
struct Incoming {
  int peer;
  std::span<std::byte> bytes;  // the sender must send exactly as many
};

// Messages under way; made by Communicator::start. The memory they refer to stays untouched until Communicator::wait returns.
class Transfer {
 public:
  virtual ~Transfer() = default;
  explicit Transfer(const char* primitive = "") : primitive_(primitive) {}  // a string literal; set anew by start()
  Transfer(const Transfer&) = delete;
  Transfer& operator=(const Transfer&) = delete;

  // Makes progress, resting a little if there is none; true when every message is done. `waited`: seconds so far. Local.
  virtual bool advance(double waited) = 0;
  // The ranks whose messages are not complete, rising. Local.
  virtual std::vector<int> missing() const = 0;

 private:
  friend class Communicator;
  const char* primitive_;
};

// What a rank answers to the roll: where it is and on whom it waits. By rank; empty: silent.
struct Whereabouts {
  int64_t step = -1;
  int32_t waits_for = -1;  // lowest missing rank
  char operation[64] = {};
  char primitive[32] = {};
};
using Answers = std::vector<std::optional<Whereabouts>>;

class NearNotes;

class Communicator {
 public:
  virtual ~Communicator();
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  // Local -------------------------------------------------------------------------------------------------------------------
  int rank() const { return rank_; }
  int size() const { return static_cast<int>(ranks_.size()); }
  int local_rank() const { return ranks_[rank_].local_rank; }
  const std::string& host() const { return ranks_[rank_].host; }
  const char* name() const { return name_; }                     // "single", "threads", "mpi", "nccl"
  const std::vector<RankInfo>& ranks() const { return ranks_; }  // by rank, agreed at start-up
  std::string describe(int rank) const;                          // "rank 2 (host node7, pid 4711)"
  std::vector<int> others() const;                               // all ranks but this one, rising
  const CommOptions& options() const { return options_; }
  // The time limit is known only after rank 0 has told all its options; equal on all ranks.
  void set_timeout(double seconds) { options_.timeout = seconds; }
  Progress& progress() { return *progress_; }
  const Progress& progress() const { return *progress_; }
  // Whether messages may lie in the memory of this rank's GPU.
  virtual bool carries_device_memory() const { return false; }
  // Whether add_natively() is there.
  virtual bool adds_natively() const { return false; }
  // Called again and again while a wait lasts; may throw to end it.
  void set_wait_hook(std::function<void()> hook) { hook_ = std::move(hook); }
  // Ends the job with this exit code: all ranks, without waiting for them. The `threads` backend ends the other ranks' waits
  // with an error and throws.
  [[noreturn]] virtual void abort(int exit_code) = 0;

  // Collective --------------------------------------------------------------------------------------------------------------
  // The same ranks for another thread of this rank: its messages meet those of the communicators that the other ranks made by
  // the same call. A wait of it has no time limit and neither calls nor answers the roll, which stay with the thread that has
  // this one, so that a rank is heard as long as that thread is well; a wait hook ends it. Throws UserError where the library
  // takes calls from one thread only, BugError where the backend has nothing of the kind (nccl, single).
  virtual std::unique_ptr<Communicator> for_another_thread();

  // The ranks that pass the same `group`, in their order, as a world of their own, with its own rank numbers. Throws BugError
  // where the backend has nothing of the kind (nccl, threads).
  virtual std::unique_ptr<Communicator> split(int group);

  // Any set of messages; each Outgoing meets an Incoming of equal size on the peer, in order. Empty messages do not travel.
  void transfer(const char* primitive, std::span<const Outgoing> out, std::span<const Incoming> in);
  // The same in two halves, so that work fits between them; every start is waited for, in any order.
  std::unique_ptr<Transfer> start(const char* primitive, std::span<const Outgoing> out, std::span<const Incoming> in);
  void wait(std::unique_ptr<Transfer> transfer);

  // Returns when every rank has called it.
  void barrier();

  // Adds `values` over the ranks, in place, in whatever order the backend's library takes; equal lengths everywhere. Only where
  // adds_natively().
  void add_natively(std::span<float> values);

  // Collective among the two ranks: sends `send` to `peer` and receives what it sends to us. `peer` may be this rank.
  template <typename T>
  void exchange(int peer, std::span<const T> send, std::span<T> receive) {
    exchange_bytes(peer, std::as_bytes(send), bytes_of(receive));
  }

  // `data` of `root` arrives in `data` of all others; equal lengths everywhere.
  template <typename T>
  void broadcast(int root, std::span<T> data) {
    broadcast_bytes(root, bytes_of(data));
  }

  // The parts of `send` go to the ranks in order, send_counts[r] elements to rank r; receive_counts[r] elements from rank r
  // arrive in `receive`, in rank order. Counts must agree in pairs.
  template <typename T>
  void all_to_all_v(std::span<const T> send, std::span<const std::size_t> send_counts, std::span<T> receive,
                    std::span<const std::size_t> receive_counts) {
    all_to_all_v_bytes(std::as_bytes(send), send_counts, bytes_of(receive), receive_counts, sizeof(T));
  }

  // `mine` of every rank, counts[r] elements of rank r, arrives everywhere in `all`, in rank order. `mine` may lie in `all` at
  // its own place.
  template <typename T>
  void all_gather_v(std::span<const T> mine, std::span<const std::size_t> counts, std::span<T> all) {
    all_gather_v_bytes(std::as_bytes(mine), counts, bytes_of(all), sizeof(T));
  }

  // Values of the same length: of rank r from all[r · mine.size()] on. Where ranks of one host share memory, short ones go by
  // way of it. What a rank has written before to memory that others read, they find there when it returns.
  template <typename T>
  void all_gather(const char* primitive, std::span<const T> mine, std::span<T> all) {
    all_gather_bytes(primitive, std::as_bytes(mine), bytes_of(all));
  }

  // One value of each rank, in rank order.
  template <typename T>
  std::vector<T> all_gather(const T& value) {
    std::vector<T> all(ranks_.size());
    all_gather("all_gather", std::span<const T>(&value, 1), std::span<T>(all));
    return all;
  }

  // The text of each rank, in rank order; lengths may differ.
  std::vector<std::string> all_gather_text(const std::string& text);
  // The text of `root`, of any length.
  std::string broadcast_text(int root, const std::string& text);

 protected:
  Communicator(const char* name, int rank, std::vector<RankInfo> ranks, CommOptions options);
  CommOptions options_for_another_thread() const;
  // Collective. From then on short values go by way of memory that ranks share, if all of them can. Of processes only: nobody
  // who waits for a note hears that a thread has ended.
  void share_notes();

  // Starts messages to and from other ranks, none empty or longer than chunk_bytes. Local.
  virtual std::unique_ptr<Transfer> post(const char* primitive, std::span<const Outgoing> out,
                                         std::span<const Incoming> in) = 0;
  // Starts add_natively() of values that are not empty. Local.
  virtual std::unique_ptr<Transfer> post_sum(std::span<float> values);
  // Delivers what a rank sends to itself; the two may overlap. Local.
  virtual void copy(std::byte* to, const std::byte* from, std::size_t bytes);
  // Whether another rank has called the roll. Cheap; Local.
  virtual bool roll_called() = 0;
  // Answers the roll, and collects the others' answers for `seconds`. Local.
  virtual Answers roll_call(const Whereabouts& mine, double seconds) = 0;

  std::vector<RankInfo> ranks_;

 private:
  friend class NcclCommunicator;  // leaves the roll, and what is in the memory of the host, to another communicator

  template <typename T>
  static std::span<std::byte> bytes_of(std::span<T> values) {
    static_assert(std::is_trivially_copyable_v<T>, "only plain values travel between ranks");
    return std::as_writable_bytes(values);
  }

  void exchange_bytes(int peer, std::span<const std::byte> send, std::span<std::byte> receive);
  void broadcast_bytes(int root, std::span<std::byte> data);
  void all_to_all_v_bytes(std::span<const std::byte> send, std::span<const std::size_t> send_counts,
                          std::span<std::byte> receive, std::span<const std::size_t> receive_counts, std::size_t width);
  void all_gather_v_bytes(std::span<const std::byte> mine, std::span<const std::size_t> counts, std::span<std::byte> all,
                          std::size_t width);
  void all_gather_bytes(const char* primitive, std::span<const std::byte> mine, std::span<std::byte> all);
  void copy_own(const char* primitive, std::span<const Outgoing> out, std::span<const Incoming> in);
  void poll(Transfer& transfer);
  [[noreturn]] void give_up(const Transfer& transfer, double waited);
  void refuse_if_broken() const;

  const char* name_;
  int rank_;
  CommOptions options_;
  std::shared_ptr<Progress> progress_ = std::make_shared<Progress>();
  std::function<void()> hook_;
  std::string broken_;  // the error that made this communicator unusable
  std::unique_ptr<NearNotes> notes_;
};

}  // namespace gru4rec

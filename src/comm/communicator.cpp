#include "gru4rec/comm/communicator.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <numeric>

#include "gru4rec/base/error.h"
#include "near_notes.h"
#include "text.h"
#include "wait_clock.h"

namespace gru4rec {
namespace {

struct WaitingMark {
  explicit WaitingMark(Progress& shared) : progress(shared) { progress.set_waiting(true); }
  ~WaitingMark() { progress.set_waiting(false); }
  Progress& progress;
};

template <std::size_t N>
void copy_text(char (&field)[N], std::string_view text) {
  const std::size_t length = std::min(text.size(), N - 1);
  std::memcpy(field, text.data(), length);
  std::memset(field + length, 0, N - length);
}

// Cuts messages to other ranks into pieces of at most `limit` bytes; drops empty ones and those to `self`.
template <typename Message>
std::vector<Message> pieces(std::span<const Message> messages, int self, std::size_t limit) {
  std::vector<Message> cut;
  for (const Message& message : messages) {
    if (message.peer == self) continue;
    for (std::size_t at = 0; at < message.bytes.size(); at += limit)
      cut.push_back({message.peer, message.bytes.subspan(at, std::min(limit, message.bytes.size() - at))});
  }
  return cut;
}

std::vector<std::size_t> offsets_of(std::span<const std::size_t> counts) {
  std::vector<std::size_t> offsets(counts.size() + 1, 0);
  std::partial_sum(counts.begin(), counts.end(), offsets.begin() + 1);
  return offsets;
}

void check_counts(const char* primitive, std::span<const std::size_t> counts, int size, std::size_t elements) {
  const std::size_t total = std::accumulate(counts.begin(), counts.end(), std::size_t{0});
  if (static_cast<int>(counts.size()) == size && total == elements) return;
  throw BugError("{}: got {} counts that add up to {}, wanted {} (one a rank) that add up to the {} elements given", primitive,
                 counts.size(), total, size, elements);
}

}  // namespace

Communicator::Communicator(const char* name, int rank, std::vector<RankInfo> ranks, CommOptions options)
    : ranks_(std::move(ranks)), name_(name), rank_(rank), options_(std::move(options)) {
  if (options_.timeout <= 0.0) throw BugError("comm_timeout is {}; it must be above 0 seconds", options_.timeout);
  if (options_.chunk_bytes == 0 || options_.chunk_bytes > (std::size_t{1} << 30))
    throw BugError("chunk_bytes is {}; it must lie in 1 … 2^30", options_.chunk_bytes);
}

Communicator::~Communicator() = default;

void Communicator::share_notes() { notes_ = NearNotes::between(*this); }

std::string Communicator::describe(int rank) const {
  const RankInfo& info = ranks_.at(static_cast<std::size_t>(rank));
  return fmt::format("rank {} (host {}, pid {})", rank, info.host, info.pid);
}

std::vector<int> Communicator::others() const {
  std::vector<int> ranks;
  for (int rank = 0; rank < size(); ++rank)
    if (rank != rank_) ranks.push_back(rank);
  return ranks;
}

void Communicator::refuse_if_broken() const {
  if (!broken_.empty()) throw SurroundingsError("rank {} cannot communicate any more after: {}", rank_, broken_);
}

// Delivers what a rank sends to itself.
void Communicator::copy_own(const char* primitive, std::span<const Outgoing> out, std::span<const Incoming> in) {
  auto next = in.begin();
  const auto skip = [&] { next = std::find_if(next, in.end(), [&](const Incoming& m) { return m.peer == rank_; }); };
  skip();
  for (const Outgoing& message : out) {
    if (message.peer != rank_) continue;
    if (next == in.end() || next->bytes.size() != message.bytes.size())
      throw BugError("{}: rank {} sends itself {} bytes and expects {}; the two must be equal", primitive, rank_,
                     message.bytes.size(), next == in.end() ? 0 : next->bytes.size());
    if (!message.bytes.empty()) copy(next->bytes.data(), message.bytes.data(), message.bytes.size());
    ++next;
    skip();
  }
  if (next != in.end()) throw BugError("{}: rank {} expects a message from itself that it does not send", primitive, rank_);
}

void Communicator::copy(std::byte* to, const std::byte* from, std::size_t bytes) { std::memmove(to, from, bytes); }

std::unique_ptr<Communicator> Communicator::for_another_thread() {
  throw BugError("for_another_thread: {} has no communicator for a second thread", name_);
}

std::unique_ptr<Communicator> Communicator::split(int) { throw BugError("split: {} cannot be split", name_); }

CommOptions Communicator::options_for_another_thread() const {
  CommOptions other = options_;
  other.timeout = std::numeric_limits<double>::infinity();
  return other;
}

std::unique_ptr<Transfer> Communicator::post_sum(std::span<float>) {
  throw BugError("add_natively: {} has no sum of its own", name_);
}

std::unique_ptr<Transfer> Communicator::start(const char* primitive, std::span<const Outgoing> out,
                                              std::span<const Incoming> in) {
  refuse_if_broken();
  const auto known = [this](const auto& message) { return message.peer >= 0 && message.peer < size(); };
  if (!std::all_of(out.begin(), out.end(), known) || !std::all_of(in.begin(), in.end(), known))
    throw BugError("{}: a message names a rank outside 0 … {}", primitive, size() - 1);
  copy_own(primitive, out, in);
  auto transfer = post(primitive, pieces(out, rank_, options_.chunk_bytes), pieces(in, rank_, options_.chunk_bytes));
  transfer->primitive_ = primitive;
  return transfer;
}

void Communicator::wait(std::unique_ptr<Transfer> transfer) {
  refuse_if_broken();
  try {
    poll(*transfer);
  } catch (const std::exception& error) {
    broken_ = error.what();
    throw;
  }
  progress_->beat();
}

void Communicator::transfer(const char* primitive, std::span<const Outgoing> out, std::span<const Incoming> in) {
  wait(start(primitive, out, in));
}

void Communicator::add_natively(std::span<float> values) {
  refuse_if_broken();
  if (values.empty()) return;
  auto transfer = post_sum(values);
  transfer->primitive_ = "native sum";
  wait(std::move(transfer));
}

void Communicator::poll(Transfer& transfer) {
  if (transfer.advance(0.0)) return;
  const WaitingMark mark(*progress_);
  WaitClock clock;
  double waited = 0.0;
  while (!transfer.advance(waited)) {
    if (hook_) hook_();
    waited = clock.look();
    if (waited > options_.timeout || roll_called()) give_up(transfer, waited);
  }
}

void Communicator::give_up(const Transfer& transfer, double waited) {
  const std::vector<int> missing = transfer.missing();
  Whereabouts mine;
  mine.step = progress_->step();
  mine.waits_for = missing.empty() ? -1 : missing.front();
  copy_text(mine.operation, progress_->operation());
  copy_text(mine.primitive, transfer.primitive_);
  const Answers answers = roll_call(mine, std::clamp(options_.timeout / 10, 0.5, 10.0));

  std::vector<std::string> silent, waiting;
  for (int rank = 0; rank < size(); ++rank) {
    const auto& answer = answers[static_cast<std::size_t>(rank)];
    if (!answer) {
      silent.push_back(fmt::format("{} has not reported", describe(rank)));
    } else {
      waiting.push_back(fmt::format("rank {} in '{}' ({}) of step {} for rank {}", rank, answer->operation, answer->primitive,
                                    answer->step, answer->waits_for));
    }
  }
  const std::string where = fmt::format("rank {} of {} on host {} waited {:.1f} s in {} for rank {}", rank_, size(), host(),
                                        waited, transfer.primitive_, join(numbers(missing), ", "));
  if (silent.empty())
    throw SurroundingsError(
        "the ranks wait for each other: {}; {}. Messages were lost or the ranks took different ways: check the network and "
        "that all hosts run the same program and configuration, then start again with --resume.",
        join(waiting, "; "), where);
  throw SurroundingsError(
      "{} since step {}, operation '{}': {}, and {} did not answer. It is stopped, stuck, cut off or slower than "
      "comm_timeout ({} s): look at that process, then start again with --resume, or raise comm_timeout.",
      join(silent, "; "), mine.step, mine.operation, where, silent.size() == 1 ? "that rank" : "those ranks", options_.timeout);
}

void Communicator::barrier() {
  const std::byte token{1};
  std::vector<std::byte> tokens(ranks_.size());
  std::vector<Outgoing> out;
  std::vector<Incoming> in;
  for (int peer = 0; peer < size(); ++peer) {
    out.push_back({peer, {&token, 1}});
    in.push_back({peer, {&tokens[static_cast<std::size_t>(peer)], 1}});
  }
  transfer("barrier", out, in);
}

void Communicator::exchange_bytes(int peer, std::span<const std::byte> send, std::span<std::byte> receive) {
  const Outgoing out{peer, send};
  const Incoming in{peer, receive};
  transfer("exchange", {&out, 1}, {&in, 1});
}

// Two rounds: the root deals slices to the ranks, then each passes its slice on, so that the root sends the data once and not
// W - 1 times. (van de Geijn's scatter and all-gather.) Short data goes directly.
void Communicator::broadcast_bytes(int root, std::span<std::byte> data) {
  constexpr std::size_t kShort = 16384;
  std::vector<Outgoing> out;
  std::vector<Incoming> in;
  if (data.size() <= kShort || size() == 2) {
    for (int peer = 0; peer < size() && rank_ == root; ++peer)
      if (peer != root) out.push_back({peer, data});
    if (rank_ != root) in.push_back({root, data});
    transfer("broadcast", out, in);
    return;
  }
  const auto ranks = static_cast<std::size_t>(size());
  const auto slice = [&](int rank) {
    const auto index = static_cast<std::size_t>(rank);
    const std::size_t first = data.size() * index / ranks;
    return data.subspan(first, data.size() * (index + 1) / ranks - first);
  };
  for (int peer = 0; peer < size() && rank_ == root; ++peer)
    if (peer != root) out.push_back({peer, slice(peer)});
  if (rank_ != root) in.push_back({root, slice(rank_)});
  transfer("broadcast", out, in);
  out.clear();
  in.clear();
  for (int peer = 0; peer < size(); ++peer) {
    if (peer == rank_) continue;
    if (peer != root) out.push_back({peer, slice(rank_)});
    if (rank_ != root) in.push_back({peer, slice(peer)});
  }
  transfer("broadcast", out, in);
}

void Communicator::all_to_all_v_bytes(std::span<const std::byte> send, std::span<const std::size_t> send_counts,
                                      std::span<std::byte> receive, std::span<const std::size_t> receive_counts,
                                      std::size_t width) {
  check_counts("all_to_all_v", send_counts, size(), send.size() / width);
  check_counts("all_to_all_v", receive_counts, size(), receive.size() / width);
  const std::vector<std::size_t> send_at = offsets_of(send_counts), receive_at = offsets_of(receive_counts);
  std::vector<Outgoing> out;
  std::vector<Incoming> in;
  for (int peer = 0; peer < size(); ++peer) {
    const auto index = static_cast<std::size_t>(peer);
    out.push_back({peer, send.subspan(send_at[index] * width, send_counts[index] * width)});
    in.push_back({peer, receive.subspan(receive_at[index] * width, receive_counts[index] * width)});
  }
  transfer("all_to_all_v", out, in);
}

void Communicator::all_gather_v_bytes(std::span<const std::byte> mine, std::span<const std::size_t> counts,
                                      std::span<std::byte> all, std::size_t width) {
  check_counts("all_gather_v", counts, size(), all.size() / width);
  const std::vector<std::size_t> at = offsets_of(counts);
  std::vector<Outgoing> out;
  std::vector<Incoming> in;
  for (int peer = 0; peer < size(); ++peer) {
    const auto index = static_cast<std::size_t>(peer);
    out.push_back({peer, mine});
    in.push_back({peer, all.subspan(at[index] * width, counts[index] * width)});
  }
  transfer("all_gather_v", out, in);
}

void Communicator::all_gather_bytes(const char* primitive, std::span<const std::byte> mine, std::span<std::byte> all) {
  if (all.size() != mine.size() * ranks_.size())
    throw BugError("{}: got room for {} bytes, wanted {} for each of {} ranks", primitive, all.size(), mine.size(), size());
  if (notes_ && mine.size() <= NearNotes::kMostBytes) {
    refuse_if_broken();
    notes_->exchange(*this, primitive, mine, all);
    return;
  }
  std::vector<Outgoing> out;
  std::vector<Incoming> in;
  for (int peer = 0; peer < size(); ++peer) {
    out.push_back({peer, mine});
    in.push_back({peer, all.subspan(static_cast<std::size_t>(peer) * mine.size(), mine.size())});
  }
  transfer(primitive, out, in);
}

std::vector<std::string> Communicator::all_gather_text(const std::string& text) {
  const std::vector<std::size_t> lengths = all_gather(text.size());
  std::string joined(std::accumulate(lengths.begin(), lengths.end(), std::size_t{0}), '\0');
  all_gather_v(std::span<const char>(text), std::span<const std::size_t>(lengths), std::span<char>(joined));
  std::vector<std::string> texts;
  std::size_t at = 0;
  for (const std::size_t length : lengths) {
    texts.push_back(joined.substr(at, length));
    at += length;
  }
  return texts;
}

std::string Communicator::broadcast_text(int root, const std::string& text) {
  std::size_t length = text.size();
  broadcast(root, std::span<std::size_t>(&length, 1));
  std::string copy = rank_ == root ? text : std::string(length, '\0');
  broadcast(root, std::span<char>(copy));
  return copy;
}

}  // namespace gru4rec

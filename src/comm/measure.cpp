#include "gru4rec/comm/measure.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <limits>
#include <utility>

#include "gru4rec/base/error.h"
#include "gru4rec/comm/ordered_sum.h"

namespace gru4rec {
namespace {

constexpr int kMostPairedRanks = 8;      // above, not every pair
constexpr double kSecondsOfTrips = 0.3;  // about as long as one pair is timed; the first trips are slower
constexpr int kLeastTrips = 2, kMostTrips = 2000, kClockTrips = 30;
constexpr int kSums = 3;
constexpr double kNever = std::numeric_limits<double>::infinity();

// Seconds of a clock that only goes forward; and since 1970, which is what hosts have in common.
double ticks() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }
double wall_clock() { return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count(); }

// Collective among the two ranks: `data` goes one way.
void send(Communicator& comm, int peer, std::span<const std::byte> data) {
  const Outgoing out{peer, data};
  comm.transfer("measurement", {&out, 1}, {});
}
void receive(Communicator& comm, int peer, std::span<std::byte> data) {
  const Incoming in{peer, data};
  comm.transfer("measurement", {}, {&in, 1});
}

// How much longer the two go on is for the one to say who looks at the clock: the first byte of each message.
constexpr std::byte kMore{1}, kLast{0};

double drive_trips(Communicator& comm, int peer, std::vector<std::byte>& data) {
  const double begin = ticks();
  double best = kNever;
  for (int trip = 1;; ++trip) {
    const double before = ticks();
    const bool last = trip == kMostTrips || (trip >= kLeastTrips && before - begin > kSecondsOfTrips);
    data[0] = last ? kLast : kMore;
    send(comm, peer, data);
    receive(comm, peer, data);
    best = std::min(best, ticks() - before);
    if (last) return best;
  }
}

void answer_trips(Communicator& comm, int peer, std::vector<std::byte>& data) {
  do {
    receive(comm, peer, data);
    send(comm, peer, data);
  } while (data[0] != kLast);
}

std::vector<std::pair<int, int>> pairs_of(int ranks) {
  std::vector<std::pair<int, int>> pairs;
  for (int first = 0; first < ranks; ++first)
    for (int second = first + 1; second < ranks; ++second)
      if (ranks <= kMostPairedRanks || second == first + 1 || second == first + ranks / 2) pairs.emplace_back(first, second);
  return pairs;
}

// Of `peer`, as rank 0 sees it.
double clock_of(Communicator& comm, int peer) {
  double shortest = kNever, offset = 0;
  for (int trip = 0; trip < kClockTrips; ++trip) {
    double theirs = 0;
    const double before = ticks(), at = wall_clock();
    send(comm, peer, std::as_bytes(std::span(&theirs, 1)));
    receive(comm, peer, std::as_writable_bytes(std::span(&theirs, 1)));
    const double took = ticks() - before;
    if (took >= shortest) continue;
    shortest = took;
    offset = theirs - (at + took / 2);
  }
  return offset;
}

void tell_clock(Communicator& comm) {
  for (int trip = 0; trip < kClockTrips; ++trip) {
    double mine = 0;
    receive(comm, 0, std::as_writable_bytes(std::span(&mine, 1)));
    mine = wall_clock();
    send(comm, 0, std::as_bytes(std::span(&mine, 1)));
  }
}

}  // namespace

std::vector<double> clock_offsets(Communicator& comm) {
  std::vector<double> offsets(static_cast<std::size_t>(comm.size()), 0.0);
  for (int rank = 1; rank < comm.size(); ++rank) {
    if (comm.rank() == 0) offsets[static_cast<std::size_t>(rank)] = clock_of(comm, rank);
    if (comm.rank() == rank) tell_clock(comm);
  }
  comm.broadcast(0, std::span<double>(offsets));
  return offsets;
}

std::vector<PairTime> time_pairs(Communicator& comm, std::size_t bytes) {
  std::vector<std::byte> data(bytes);
  std::vector<PairTime> times;
  for (const auto& [first, second] : pairs_of(comm.size())) {
    double round_trip = 0;
    if (comm.rank() == first) round_trip = drive_trips(comm, second, data);
    if (comm.rank() == second) answer_trips(comm, first, data);
    comm.broadcast(first, std::span<double>(&round_trip, 1));
    times.push_back({first, second, round_trip / 2});
  }
  return times;
}

double time_ordered_sum(Communicator& comm, std::size_t floats) {
  const int ranks = comm.size();
  OrderedSum sum({ranks, ranks}, comm.rank(), floats);
  const auto wanted = static_cast<float>(int64_t{ranks} * (ranks + 1) / 2);
  double best = kNever;
  for (int round = 0; round < kSums; ++round) {
    std::ranges::fill(sum.begin(comm.rank()), static_cast<float>(comm.rank() + 1));
    sum.end(comm.rank());
    comm.barrier();
    const double before = ticks();
    const std::span<const float> total = sum.reduce(comm);
    const std::vector<double> took = comm.all_gather(ticks() - before);
    best = std::min(best, *std::ranges::max_element(took));
    const auto wrong = std::ranges::find_if(total, [wanted](float value) { return value != wanted; });
    if (wrong != total.end())
      throw SurroundingsError(
          "{}: element {} of an ordered sum of {} floats is {}, wanted {}. The network, or the memory of a host, changes what "
          "it carries: try fewer hosts to find which.",
          comm.describe(comm.rank()), wrong - total.begin(), floats, *wrong, wanted);
  }
  return best;
}

}  // namespace gru4rec

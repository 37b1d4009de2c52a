// The laws of a Communicator and of what stands on it, written once and run on every backend: by tests/ranks on threads, by
// tests/mpi under mpirun. Each law is Collective and uses sizes that divide nothing.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <cmath>
#include <cstring>
#include <numeric>
#include <string_view>
#include <thread>

#include "gru4rec/base/random.h"
#include "gru4rec/comm/agreement.h"
#include "gru4rec/comm/communicator.h"
#include "gru4rec/comm/ordered_sum.h"
#include "gru4rec/comm/sum_thread.h"

namespace gru4rec::laws {

// A value that says where it came from and where it goes.
inline int64_t token(int from, int to, std::size_t index) {
  return from * 1'000'000 + to * 1'000 + static_cast<int64_t>(index);
}

inline void exchange_swaps_with_every_peer_and_with_oneself(Communicator& comm) {
  for (int round = 0; round < comm.size(); ++round) {
    const int peer = (round - comm.rank() + comm.size()) % comm.size();  // pairs, and oneself
    const auto length = [](int from, int to) { return static_cast<std::size_t>((from * 5 + to * 3) % 7); };
    std::vector<int64_t> out(length(comm.rank(), peer)), in(length(peer, comm.rank()), -1);
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = token(comm.rank(), peer, i);
    comm.exchange(peer, std::span<const int64_t>(out), std::span<int64_t>(in));
    for (std::size_t i = 0; i < in.size(); ++i) ASSERT_EQ(in[i], token(peer, comm.rank(), i)) << "peer " << peer;
  }
}

inline void all_to_all_v_delivers_each_part(Communicator& comm) {
  std::vector<std::size_t> send_counts, receive_counts;
  const auto count = [](int from, int to) { return static_cast<std::size_t>((from * 7 + to * 11) % 5); };  // some are 0
  std::vector<int64_t> out;
  for (int peer = 0; peer < comm.size(); ++peer) {
    send_counts.push_back(count(comm.rank(), peer));
    receive_counts.push_back(count(peer, comm.rank()));
    for (std::size_t i = 0; i < send_counts.back(); ++i) out.push_back(token(comm.rank(), peer, i));
  }
  std::vector<int64_t> in(std::accumulate(receive_counts.begin(), receive_counts.end(), std::size_t{0}), -1);
  comm.all_to_all_v(std::span<const int64_t>(out), std::span<const std::size_t>(send_counts), std::span<int64_t>(in),
                    std::span<const std::size_t>(receive_counts));
  std::size_t at = 0;
  for (int peer = 0; peer < comm.size(); ++peer)
    for (std::size_t i = 0; i < receive_counts[static_cast<std::size_t>(peer)]; ++i)
      ASSERT_EQ(in[at++], token(peer, comm.rank(), i));
}

inline void all_gather_v_gives_all_parts_to_all(Communicator& comm) {
  std::vector<std::size_t> counts;
  for (int rank = 0; rank < comm.size(); ++rank) counts.push_back(static_cast<std::size_t>((rank * 3 + 2) % 7));
  std::vector<int64_t> mine;
  for (std::size_t i = 0; i < counts[static_cast<std::size_t>(comm.rank())]; ++i) mine.push_back(token(comm.rank(), 0, i));
  std::vector<int64_t> all(std::accumulate(counts.begin(), counts.end(), std::size_t{0}), -1);
  comm.all_gather_v(std::span<const int64_t>(mine), std::span<const std::size_t>(counts), std::span<int64_t>(all));
  std::size_t at = 0;
  for (int rank = 0; rank < comm.size(); ++rank)
    for (std::size_t i = 0; i < counts[static_cast<std::size_t>(rank)]; ++i) ASSERT_EQ(all[at++], token(rank, 0, i));
  EXPECT_EQ(comm.all_gather(comm.rank() * 2).back(), (comm.size() - 1) * 2);
}

// Round after round without a pause, in which now and then one rank comes late; some lengths are too long for a note.
inline void values_of_a_length_arrive_in_every_round(Communicator& comm) {
  constexpr std::size_t kLengths[] = {1, 0, 7, 518, 519, 2};
  for (std::size_t round = 0; round < 3000; ++round) {
    const std::size_t length = kLengths[round % std::size(kLengths)];
    const auto value = [&](int rank, std::size_t i) { return token(rank, static_cast<int>(i), round * 1'000'000'000); };
    std::vector<int64_t> all(static_cast<std::size_t>(comm.size()) * length, -1);
    const std::span<int64_t> mine = std::span(all).subspan(static_cast<std::size_t>(comm.rank()) * length, length);
    for (std::size_t i = 0; i < length; ++i) mine[i] = value(comm.rank(), i);  // at its own place
    if (round % 100 == static_cast<std::size_t>(comm.rank())) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    comm.all_gather("law", std::span<const int64_t>(mine), std::span<int64_t>(all));
    for (std::size_t at = 0; at < all.size(); ++at)
      ASSERT_EQ(all[at], value(static_cast<int>(at / length), at % length)) << "round " << round << " place " << at;
  }
}

inline void broadcast_copies_any_root_at_any_length(Communicator& comm) {
  for (int root = 0; root < comm.size(); ++root) {
    for (const std::size_t length : {0, 1, 13, 2503}) {  // the last takes the two-round way
      std::vector<int64_t> data(length, comm.rank());
      if (comm.rank() == root) std::iota(data.begin(), data.end(), token(root, 0, 0));
      comm.broadcast(root, std::span<int64_t>(data));
      for (std::size_t i = 0; i < length; ++i) ASSERT_EQ(data[i], token(root, 0, i)) << "root " << root << " length " << length;
    }
  }
}

inline void texts_of_unequal_length_arrive_everywhere(Communicator& comm) {
  const auto text_of = [](int rank) {
    return std::string(static_cast<std::size_t>(rank * 9 % 11), static_cast<char>('a' + rank));
  };
  const std::vector<std::string> texts = comm.all_gather_text(text_of(comm.rank()));
  for (int rank = 0; rank < comm.size(); ++rank) EXPECT_EQ(texts[static_cast<std::size_t>(rank)], text_of(rank));
  const int root = comm.size() - 1;
  EXPECT_EQ(comm.broadcast_text(root, comm.rank() == root ? "configuration" : "x"), "configuration");
}

// Nobody leaves the barrier before everybody has entered it: what was counted before is complete after.
inline void transfers_overlap_and_may_be_waited_for_in_any_order(Communicator& comm) {
  const int next = (comm.rank() + 1) % comm.size(), former = (comm.rank() + comm.size() - 1) % comm.size();
  const int64_t first = token(comm.rank(), next, 1), second = token(comm.rank(), next, 2);
  int64_t got_first = 0, got_second = 0;
  const auto start = [&](const int64_t& out, int64_t& in) {
    const Outgoing outgoing{next, std::as_bytes(std::span(&out, 1))};
    const Incoming incoming{former, std::as_writable_bytes(std::span(&in, 1))};
    return comm.start("ring", {&outgoing, 1}, {&incoming, 1});
  };
  auto one = start(first, got_first);
  auto two = start(second, got_second);
  comm.wait(std::move(two));
  comm.wait(std::move(one));
  EXPECT_EQ(got_first, token(former, comm.rank(), 1));
  EXPECT_EQ(got_second, token(former, comm.rank(), 2));
}

// The ordered sum ------------------------------------------------------------------------------------------------------------
// Element i of a replica's gradient: magnitudes from 1e-4 to 1e4, so that the order of additions shows.
inline float gradient_at(int replica, std::size_t i) {
  const Stream stream{7, Purpose::parameter_init, static_cast<uint64_t>(replica)};
  return static_cast<float>(stream.normal(2 * i) * std::pow(10.0, 8.0 * stream.uniform(4 * i + 100'000) - 4.0));
}

// The reference: the tree of ordered_sum.h, written again from its definition, on single floats.
inline float reference_sum(std::size_t i, int first, int last) {
  const int count = last - first;
  if (count == 1) return gradient_at(first, i);
  int half = 1;
  while (half * 2 < count) half *= 2;
  return reference_sum(i, first, first + half) + reference_sum(i, first + half, last);
}

inline bool same_bits(float a, float b) { return std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b); }

// Two parts of [0, length): even slices, and slices that grow with the rank, the first of them empty.
inline std::vector<Slices> two_parts(std::size_t length, int ranks) {
  const std::size_t middle = length / 3, square = static_cast<std::size_t>(ranks) * static_cast<std::size_t>(ranks);
  std::vector<Slices> parts = {even_slices({0, middle}, ranks), {}};
  for (int rank = 0; rank <= ranks; ++rank) {
    const auto r = static_cast<std::size_t>(rank);
    parts[1].bounds.push_back(middle + (length - middle) * (rank == ranks ? square : rank == 0 ? 0 : r * (r - 1)) / square);
  }
  return parts;
}

// Memory of the host that no other rank reads.
class FarMemory : public SumMemory {
 public:
  float* allocate(std::size_t floats) override { return host_memory().allocate(floats); }
  void release(float* memory) override { host_memory().release(memory); }
  void zero(std::span<float> values) override { host_memory().zero(values); }
  void add(float* to, const float* left, const float* right, std::size_t count) override {
    host_memory().add(to, left, right, count);
  }
  std::size_t piece() const override { return host_memory().piece(); }
};

inline int others_on_this_host(const Communicator& comm) {
  return static_cast<int>(std::ranges::count_if(comm.ranks(), [&](const RankInfo& info) { return info.host == comm.host(); })) -
         1;
}

// `far`: ranks from this one on have memory that is not shared.
inline void ordered_sum_equals_the_reference_tree(Communicator& comm, int replicas, std::size_t length, int far = 1 << 20) {
  const ReplicaLayout layout(replicas, comm.size());
  FarMemory far_memory;
  OrderedSum sum(layout, comm.rank(), length, comm.rank() >= far ? far_memory : host_memory());
  const std::size_t whole = length;
  for (int step = 0; step < 5; ++step) {  // the buffers are used again, for shorter sums as well, and grow
    length = step == 0   ? whole
             : step == 1 ? whole / 2
             : step == 2 ? std::min<std::size_t>(whole, 5)
             : step == 3 ? whole
                         : 3 * whole + 7;
    sum.set_length(length);
    for (const int replica : layout.replicas_of(comm.rank())) {
      const std::span<float> gradient = sum.begin(replica);
      ASSERT_EQ(gradient.size(), length);
      for (std::size_t i = 0; i < length; ++i) gradient[i] += gradient_at(replica, i);
      sum.end(replica);
    }
    // At once, or each rank its slices, which then meet.
    const std::vector<Slices> parts = two_parts(length, comm.size());
    if (step % 2 == 0) {
      sum.reduce(comm);
    } else if (step == 1) {
      sum.reduce_scatter(comm, parts);
    } else {
      comm.barrier();
      sum.reduce_scatter(comm, parts, OrderedSum::Heard::yes);
    }
    const std::span<float> total = sum.total();
    const auto own = [&](std::size_t i) {
      return std::ranges::any_of(
          parts, [&](const Slices& part) { return i >= part.of(comm.rank()).first && i < part.of(comm.rank()).last; });
    };
    for (std::size_t i = 0; i < length; ++i)
      ASSERT_TRUE((step % 2 == 1 && !own(i)) || same_bits(total[i], reference_sum(i, 0, replicas)))
          << "own element " << i << " step " << step;
    if (step % 2 == 1) gather_slices(comm, total, parts);
    for (std::size_t i = 0; i < length; ++i)
      ASSERT_TRUE(same_bits(total[i], reference_sum(i, 0, replicas)))
          << "R " << replicas << " W " << comm.size() << " rank " << comm.rank() << " element " << i << " step " << step << ": "
          << total[i] << " != " << reference_sum(i, 0, replicas);
    const int others = far >= comm.size() ? others_on_this_host(comm) : comm.rank() >= far ? 0 : far - 1;
    ASSERT_EQ(sum.near().ranks(), others);
  }
}

// That of the host, whose additions take a while where `late` says so.
class SlowMemory : public FarMemory {
 public:
  void add(float* to, const float* left, const float* right, std::size_t count) override {
    if (late) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    FarMemory::add(to, left, right, count);
  }
  bool of_host() const override { return true; }
  bool late = false;
};

// In each step another rank writes its gradient late, and one reads those of the others late, while the others go on to the
// next step at once.
inline void a_sum_waits_for_the_rank_that_is_late(Communicator& comm) {
  constexpr std::size_t kLength = 1003;
  const ReplicaLayout layout(comm.size(), comm.size());
  SlowMemory memory;
  OrderedSum sum(layout, comm.rank(), kLength, memory);
  const std::vector<Slices> parts = {even_slices({0, kLength}, comm.size())};
  for (int step = 0; step < 6 * comm.size(); ++step) {
    const std::span<float> gradient = sum.begin(comm.rank());
    memory.late = step % comm.size() == comm.rank();
    if ((step + 1) % comm.size() == comm.rank()) std::this_thread::sleep_for(std::chrono::milliseconds(20));
    for (std::size_t i = 0; i < kLength; ++i) gradient[i] = static_cast<float>(step + comm.rank());
    sum.end(comm.rank());
    if (step < 2 * comm.size()) {
      sum.reduce(comm);
    } else {
      const bool heard = step >= 4 * comm.size();
      if (heard) comm.barrier();
      sum.reduce_scatter(comm, parts, heard ? OrderedSum::Heard::yes : OrderedSum::Heard::no);
      gather_slices(comm, sum.total(), parts);
    }
    for (const float value : sum.total())
      ASSERT_EQ(value, static_cast<float>(comm.size() * step + comm.size() * (comm.size() - 1) / 2)) << "step " << step;
  }
}

inline void memory_of_a_host_is_read_where_it_is(Communicator& comm) {
  const auto value = [](int rank, std::size_t i, int round) {
    return static_cast<float>(rank * 10'000 + round * 5'000) + static_cast<float>(i);
  };
  constexpr std::size_t kLength = 1003;
  SharedFloats own(kLength);
  ASSERT_EQ(reinterpret_cast<std::uintptr_t>(own.data()) % 64, 0u);
  for (std::size_t i = 0; i < kLength; ++i) ASSERT_EQ(own.data()[i], 0.0f);
  const NearMemory near = own.map_others(comm);
  ASSERT_EQ(near.ranks(), others_on_this_host(comm));
  ASSERT_EQ(near.of(comm.rank()), nullptr);
  for (int round = 0; round < 2; ++round) {
    for (std::size_t i = 0; i < kLength; ++i) own.data()[i] = value(comm.rank(), i, round);
    comm.barrier();
    for (const int peer : comm.others())
      for (std::size_t i = 0; near.of(peer) && i < kLength; ++i) ASSERT_EQ(near.of(peer)[i], value(peer, i, round));
    comm.barrier();
  }
  // Where one has nothing to read, none reads it, and it reads none.
  const NearMemory some = (comm.rank() == 0 ? SharedFloats() : SharedFloats(kLength)).map_others(comm);
  EXPECT_EQ(some.ranks(),
            comm.rank() == 0 ? 0 : std::max(0, others_on_this_host(comm) - (comm.ranks()[0].host == comm.host())));
  EXPECT_EQ(some.of(0), nullptr);
}

// As weights do, between sums of gradients: written late by another rank each time, and again as soon as the next sum says that
// all have met. All others, or those but rank 0, read them where they are.
inline void slices_meet_on_all_ranks(Communicator& comm) {
  constexpr std::size_t kLength = 200'003;
  const std::vector<Slices> parts = two_parts(kLength, comm.size());
  OrderedSum sum(ReplicaLayout(comm.size(), comm.size()), comm.rank(), 129);
  SharedFloats shared(kLength);
  std::vector<float> unshared(kLength);
  for (const bool all : {true, false}) {
    const bool sent = !all && comm.rank() == 0;
    const std::span<float> values = sent ? std::span(unshared) : std::span(shared.data(), kLength);
    const NearMemory near = sent ? SharedFloats().map_others(comm) : shared.map_others(comm);
    for (int step = 0; step < 4 * comm.size(); ++step) {
      const std::span<float> gradient = sum.begin(comm.rank());
      sum.end(comm.rank());
      sum.reduce_scatter(comm, std::vector<Slices>{even_slices({0, gradient.size()}, comm.size())});
      if (step % comm.size() == comm.rank()) std::this_thread::sleep_for(std::chrono::milliseconds(5));
      const auto value = [&](std::size_t i) { return static_cast<float>(i % 1000 + 1000 * static_cast<std::size_t>(step)); };
      for (const Slices& part : parts)
        for (std::size_t i = part.of(comm.rank()).first; i < part.of(comm.rank()).last; ++i) values[i] = value(i);
      gather_slices(comm, values, parts, near);
      for (std::size_t i = 0; i < kLength; ++i) ASSERT_EQ(values[i], value(i)) << "step " << step << " all " << all;
    }
  }
}

// By a second thread: some parts while the last replica of each rank is open, the others when it has ended. The first one is
// there while it is still open everywhere.
inline void a_sum_in_parts_equals_the_reference_tree(Communicator& comm, int replicas) {
  constexpr std::size_t kLength = 1003, kFirst = 129, kParts[] = {400, 401, 700}, kLast = 700;
  const ReplicaLayout layout(replicas, comm.size());
  const auto own = layout.replicas_of(comm.rank());
  OrderedSum sum(layout, comm.rank(), kLength);
  SumThread sums(sum, comm);
  const auto expect_the_tree = [&](std::size_t first, std::size_t last) {
    for (std::size_t i = first; i < last; ++i)
      ASSERT_TRUE(same_bits(sum.total()[i], reference_sum(i, 0, replicas)))
          << "R " << replicas << " W " << comm.size() << " rank " << comm.rank() << " element " << i;
  };
  for (int step = 0; step < 3; ++step) {
    for (const int replica : own) {
      const std::span<float> gradient = sum.begin(replica);
      const auto fill = [&](std::size_t first, std::size_t last) {
        for (std::size_t i = first; i < last; ++i) gradient[i] += gradient_at(replica, i);
      };
      std::size_t at = kFirst;
      for (const std::size_t end : kParts) {
        fill(at, end);
        if (replica + 1 == own.last) {
          sum.settle(at, end);
          sums.send(at, end);
          if (at == kFirst && step == 1) {
            sums.wait();
            expect_the_tree(at, end);
            comm.barrier();  // nobody has ended its replica
          }
        }
        at = end;
      }
      fill(0, kFirst);
      fill(kLast, kLength);
      sum.end(replica);
    }
    sums.send(0, kFirst);
    comm.barrier();  // as the agreement of a step, beside the thread
    sums.send(kLast, kLength);
    sums.wait();
    expect_the_tree(0, kLength);
  }
}

inline void native_sum_is_the_sum_but_for_rounding_and_equal_on_all_ranks(Communicator& comm, std::size_t length) {
  ASSERT_TRUE(comm.adds_natively());
  std::vector<float> values(length);
  for (std::size_t i = 0; i < length; ++i) values[i] = gradient_at(comm.rank(), i);
  comm.add_natively(values);
  for (std::size_t i = 0; i < length; ++i) {
    double sum = 0.0, size = 0.0;
    for (int rank = 0; rank < comm.size(); ++rank) {
      sum += static_cast<double>(gradient_at(rank, i));
      size += std::abs(static_cast<double>(gradient_at(rank, i)));
    }
    ASSERT_NEAR(static_cast<double>(values[i]), sum, 1e-6 * size) << "element " << i;
  }
  const std::string_view bits(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
  for (const std::size_t hash : comm.all_gather(std::hash<std::string_view>()(bits)))
    EXPECT_EQ(hash, std::hash<std::string_view>()(bits));
  comm.add_natively({});
}

// `differs`: the library's order is not the tree's, which for some numbers of ranks it may be.
inline void native_reduction_is_the_ordered_one_but_for_rounding(Communicator& comm, int replicas, bool differs) {
  constexpr std::size_t kLength = 1003;
  const ReplicaLayout layout(replicas, comm.size());
  OrderedSum ordered(layout, comm.rank(), kLength), native(layout, comm.rank(), kLength);
  for (OrderedSum* sum : {&ordered, &native}) {
    for (const int replica : layout.replicas_of(comm.rank())) {
      const std::span<float> gradient = sum->begin(replica);
      for (std::size_t i = 0; i < kLength; ++i) gradient[i] += gradient_at(replica, i);
      sum->end(replica);
    }
  }
  const std::span<float> wanted = ordered.reduce(comm), got = native.reduce_natively(comm);
  int differing = 0;
  for (std::size_t i = 0; i < kLength; ++i) {
    double size = 0.0;
    for (int replica = 0; replica < replicas; ++replica) size += std::abs(static_cast<double>(gradient_at(replica, i)));
    ASSERT_NEAR(static_cast<double>(got[i]), static_cast<double>(wanted[i]), 1e-6 * size) << "element " << i;
    differing += same_bits(got[i], wanted[i]) ? 0 : 1;
  }
  if (differs) {
    EXPECT_GT(differing, 0) << "ordered sums instead of native ones";
  }
}

inline void integers_add_over_ranks(Communicator& comm) {
  std::vector<int64_t> values = {1, comm.rank(), int64_t{1} << 40};
  add_over_ranks(comm, values);
  const int64_t size = comm.size();
  EXPECT_EQ(values, (std::vector<int64_t>{size, size * (size - 1) / 2, size << 40}));
  add_over_ranks(comm, {});
}

// Agreement ------------------------------------------------------------------------------------------------------------------
inline StepReport report_of(const Communicator& comm, const ReplicaLayout& layout) {
  StepReport report;
  report.step = 41;
  for (const int replica : layout.replicas_of(comm.rank())) {
    report.targets += 10 + replica;
    report.losses.push_back(0.1 + 1e9 * (replica % 3));
  }
  return report;
}

inline void agreement_is_the_same_on_all_ranks_and_any_world(Communicator& comm) {
  const int replicas = comm.size() + 3;
  const ReplicaLayout layout(replicas, comm.size());
  const Agreement all = agree(comm, layout, report_of(comm, layout));
  int64_t targets = 0;
  std::vector<double> losses;
  for (int replica = 0; replica < replicas; ++replica) {
    targets += 10 + replica;
    losses.push_back(0.1 + 1e9 * (replica % 3));
  }
  EXPECT_EQ(all.targets, targets);
  EXPECT_EQ(all.loss, tree_sum(std::span<const double>(losses)));
  EXPECT_FALSE(all.failed());
  EXPECT_EQ(all.stop, 0);
}

inline void a_signal_on_one_rank_stops_all(Communicator& comm) {
  const ReplicaLayout layout(comm.size(), comm.size());
  StepReport report = report_of(comm, layout);
  if (comm.rank() == comm.size() - 1) report.stop_signal = 10;
  EXPECT_EQ(agree(comm, layout, report).stop, 10);
}

inline void failed_ranks_are_named_on_all(Communicator& comm) {
  const ReplicaLayout layout(comm.size() + 1, comm.size());
  StepReport report = report_of(comm, layout);
  const int last = comm.size() - 1;
  if (comm.rank() == last) {
    report.losses.clear();  // it never got that far
    report.error = "cannot read shard 3: No space left on device. " + std::string(2000, 'x');
    report.error_code = kExitSurroundings;
  }
  const Agreement all = agree(comm, layout, report);
  ASSERT_EQ(all.failures.size(), 1U);
  EXPECT_EQ(all.failures[0].rank, last);
  const Error error = all.error();
  EXPECT_EQ(error.exit_code(), kExitSurroundings);
  const std::string text = error.what();
  EXPECT_NE(text.find(comm.describe(last)), std::string::npos) << text;
  EXPECT_NE(text.find("step 41"), std::string::npos) << text;
  EXPECT_NE(text.find("cannot read shard 3"), std::string::npos) << text;
}

inline void a_loss_that_is_not_finite_fails_the_step(Communicator& comm) {
  const ReplicaLayout layout(comm.size(), comm.size());
  StepReport report = report_of(comm, layout);
  report.non_finite = comm.rank() == 0;
  report.error_code = kExitUser;
  const Agreement all = agree(comm, layout, report);
  ASSERT_TRUE(all.failed());
  EXPECT_EQ(all.error().exit_code(), kExitUser);
  EXPECT_NE(std::string(all.error().what()).find("not finite"), std::string::npos) << all.error().what();
}

inline void ranks_at_different_steps_are_refused(Communicator& comm) {
  if (comm.size() == 1) return;
  const ReplicaLayout layout(comm.size(), comm.size());
  StepReport report = report_of(comm, layout);
  if (comm.rank() == 1) ++report.step;
  EXPECT_THROW(agree(comm, layout, report), BugError);
}

inline void a_value_that_differs_is_refused_with_its_rank(Communicator& comm) {
  require_equal(comm, "the store's digest", "abc", "Give all hosts the same store.");
  if (comm.size() == 1) return;
  try {
    require_equal(comm, "the store's digest", comm.rank() == 1 ? "abd" : "abc", "Give all hosts the same store.");
    ADD_FAILURE() << "not refused";
  } catch (const UserError& error) {
    const std::string text = error.what();
    EXPECT_NE(text.find(comm.describe(1) + " has abd"), std::string::npos) << text;
    EXPECT_NE(text.find("Give all hosts the same store."), std::string::npos) << text;
  }
}

// All of them; collective.
inline void all_primitives(Communicator& comm) {
  exchange_swaps_with_every_peer_and_with_oneself(comm);
  all_to_all_v_delivers_each_part(comm);
  all_gather_v_gives_all_parts_to_all(comm);
  values_of_a_length_arrive_in_every_round(comm);
  broadcast_copies_any_root_at_any_length(comm);
  texts_of_unequal_length_arrive_everywhere(comm);
  transfers_overlap_and_may_be_waited_for_in_any_order(comm);
  comm.barrier();
}

inline void all_agreements(Communicator& comm) {
  agreement_is_the_same_on_all_ranks_and_any_world(comm);
  a_signal_on_one_rank_stops_all(comm);
  failed_ranks_are_named_on_all(comm);
  a_loss_that_is_not_finite_fails_the_step(comm);
  ranks_at_different_steps_are_refused(comm);
  a_value_that_differs_is_refused_with_its_rank(comm);
  integers_add_over_ranks(comm);
}

}  // namespace gru4rec::laws

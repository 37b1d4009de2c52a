// Counter-based randomness. A random number is a pure function of what it belongs to (seed, purpose and up to three keys) and
// an index; there is no generator whose state depends on who drew before. So the number of ranks, replicas or threads
// cannot change a draw, and any draw can be repeated alone.
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>

namespace gru4rec {

// What a stream of random numbers is for. Values are part of the checkpoint contract: never renumber.
enum class Purpose : uint64_t {
  parameter_init = 1,     // keys: tensor name hash, row
  block_order = 2,        // keys: epoch
  window_order = 3,       // keys: epoch, window
  segment_offset = 4,     // keys: epoch, session
  embedding_dropout = 5,  // keys: epoch, session, first target of the segment
  output_dropout = 6,     // the same
  item_dropout = 7,       // the same
  negatives = 8,          // keys: epoch, session, position of the target
  shared_negatives = 9,   // keys: step
  hidden_dropout = 10,    // as embedding_dropout, layer by layer
  search = 11,            // keys: draw, name of the option
};

// Finaliser of splitmix64 (Steele, Lea, Flood 2014; constants of Stafford's variant 13): a bijection that mixes all bits.
constexpr uint64_t mix64(uint64_t x) {
  x ^= x >> 30;
  x *= 0xbf58476d1ce4e5b9ULL;
  x ^= x >> 27;
  x *= 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

// A named stream: splitmix64 started at a point hashed from its name.
//
//   Stream drop{seed, Purpose::embedding_dropout, epoch, session, first_target};
//   bool kept = drop.uniform(position * size + i) >= p;
class Stream {
 public:
  constexpr Stream(uint64_t seed, Purpose purpose, uint64_t a = 0, uint64_t b = 0, uint64_t c = 0)
      : start_(join(join(join(join(mix64(seed + kStep), static_cast<uint64_t>(purpose)), a), b), c)) {}

  // 64 random bits, the index-th of the stream.
  constexpr uint64_t bits(uint64_t index) const { return mix64(start_ + (index + 1) * kStep); }

  // Uniform in [0, 1), 53 bits.
  constexpr double uniform(uint64_t index) const { return static_cast<double>(bits(index) >> 11) * 0x1.0p-53; }

  // Uniform integer in [0, n), n >= 1: multiply-shift (Lemire 2019), bias below n / 2^64.
  constexpr uint64_t below(uint64_t index, uint64_t n) const {
    return static_cast<uint64_t>((static_cast<uint128>(bits(index)) * n) >> 64);
  }

  // Standard normal by Box and Muller (1958), from bits 2·index and 2·index + 1.
  double normal(uint64_t index) const {
    const double radius = std::sqrt(-2.0 * std::log1p(-uniform(2 * index)));
    return radius * std::cos(2.0 * std::numbers::pi * uniform(2 * index + 1));
  }

 private:
  __extension__ using uint128 = unsigned __int128;
  static constexpr uint64_t kStep = 0x9e3779b97f4a7c15ULL;  // 2^64 / golden ratio
  static constexpr uint64_t join(uint64_t hash, uint64_t key) { return mix64((hash + kStep) ^ mix64(key + kStep)); }

  uint64_t start_;
};

}  // namespace gru4rec

// xxh3 (64 bits, seed 0; Yann Collet's xxHash), the one checksum of this project: fast enough to be invisible beside any disk,
// good against damage. It is no protection against somebody who forges a file on purpose.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

struct XXH3_state_s;

namespace gru4rec {

// xxh3 of a stretch of memory. Local.
uint64_t hash_bytes(const void* data, size_t bytes);

// "00c0ffee00c0ffee": 16 lower-case hexadecimal digits, as printed everywhere.
std::string hex_text(uint64_t digest);

// A running xxh3. The result depends on the sequence of bytes alone, not on how they were cut into calls. Local; one thread.
//
//   Digest digest;
//   digest.update(session.id).update<uint32_t>(session.train_end).update(session.items);
//   std::string text = hex_text(digest.value());
class Digest {
 public:
  Digest();
  Digest(const Digest& other);
  Digest& operator=(const Digest& other);
  Digest(Digest&&) noexcept = default;
  Digest& operator=(Digest&&) noexcept = default;
  ~Digest() = default;

  // Short stretches are gathered first: xxh3 takes them one by one at many times the cost.
  Digest& update_bytes(const void* data, size_t bytes) {
    if (bytes > gathered_.size() - held_) return update_beyond(data, bytes);
    if (bytes > 0) std::memcpy(gathered_.data() + held_, data, bytes);
    held_ += bytes;
    return *this;
  }

  // A number or an enum: its bytes in memory order (little-endian).
  template <typename T>
  requires std::is_arithmetic_v<T> || std::is_enum_v<T> Digest& update(T value) { return update_bytes(&value, sizeof value); }

  // Numbers without a length in front.
  template <typename T>
  requires std::is_arithmetic_v<T> Digest& update(std::span<T> values) {
    return update_bytes(values.data(), values.size_bytes());
  }

  // A text: its length as uint64, then its bytes, so that ("ab", "c") and ("a", "bc") differ.
  Digest& update(std::string_view text);

  // Digest of all so far; more may follow.
  uint64_t value() const;

 private:
  struct Free {
    void operator()(XXH3_state_s* state) const;
  };
  Digest& update_beyond(const void* data, size_t bytes);

  std::unique_ptr<XXH3_state_s, Free> state_;  // of all but what is gathered
  std::array<char, 2048> gathered_;
  size_t held_ = 0;  // in gathered_
};

}  // namespace gru4rec

#include "gru4rec/base/hash.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <bit>
#include <new>

namespace gru4rec {

static_assert(std::endian::native == std::endian::little, "files and digests are defined by little-endian bytes");

uint64_t hash_bytes(const void* data, size_t bytes) { return XXH3_64bits(data, bytes); }

std::string hex_text(uint64_t digest) { return fmt::format("{:016x}", digest); }

void Digest::Free::operator()(XXH3_state_s* state) const { XXH3_freeState(state); }

Digest::Digest() : state_(XXH3_createState()) {
  if (!state_) throw std::bad_alloc();
  XXH3_64bits_reset(state_.get());
}

Digest::Digest(const Digest& other) : Digest() {
  XXH3_copyState(state_.get(), other.state_.get());
  update_bytes(other.gathered_.data(), other.held_);
}

Digest& Digest::operator=(const Digest& other) {
  if (this != &other) *this = Digest(other);
  return *this;
}

Digest& Digest::update_beyond(const void* data, size_t bytes) {
  XXH3_64bits_update(state_.get(), gathered_.data(), held_);
  held_ = 0;
  if (bytes <= gathered_.size()) return update_bytes(data, bytes);
  XXH3_64bits_update(state_.get(), data, bytes);
  return *this;
}

Digest& Digest::update(std::string_view text) {
  update<uint64_t>(text.size());
  return update_bytes(text.data(), text.size());
}

uint64_t Digest::value() const {
  const Digest all(*this);
  XXH3_64bits_update(all.state_.get(), all.gathered_.data(), all.held_);
  return XXH3_64bits_digest(all.state_.get());
}

}  // namespace gru4rec

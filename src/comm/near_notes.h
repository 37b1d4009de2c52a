// Short values that ranks of one host tell each other in memory they share. A message takes a library's way through code that a
// step has long pushed out of the caches, several times as long as what is said here takes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "gru4rec/comm/communicator.h"
#include "gru4rec/comm/shared_floats.h"

namespace gru4rec {

class NearNotes {
 public:
  static constexpr std::size_t kMostBytes = 4144;  // of a note: a slot is whole lines of 64 bytes

  // Collective. nullptr where not all ranks read each other's memory, or there is but one.
  static std::unique_ptr<NearNotes> between(Communicator& comm);

  // Collective. `mine` of every rank arrives everywhere in `all`, in rank order; all of the same length, at most kMostBytes.
  // Throws what Communicator::wait() does, and BugError where another rank's note is of another length.
  void exchange(Communicator& comm, const char* primitive, std::span<const std::byte> mine, std::span<std::byte> all);

 private:
  class Arrival;
  // A rank writes its note and then the number of the exchange, from 1, into one of two slots in turn: it writes the next but
  // one when all others have written the next one, and so have read this.
  struct Slot {
    uint64_t number;
    uint64_t bytes;
    std::byte note[kMostBytes];
  };
  static constexpr std::size_t kSlots = 2;

  explicit NearNotes(int ranks);
  const Slot& slot_of(int rank) const;
  bool has_written(int rank) const;
  bool all_have_written() const;

  int rank_ = 0, ranks_;
  uint64_t number_ = 0;  // of the last exchange
  SharedFloats own_;
  NearMemory near_;
};

}  // namespace gru4rec

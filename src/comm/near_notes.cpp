#include "near_notes.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "gru4rec/base/error.h"
#include "rest.h"

namespace gru4rec {

// Of the notes of the exchange that is going on.
class NearNotes::Arrival : public Transfer {
 public:
  Arrival(const NearNotes& notes, const char* primitive) : Transfer(primitive), notes_(notes) {}

  bool advance(double waited) override {
    if (notes_.all_have_written()) return true;
    rest(waited, kMostBytes);
    return false;
  }

  std::vector<int> missing() const override {
    std::vector<int> peers;
    for (int rank = 0; rank < notes_.ranks_; ++rank)
      if (!notes_.has_written(rank)) peers.push_back(rank);
    return peers;
  }

 private:
  const NearNotes& notes_;
};

NearNotes::NearNotes(int ranks) : ranks_(ranks), own_(kSlots * sizeof(Slot) / sizeof(float)) {}

std::unique_ptr<NearNotes> NearNotes::between(Communicator& comm) {
  if (comm.size() == 1) return nullptr;
  std::unique_ptr<NearNotes> notes(new NearNotes(comm.size()));
  notes->rank_ = comm.rank();
  notes->near_ = notes->own_.map_others(comm);
  const std::vector<int> readers = comm.all_gather(notes->near_.ranks());
  const bool all = std::ranges::all_of(readers, [&](int others) { return others == comm.size() - 1; });
  return all ? std::move(notes) : nullptr;
}

const NearNotes::Slot& NearNotes::slot_of(int rank) const {
  const float* memory = rank == rank_ ? own_.data() : near_.of(rank);
  return reinterpret_cast<const Slot*>(memory)[number_ % kSlots];
}

bool NearNotes::has_written(int rank) const {
  return __atomic_load_n(&slot_of(rank).number, __ATOMIC_ACQUIRE) == number_;  // of memory that may only be read
}

bool NearNotes::all_have_written() const {
  for (int rank = 0; rank < ranks_; ++rank)
    if (!has_written(rank)) return false;
  return true;
}

void NearNotes::exchange(Communicator& comm, const char* primitive, std::span<const std::byte> mine, std::span<std::byte> all) {
  ++number_;
  Slot& slot = reinterpret_cast<Slot*>(own_.data())[number_ % kSlots];
  std::ranges::copy(mine, slot.note);
  slot.bytes = mine.size();
  __atomic_store_n(&slot.number, number_, __ATOMIC_RELEASE);
  comm.wait(std::make_unique<Arrival>(*this, primitive));
  for (int rank = 0; rank < ranks_; ++rank) {
    const Slot& theirs = slot_of(rank);
    if (theirs.bytes != mine.size())
      throw BugError("{}: rank {} sent {} bytes to rank {}, which wanted {}; both must pass the same sizes", primitive, rank,
                     theirs.bytes, rank_, mine.size());
    std::copy_n(theirs.note, mine.size(),
                all.begin() + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(rank) * mine.size()));
  }
}

}  // namespace gru4rec

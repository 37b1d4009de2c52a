// Memory that the ranks of a host read of each other where it lies, so that what one has made need not be sent to another.
#pragma once

#include <sys/mman.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "gru4rec/comm/communicator.h"

namespace gru4rec {

struct UnmapMemory {
  std::size_t bytes;
  void operator()(std::byte* memory) const { ::munmap(memory, bytes); }
};
using MappedMemory = std::unique_ptr<std::byte, UnmapMemory>;

// What a rank reads of the others' memory.
class NearMemory {
 public:
  NearMemory() = default;  // nothing
  // Where this rank reads the floats of that one, as long as this object is there, or nullptr: they must be sent.
  const float* of(int rank) const { return floats_.empty() ? nullptr : floats_[static_cast<std::size_t>(rank)]; }
  int ranks() const;  // how many others it reads

 private:
  friend class SharedFloats;
  std::vector<MappedMemory> memory_;
  std::vector<const float*> floats_;  // by rank
};

// A nameless file in memory (memfd_create(2)), which others map by way of /proc/PID/fd. It takes no room in /dev/shm, and
// nothing is left of it however a process ends; one that ends takes nothing from those that mapped it. Where the system has
// none of it (old kernels, a limit on the size of files) it is memory like any other, which nobody else reads.
//
// When a rank may read, and the other write, is theirs to agree on by messages.
class SharedFloats {
 public:
  SharedFloats() = default;  // none
  // `floats` zeros at a boundary of 64 bytes. Throws std::bad_alloc. Local.
  explicit SharedFloats(std::size_t floats);

  float* data() const { return floats_; }

  // Collective; with none, too. Not those of itself, nor where either of two ranks cannot map the memory of the other: on
  // another host, in another container, without /proc, or without such memory.
  NearMemory map_others(Communicator& comm) const;

 private:
  using Token = std::array<uint32_t, 4>;  // at the start of the memory: random, so that nobody takes another's for it
  struct Card;

  class File {
   public:
    explicit File(int descriptor = -1) : descriptor_(descriptor) {}
    File(File&& other) noexcept : descriptor_(other.release()) {}
    File& operator=(File&& other) noexcept;
    ~File();
    int get() const { return descriptor_; }

   private:
    int release();
    int descriptor_;
  };

  static MappedMemory map(int file, std::size_t bytes, int protection);
  static MappedMemory map_other(const Card& card, int64_t pid);

  File file_;
  MappedMemory memory_{nullptr, {0}};
  float* floats_ = nullptr;
  Token token_{};
};

}  // namespace gru4rec

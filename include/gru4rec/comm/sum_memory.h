// Where an OrderedSum keeps its vectors, and what adds them there: the host's memory, or that of a GPU (train/device_memory.h).
// Whatever it is, each element of a sum is one addition of two floats, so that the place does not change a bit. All is Local.
#pragma once

#include <cstddef>
#include <span>

namespace gru4rec {

class SumMemory {
 public:
  virtual ~SumMemory() = default;

  // `floats` zeros at a boundary of 64 bytes, until release(). Throws std::bad_alloc, or what the memory's library throws.
  virtual float* allocate(std::size_t floats) = 0;
  virtual void release(float* memory) = 0;

  // These may return before they are done; they are done in the order in which they were called.
  virtual void zero(std::span<float> values) = 0;
  // `to` may be `left` or `right`.
  virtual void add(float* to, const float* left, const float* right, std::size_t count) = 0;
  // Returns when all of them are done, so that others may read what they wrote.
  virtual void wait() {}

  // Whether the processor adds, and so can add what other ranks keep in memory that they share (comm/shared_floats.h).
  virtual bool of_host() const { return false; }
  // Floats that are best added at a time where a chain of additions passes over the same elements.
  virtual std::size_t piece() const = 0;
};

// That of the host; shared by all.
SumMemory& host_memory();

}  // namespace gru4rec

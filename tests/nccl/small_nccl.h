// A small NCCL over the memory of this process, whose ranks are threads: the entry points that src/comm/nccl.cpp calls, as
// their documentation describes them, and stricter than the real ones. Nothing moves unless somebody polls; a group is handed
// to its stream only after its communicator was polled a few times; a message is done when both sides have come to it; and what
// must not be done (a call on a communicator that is still in progress, a message outside a group, one end of a group missing,
// a communicator that blocks) is an error and is counted.
#pragma once

#include <cstddef>
#include <string>

#include "nccl.h"

namespace small_nccl {

// What was called since reset(), by all ranks together.
struct Counts {
  int groups = 0;  // with something in them
  int sends = 0;
  int receives = 0;
  int sums = 0;
  int aborts = 0;
  int mistakes = 0;
  std::string first_mistake;
  int alive = 0;  // communicators, streams and events not ended
};

// What shall go wrong.
struct Faults {
  int rank = -1;                                   // at this rank …
  int group = 0;                                   // … with its group of this number, from 1 …
  ncclResult_t issued = ncclSuccess;               // … what its first message says at once …
  ncclResult_t asynchronous = ncclSuccess;         // … or what its communicator says when polled
  bool never_connects = false;                     // a communicator stays in progress for ever
  ncclResult_t connecting = ncclInProgress;        // what the call that begins to connect says
  std::string last_error = "no route to the GPU";  // what ncclGetLastError says
};

void reset(const Faults& faults = {});
Counts counts();

// What lies in the memory of a GPU: everything, or what was named. None of it may be touched by others while a block lives.
void all_memory_is_device_memory(bool all);
class DeviceBlock {
 public:
  DeviceBlock(const void* memory, std::size_t bytes);
  ~DeviceBlock();
  DeviceBlock(const DeviceBlock&) = delete;
  DeviceBlock& operator=(const DeviceBlock&) = delete;

 private:
  const void* memory_;
};

}  // namespace small_nccl

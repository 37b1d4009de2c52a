#include "small_nccl.h"

#include <cstdio>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <vector>

using small_nccl::Counts;
using small_nccl::Faults;

namespace {

constexpr int kPolls = 3;  // before NCCL is done with what it was told

struct Operation {
  enum Kind { send, receive, sum } kind;
  char* memory;
  std::size_t bytes;
  int peer;
  bool done = false;
};
using Group = std::vector<std::shared_ptr<Operation>>;

// Ranks that were given one id.
struct World {
  std::map<int, ncclComm_t> comms;                                                 // by rank, those that are alive
  std::map<std::pair<int, int>, std::deque<std::shared_ptr<Operation>>> sends;     // by (from, to)
  std::map<std::pair<int, int>, std::deque<std::shared_ptr<Operation>>> receives;  // the same
  std::map<int, std::deque<std::shared_ptr<Operation>>> sums;                      // by rank
  int ranks = 0;
  bool whole = false;  // all ranks have come
};

// What a stream does one after the other: the operations of a group at once, or an event.
struct Task {
  ncclComm_t comm = nullptr;
  Group group{};
  bool begun = false;
  std::shared_ptr<bool> event{};
};

}  // namespace

struct CUstream_st {
  std::deque<Task> tasks;
};
struct CUevent_st {
  std::shared_ptr<bool> done;  // null: never recorded
};
struct ncclComm {
  std::shared_ptr<World> world;
  int rank = 0;
  int polls_left = kPolls;
  bool connected = false;
  bool launching = false;
  Group group;
  cudaStream_t stream = nullptr;
  int groups = 0;
};

namespace {

std::mutex mutex;  // guards all of it
Counts counted;
Faults faults;
bool all_memory = false;
std::map<const char*, std::size_t> blocks;
std::map<int, std::shared_ptr<World>> worlds;  // by number in the id
std::set<cudaStream_t> streams;
int ids = 0;

// Of the group that this thread has open.
thread_local int depth = 0;
thread_local Group pending;
thread_local ncclComm_t pending_comm = nullptr;
thread_local cudaStream_t pending_stream = nullptr;

ncclResult_t mistake(const std::string& what) {
  if (counted.mistakes++ == 0) counted.first_mistake = what;
  return ncclInvalidUsage;
}

bool at_fault(const ncclComm& comm, int group) { return comm.rank == faults.rank && group == faults.group; }

void begin(World& world, int rank, const Group& group) {
  for (const auto& operation : group) {
    if (operation->kind == Operation::send) world.sends[{rank, operation->peer}].push_back(operation);
    if (operation->kind == Operation::receive) world.receives[{operation->peer, rank}].push_back(operation);
    if (operation->kind == Operation::sum) world.sums[rank].push_back(operation);
  }
}

void match_messages(World& world) {
  for (auto& [route, sends] : world.sends) {
    auto& receives = world.receives[route];
    for (; !sends.empty() && !receives.empty(); sends.pop_front(), receives.pop_front()) {
      if (sends.front()->bytes != receives.front()->bytes) mistake("sizes of a message differ");
      std::memcpy(receives.front()->memory, sends.front()->memory, std::min(sends.front()->bytes, receives.front()->bytes));
      sends.front()->done = receives.front()->done = true;
    }
  }
}

// From the last rank to the first: an order that is nobody else's.
void match_sums(World& world) {
  while (world.ranks > 0) {
    for (int rank = 0; rank < world.ranks; ++rank)
      if (world.sums[rank].empty()) return;
    const std::size_t floats = world.sums[0].front()->bytes / sizeof(float);
    std::vector<float> total(floats, 0.0F);
    for (int rank = world.ranks - 1; rank >= 0; --rank) {
      const auto* values = reinterpret_cast<const float*>(world.sums[rank].front()->memory);
      for (std::size_t i = 0; i < floats; ++i) total[i] += values[i];
    }
    for (int rank = 0; rank < world.ranks; ++rank) {
      std::memcpy(world.sums[rank].front()->memory, total.data(), floats * sizeof(float));
      world.sums[rank].front()->done = true;
      world.sums[rank].pop_front();
    }
  }
}

bool finished(Task& task) {
  if (task.event) {
    *task.event = true;
    return true;
  }
  World& world = *task.comm->world;
  if (!task.begun) begin(world, task.comm->rank, task.group);
  task.begun = true;
  match_messages(world);
  match_sums(world);
  for (const auto& operation : task.group)
    if (!operation->done) return false;
  return true;
}

void work() {
  for (bool moved = true; moved;) {
    moved = false;
    for (const cudaStream_t stream : streams) {
      if (stream->tasks.empty() || !finished(stream->tasks.front())) continue;
      stream->tasks.pop_front();
      moved = true;
    }
  }
}

ncclResult_t add(Operation::Kind kind, const void* memory, std::size_t bytes, int peer, ncclComm_t comm, cudaStream_t stream) {
  const std::lock_guard lock(mutex);
  if (depth == 0) return mistake("an operation outside a group");
  if (!comm->connected || comm->launching) return mistake("an operation on a communicator that is in progress");
  if (pending.empty() && at_fault(*comm, comm->groups + 1) && faults.issued != ncclSuccess) return faults.issued;
  pending_comm = comm;
  pending_stream = stream;
  pending.push_back(
      std::make_shared<Operation>(Operation{kind, const_cast<char*>(static_cast<const char*>(memory)), bytes, peer}));
  ++(kind == Operation::send ? counted.sends : kind == Operation::receive ? counted.receives : counted.sums);
  return ncclSuccess;
}

}  // namespace

namespace small_nccl {

void reset(const Faults& wanted) {
  const std::lock_guard lock(mutex);
  counted = {};
  faults = wanted;
  all_memory = false;
}

Counts counts() {
  const std::lock_guard lock(mutex);
  return counted;
}

void all_memory_is_device_memory(bool all) {
  const std::lock_guard lock(mutex);
  all_memory = all;
}

DeviceBlock::DeviceBlock(const void* memory, std::size_t bytes) : memory_(memory) {
  const std::lock_guard lock(mutex);
  blocks[static_cast<const char*>(memory)] = bytes;
}
DeviceBlock::~DeviceBlock() {
  const std::lock_guard lock(mutex);
  blocks.erase(static_cast<const char*>(memory_));
}

}  // namespace small_nccl

const char* cudaGetErrorString(cudaError_t error) { return error == cudaErrorNotReady ? "not ready" : "invalid value"; }
cudaError_t cudaSetDevice(int) { return cudaSuccess; }

cudaError_t cudaDeviceGetPCIBusId(char* text, int length, int device) {
  std::snprintf(text, static_cast<std::size_t>(length), "0000:%02x:00.0", device);
  return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* memory) {
  const std::lock_guard lock(mutex);
  const auto* at = static_cast<const char*>(memory);
  auto block = blocks.upper_bound(at);
  const bool inside = block != blocks.begin() && at < std::prev(block)->first + std::prev(block)->second;
  attributes->type = all_memory || inside ? cudaMemoryTypeDevice : cudaMemoryTypeUnregistered;
  return cudaSuccess;
}

cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind) {
  std::memmove(to, from, bytes);
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  const std::lock_guard lock(mutex);
  if (flags != cudaStreamNonBlocking) mistake("a stream that waits for the default one");
  streams.insert(*stream = new CUstream_st);
  ++counted.alive;
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  const std::lock_guard lock(mutex);
  streams.erase(stream);
  delete stream;
  --counted.alive;
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  const std::lock_guard lock(mutex);
  *event = new CUevent_st;
  ++counted.alive;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  const std::lock_guard lock(mutex);
  event->done = std::make_shared<bool>(false);
  stream->tasks.push_back({.event = event->done});
  return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  const std::lock_guard lock(mutex);
  work();
  return !event->done || *event->done ? cudaSuccess : cudaErrorNotReady;  // one that was never recorded is done
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  const std::lock_guard lock(mutex);
  delete event;
  --counted.alive;
  return cudaSuccess;
}

const char* ncclGetErrorString(ncclResult_t result) {
  switch (result) {
    case ncclUnhandledCudaError:
      return "unhandled cuda error";
    case ncclSystemError:
      return "unhandled system error";
    case ncclRemoteError:
      return "remote process exited or there was a network error";
    case ncclInvalidUsage:
      return "invalid usage";
    default:
      return "internal error";
  }
}
ncclResult_t ncclGetVersion(int* version) {
  *version = NCCL_VERSION_CODE;
  return ncclSuccess;
}

const char* ncclGetLastError(ncclComm_t) {
  const std::lock_guard lock(mutex);
  return faults.last_error.c_str();
}

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  const std::lock_guard lock(mutex);
  std::memset(id, 0, sizeof *id);
  ++ids;
  std::memcpy(id->internal, &ids, sizeof ids);
  return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int ranks, ncclUniqueId id, int rank, ncclConfig_t* config) {
  const std::lock_guard lock(mutex);
  if (config->blocking != 0) return mistake("a communicator that blocks");
  if (faults.connecting != ncclInProgress) return faults.connecting;
  int number = 0;
  std::memcpy(&number, id.internal, sizeof number);
  if (number < 1 || number > ids) return mistake("an id that was never given out");
  auto& world = worlds[number];
  if (!world) world = std::make_shared<World>();
  world->ranks = ranks;
  *comm = new ncclComm;
  (*comm)->world = world;
  (*comm)->rank = rank;
  world->comms[rank] = *comm;
  world->whole = world->whole || static_cast<int>(world->comms.size()) == ranks;
  ++counted.alive;
  return ncclInProgress;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* error) {
  const std::lock_guard lock(mutex);
  *error = ncclInProgress;
  if (at_fault(*comm, comm->groups) && faults.asynchronous != ncclSuccess) {
    *error = faults.asynchronous;
    return ncclSuccess;
  }
  if (!comm->connected) {
    comm->connected = comm->world->whole && !faults.never_connects && --comm->polls_left <= 0;
    if (comm->connected) *error = ncclSuccess;
    return ncclSuccess;
  }
  if (comm->launching && --comm->polls_left <= 0) {
    comm->launching = false;
    comm->stream->tasks.push_back({.comm = comm, .group = std::move(comm->group)});
    comm->group.clear();
  }
  work();
  if (!comm->launching) *error = ncclSuccess;
  return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm) {
  const std::lock_guard lock(mutex);
  if (depth != 0) mistake("a communicator is aborted within a group");
  ++counted.aborts;
  --counted.alive;
  World& world = *comm->world;
  world.comms.erase(comm->rank);
  world.ranks = 0;  // no sum any more
  for (auto& [route, sends] : world.sends)
    if (route.first == comm->rank) sends.clear();
  for (auto& [route, receives] : world.receives)
    if (route.second == comm->rank) receives.clear();
  for (const cudaStream_t stream : streams) std::erase_if(stream->tasks, [&](const Task& task) { return task.comm == comm; });
  delete comm;
  return ncclSuccess;
}

ncclResult_t ncclGroupStart() {
  ++depth;
  return ncclSuccess;
}

ncclResult_t ncclGroupEnd() {
  const std::lock_guard lock(mutex);
  if (depth == 0) return mistake("a group ends that never began");
  if (--depth > 0 || pending.empty()) return ncclSuccess;
  ncclComm& comm = *pending_comm;
  comm.group = std::move(pending);
  pending.clear();
  comm.stream = pending_stream;
  comm.launching = true;
  comm.polls_left = kPolls;
  ++comm.groups;
  ++counted.groups;
  return ncclInProgress;
}

ncclResult_t ncclSend(const void* memory, std::size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  return add(Operation::send, memory, count * (type == ncclFloat32 ? sizeof(float) : 1), peer, comm, stream);
}
ncclResult_t ncclRecv(void* memory, std::size_t count, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream) {
  return add(Operation::receive, memory, count * (type == ncclFloat32 ? sizeof(float) : 1), peer, comm, stream);
}
ncclResult_t ncclAllReduce(const void* from, void* to, std::size_t count, ncclDataType_t, ncclRedOp_t, ncclComm_t comm,
                           cudaStream_t stream) {
  if (from != to) return mistake("a sum that is not in place");
  return add(Operation::sum, from, count * sizeof(float), -1, comm, stream);
}

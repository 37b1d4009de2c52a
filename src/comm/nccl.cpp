// NCCL, behind Communicator. The only file that includes nccl.h and the CUDA runtime.
//
// What lies in the memory of this rank's GPU goes by NCCL, from GPU to GPU; what lies in that of the host, and the roll, by the
// communicator that came before, as ever. NCCL's communicator does not block: it is polled, so that a wait has the same time
// limit and names the same silent ranks.
#include <cuda_runtime_api.h>
#include <nccl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <deque>

#include "gru4rec/base/error.h"
#include "gru4rec/base/host_name.h"
#include "gru4rec/comm/world.h"
#include "rest.h"
#include "text.h"

#if NCCL_VERSION_CODE < NCCL_VERSION(2, 14, 0)
#error "NCCL 2.14 or newer is wanted: it has communicators that do not block"
#endif

namespace gru4rec {
namespace {

void check_cuda(cudaError_t code, const char* call, int device) {
  if (code == cudaSuccess) return;
  throw SurroundingsError(
      "{} failed on GPU {} of host {} (pid {}): CUDA says '{}'. Look at nvidia-smi and at the kernel's log there, then start "
      "again with --resume.",
      call, device, host_name(), getpid(), cudaGetErrorString(code));
}

bool in_device_memory(const void* memory, int device) {
  cudaPointerAttributes attributes{};
  check_cuda(cudaPointerGetAttributes(&attributes, memory), "cudaPointerGetAttributes", device);
  return attributes.type == cudaMemoryTypeDevice;
}

class NcclTransfer;

// The NCCL communicator of this rank, the stream on which its GPU does what it is told, and the transfers NCCL has not begun.
// It takes one at a time: the next when it has handed all of the last to the stream.
class Connection {
 public:
  // Begins to connect; NCCL goes on as the connection is polled.
  Connection(const Communicator& owner, int device, const ncclUniqueId& id);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  void add(NcclTransfer& transfer) { waiting_.push_back(&transfer); }
  // Gives NCCL what it can take now; true when it has taken everything. `for_whom`: what is waited for, if something fails.
  bool drive(const NcclTransfer& for_whom);
  // Ends the work of the GPU, done or not, without waiting for other ranks. What is waited for after it fails.
  void abort() noexcept;
  void check(ncclResult_t code, const NcclTransfer& for_whom) const;

  const Communicator& owner() const { return owner_; }
  int device() const { return device_; }
  ncclComm_t nccl() const { return nccl_; }
  cudaStream_t stream() const { return stream_; }

 private:
  bool settled(const NcclTransfer& for_whom) const;

  const Communicator& owner_;
  int device_;
  cudaStream_t stream_ = nullptr;
  ncclComm_t nccl_ = nullptr;
  ncclResult_t begun_ = ncclSuccess;   // what the call that made it said
  bool ended_ = false;                 // by abort()
  NcclTransfer* launching_ = nullptr;  // NCCL is handing it to the stream
  std::deque<NcclTransfer*> waiting_;  // in the order in which they were started
};

// Messages, a sum, or the connection itself, on their way. One that ends before it is done, by an error or a time limit, takes
// the connection with it, since the GPU might wait for another rank for ever.
class NcclTransfer : public Transfer {
 public:
  NcclTransfer(Connection& connection, const char* primitive, std::size_t bytes)
      : Transfer(primitive), connection_(connection), name_(primitive), bytes_(bytes) {
    check_cuda(cudaSetDevice(connection.device()), "cudaSetDevice", connection.device());
    check_cuda(cudaEventCreateWithFlags(&done_event_, cudaEventDisableTiming), "cudaEventCreate", connection.device());
    connection_.add(*this);
  }
  ~NcclTransfer() override {
    if (!done_) connection_.abort();
    cudaEventDestroy(done_event_);
  }

  bool advance(double waited) override {
    connection_.drive(*this);
    if (handed_over_) {
      const cudaError_t code = cudaEventQuery(done_event_);
      if (code != cudaErrorNotReady) check_cuda(code, name_, connection_.device());
      done_ = code == cudaSuccess;
    }
    if (!done_) rest(waited, bytes_);
    return done_;
  }

  // NCCL does not say whom it waits for.
  std::vector<int> missing() const override { return connection_.owner().others(); }

  // Called by the connection: gives the work to NCCL, and marks its end in the stream once NCCL has put it there.
  void launch() {
    connection_.check(ncclGroupStart(), *this);
    const ncclResult_t issued = issue();
    const ncclResult_t ended = ncclGroupEnd();  // also after a failure: a group left open would swallow ncclCommAbort
    connection_.check(issued, *this);
    connection_.check(ended, *this);
  }
  void mark_end() {
    check_cuda(cudaEventRecord(done_event_, connection_.stream()), "cudaEventRecord", connection_.device());
    handed_over_ = true;
  }

  std::string describe() const {
    const Communicator& owner = connection_.owner();
    return fmt::format("{} in '{}' of step {}: {} bytes{}, by rank {} of {}", name_, owner.progress().operation(),
                       owner.progress().step(), bytes_, whom(), owner.rank(), owner.size());
  }

 protected:
  // The calls of one group; the first failure, or ncclSuccess.
  virtual ncclResult_t issue() = 0;
  virtual std::string whom() const { return {}; }

  Connection& connection_;

 private:
  const char* name_;
  std::size_t bytes_;
  cudaEvent_t done_event_ = nullptr;
  bool handed_over_ = false;
  bool done_ = false;
};

// An empty group: done when the connection is there.
class Connecting : public NcclTransfer {
 public:
  explicit Connecting(Connection& connection) : NcclTransfer(connection, "connecting the GPUs", 0) {}

 protected:
  ncclResult_t issue() override { return ncclSuccess; }
};

std::size_t bytes_in(std::span<const Outgoing> out, std::span<const Incoming> in) {
  std::size_t bytes = 0;
  for (const Outgoing& message : out) bytes += message.bytes.size();
  for (const Incoming& message : in) bytes += message.bytes.size();
  return bytes;
}

class Messages : public NcclTransfer {
 public:
  Messages(Connection& connection, const char* primitive, std::span<const Outgoing> out, std::span<const Incoming> in)
      : NcclTransfer(connection, primitive, bytes_in(out, in)), out_(out.begin(), out.end()), in_(in.begin(), in.end()) {}

 protected:
  ncclResult_t issue() override {
    ncclResult_t first = ncclSuccess;
    const auto keep = [&](ncclResult_t code) {
      if (first == ncclSuccess && code != ncclInProgress) first = code;
    };
    for (const Incoming& m : in_)
      keep(ncclRecv(m.bytes.data(), m.bytes.size(), ncclUint8, m.peer, connection_.nccl(), connection_.stream()));
    for (const Outgoing& m : out_)
      keep(ncclSend(m.bytes.data(), m.bytes.size(), ncclUint8, m.peer, connection_.nccl(), connection_.stream()));
    return first;
  }
  std::string whom() const override {
    std::vector<int> peers;
    for (const Incoming& m : in_) peers.push_back(m.peer);
    for (const Outgoing& m : out_) peers.push_back(m.peer);
    std::sort(peers.begin(), peers.end());
    peers.erase(std::unique(peers.begin(), peers.end()), peers.end());
    return fmt::format(" from and to {} {}", peers.size() == 1 ? "rank" : "ranks", join(numbers(peers), ", "));
  }

 private:
  std::vector<Outgoing> out_;
  std::vector<Incoming> in_;
};

class Sum : public NcclTransfer {
 public:
  Sum(Connection& connection, std::span<float> values)
      : NcclTransfer(connection, "native sum", values.size_bytes()), values_(values) {}

 protected:
  ncclResult_t issue() override {
    const ncclResult_t code = ncclAllReduce(values_.data(), values_.data(), values_.size(), ncclFloat32, ncclSum,
                                            connection_.nccl(), connection_.stream());
    return code == ncclInProgress ? ncclSuccess : code;
  }

 private:
  std::span<float> values_;
};

Connection::Connection(const Communicator& owner, int device, const ncclUniqueId& id) : owner_(owner), device_(device) {
  check_cuda(cudaSetDevice(device_), "cudaSetDevice", device_);
  check_cuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreate", device_);
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  begun_ = ncclCommInitRankConfig(&nccl_, owner_.size(), id, owner_.rank(), &config);
}

Connection::~Connection() {
  abort();
  cudaStreamDestroy(stream_);
}

// Not ncclCommDestroy, which waits for the others: no destructor communicates.
void Connection::abort() noexcept {
  if (nccl_ != nullptr && !ended_) ncclCommAbort(nccl_);
  ended_ = true;
  launching_ = nullptr;
  waiting_.clear();
}

void Connection::check(ncclResult_t code, const NcclTransfer& for_whom) const {
  if (code == ncclSuccess || code == ncclInProgress) return;
  const char* more = ncclGetLastError(nullptr);  // of this thread; NCCL does not look at the argument
  throw SurroundingsError(
      "{} failed on GPU {} of host {} (pid {}): NCCL says '{}'{}. Set NCCL_DEBUG=INFO to see more; where the ranks do not "
      "reach "
      "each other, NCCL_SOCKET_IFNAME=NAME picks the network. Then start again with --resume, or with gpu_sum: host.",
      for_whom.describe(), device_, host_name(), getpid(), ncclGetErrorString(code),
      more != nullptr && *more != '\0' ? fmt::format(" ({})", more) : "");
}

// Whether NCCL has done with what it was last told.
bool Connection::settled(const NcclTransfer& for_whom) const {
  check(begun_, for_whom);
  ncclResult_t state = ncclSuccess;
  check(ncclCommGetAsyncError(nccl_, &state), for_whom);
  check(state, for_whom);
  return state == ncclSuccess;
}

bool Connection::drive(const NcclTransfer& for_whom) {
  if (ended_) throw SurroundingsError("{}: the GPUs' connection has ended after an earlier error", for_whom.describe());
  while (settled(for_whom)) {
    if (launching_ != nullptr) {
      launching_->mark_end();
      launching_ = nullptr;
    }
    if (waiting_.empty()) return true;
    launching_ = waiting_.front();
    waiting_.pop_front();
    launching_->launch();
  }
  return false;
}

// A GPU as NCCL tells it from others: the host, or what NCCL_HOSTID says instead, and the place on its bus.
std::string place_of(int device) {
  std::array<char, 32> bus{};
  check_cuda(cudaDeviceGetPCIBusId(bus.data(), static_cast<int>(bus.size()), device), "cudaDeviceGetPCIBusId", device);
  const char* host = std::getenv("NCCL_HOSTID");
  return fmt::format("GPU {} of host {}", bus.data(), host != nullptr ? host : host_name());
}

}  // namespace

class NcclCommunicator : public Communicator {
 public:
  NcclCommunicator(std::shared_ptr<Communicator> host, int device, const ncclUniqueId& id)
      : Communicator("nccl", host->rank(), host->ranks(), host->options()),
        host_(std::move(host)),
        device_(device),
        connection_(*this, device, id) {
    progress_ = host_->progress_;  // the errors of either say where this rank is
  }

  void connect() { wait(std::make_unique<Connecting>(connection_)); }

  [[noreturn]] void abort(int exit_code) override {
    connection_.abort();
    host_->abort(exit_code);
    std::_Exit(exit_code);  // never reached; g++ 12 does not see that a virtual function does not return
  }
  bool carries_device_memory() const override { return true; }
  bool adds_natively() const override { return true; }

 protected:
  std::unique_ptr<Transfer> post(const char* primitive, std::span<const Outgoing> out, std::span<const Incoming> in) override {
    std::size_t here = 0;
    for (const Outgoing& message : out) here += in_device_memory(message.bytes.data(), device_) ? 1 : 0;
    for (const Incoming& message : in) here += in_device_memory(message.bytes.data(), device_) ? 1 : 0;
    if (here == 0) return host_->post(primitive, out, in);
    if (here != out.size() + in.size())
      throw BugError("{}: {} of {} messages are in the memory of the GPU; all or none must be", primitive, here,
                     out.size() + in.size());
    return begun(std::make_unique<Messages>(connection_, primitive, out, in));
  }
  std::unique_ptr<Transfer> post_sum(std::span<float> values) override {
    if (!in_device_memory(values.data(), device_)) return host_->post_sum(values);
    return begun(std::make_unique<Sum>(connection_, values));
  }
  void copy(std::byte* to, const std::byte* from, std::size_t bytes) override {
    if (!in_device_memory(to, device_) && !in_device_memory(from, device_)) return host_->copy(to, from, bytes);
    check_cuda(cudaMemcpy(to, from, bytes, cudaMemcpyDefault), "cudaMemcpy", device_);
  }
  bool roll_called() override { return host_->roll_called(); }
  Answers roll_call(const Whereabouts& mine, double seconds) override { return host_->roll_call(mine, seconds); }

 private:
  std::unique_ptr<Transfer> begun(std::unique_ptr<NcclTransfer> transfer) {
    connection_.drive(*transfer);
    return transfer;
  }

  std::shared_ptr<Communicator> host_;
  int device_;
  Connection connection_;
};

std::string why_no_nccl(Communicator& host, int device) {
  const std::vector<std::string> places = host.all_gather_text(place_of(device));
  for (int rank = 1; rank < host.size(); ++rank) {
    const auto other = std::find(places.begin(), places.begin() + rank, places[rank]);
    if (other != places.begin() + rank)
      return fmt::format("ranks {} and {} are both on {}, NCCL wants a GPU for each rank", other - places.begin(), rank,
                         places[rank]);
  }
  return {};
}

std::string nccl_version() {
  int version = 0;
  ncclGetVersion(&version);
  return fmt::format("{}.{}.{}", version / 10000, version / 100 % 100, version % 100);
}

std::unique_ptr<Communicator> make_nccl(std::shared_ptr<Communicator> host, int device) {
  if (const std::string why = why_no_nccl(*host, device); !why.empty())
    throw UserError("gpu_sum: got nccl, but {}. Start as many ranks on a host as it has GPUs, or set gpu_sum to host.", why);
  ncclUniqueId id{};
  if (host->rank() == 0) {
    const ncclResult_t code = ncclGetUniqueId(&id);
    if (code != ncclSuccess)
      throw SurroundingsError(
          "ncclGetUniqueId failed at rank 0 of {} on host {} (pid {}): NCCL says '{}' ({}). Set NCCL_DEBUG=INFO to see more; "
          "NCCL_SOCKET_IFNAME=NAME picks the network. Then start again, or with gpu_sum: host.",
          host->size(), host->host(), getpid(), ncclGetErrorString(code), ncclGetLastError(nullptr));
  }
  host->broadcast(0, std::span<ncclUniqueId>(&id, 1));
  auto comm = std::make_unique<NcclCommunicator>(std::move(host), device, id);
  comm->connect();
  return comm;
}

}  // namespace gru4rec

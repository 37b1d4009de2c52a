// MPI, behind Communicator. The only file that includes mpi.h.
#define OMPI_SKIP_MPICXX 1
#include <mpi.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "gru4rec/base/error.h"
#include "gru4rec/base/host_name.h"
#include "gru4rec/comm/world.h"
#include "rest.h"

namespace gru4rec {
namespace {

constexpr int kDataTag = 1;
constexpr int kRollTag = 2;

std::string library_text(int code) {
  char text[MPI_MAX_ERROR_STRING] = {};
  int length = 0;
  return MPI_Error_string(code, text, &length) == MPI_SUCCESS ? std::string(text, static_cast<std::size_t>(length))
                                                              : fmt::format("MPI error {}", code);
}

// Throws if an MPI call failed; `doing` says what was going on.
template <typename Doing>
void check(int code, const Doing& doing) {
  if (code == MPI_SUCCESS) return;
  throw SurroundingsError(
      "{} failed on host {} (pid {}): MPI says '{}'. Check that all hosts are up and reach each other on every network that "
      "mpirun uses (--mca btl_tcp_if_include NETWORK picks one), then start again with --resume.",
      doing(), host_name(), getpid(), library_text(code));
}

// Ends all ranks. A process that leaves without MPI_Finalize is to mpirun a failed job: it ends the other ranks and returns the
// code. MPI_Abort would do the same, but it sends mpirun an explanation that now and then makes Open MPI 4.1.4 hang or crash
// while another rank is stopped. Other launchers need it.
[[noreturn]] void end_job(int exit_code) {
  std::fflush(nullptr);
  if (std::getenv("OMPI_COMM_WORLD_SIZE") == nullptr) MPI_Abort(MPI_COMM_WORLD, exit_code);
  std::_Exit(exit_code);
}

class MpiTransfer : public Transfer {
 public:
  MpiTransfer(MPI_Comm comm, const Communicator& owner, bool beside_others, const char* primitive,
              std::span<const Outgoing> out, std::span<const Incoming> in)
      : owner_(owner), beside_others_(beside_others), name_(primitive), receives_(in.size()) {
    for (const Incoming& message : in) add(message.peer, message.bytes.size());
    for (const Outgoing& message : out) add(message.peer, message.bytes.size());
    // Sends first. A long message is announced, and sent once the other rank has answered; where its announcement is here
    // already, posting the receive answers. The other rank would take that answer for the start and send all it has, and its
    // own answer to what is announced here later would wait in line behind that: one direction after the other.
    for (std::size_t i = 0; i < out.size(); ++i)
      check(MPI_Isend(out[i].bytes.data(), static_cast<int>(out[i].bytes.size()), MPI_BYTE, out[i].peer, kDataTag, comm,
                      &requests_[receives_ + i]),
            [&] { return describe(receives_ + i); });
    for (std::size_t i = 0; i < in.size(); ++i)
      check(MPI_Irecv(in[i].bytes.data(), static_cast<int>(in[i].bytes.size()), MPI_BYTE, in[i].peer, kDataTag, comm,
                      &requests_[i]),
            [&] { return describe(i); });
    statuses_.resize(requests_.size());
  }

  bool advance(double waited) override {
    int done = 0;
    const int code = MPI_Testall(static_cast<int>(requests_.size()), requests_.data(), &done, statuses_.data());
    if (code != MPI_SUCCESS) refuse(code);
    if (!done) {
      beside_others_ ? rest_beside_others() : rest(waited, bytes_);
      return false;
    }
    for (std::size_t i = 0; i < receives_; ++i) check_size(i);
    return true;
  }

  std::vector<int> missing() const override {
    std::vector<int> peers;
    const auto collect = [&](std::size_t first, std::size_t last) {
      for (std::size_t i = first; i < last; ++i) {
        int done = 0;
        MPI_Request_get_status(requests_[i], &done, MPI_STATUS_IGNORE);
        if (!done) peers.push_back(peers_[i]);
      }
    };
    collect(0, receives_);
    if (peers.empty()) collect(receives_, requests_.size());  // nobody owes us a message; somebody does not take ours
    std::sort(peers.begin(), peers.end());
    peers.erase(std::unique(peers.begin(), peers.end()), peers.end());
    return peers;
  }

 private:
  void add(int peer, std::size_t bytes) {
    requests_.push_back(MPI_REQUEST_NULL);
    peers_.push_back(peer);
    sizes_.push_back(static_cast<int>(bytes));
    bytes_ += bytes;
  }

  std::string describe(std::size_t i) const {
    return fmt::format("{} in '{}' of step {}: {} {} bytes {} {} by rank {} of {}", name_, owner_.progress().operation(),
                       owner_.progress().step(), i < receives_ ? "receiving" : "sending", sizes_[i],
                       i < receives_ ? "from" : "to", owner_.describe(peers_[i]), owner_.rank(), owner_.size());
  }

  [[noreturn]] void refuse(int code) const {
    for (std::size_t i = 0; code == MPI_ERR_IN_STATUS && i < requests_.size(); ++i) {
      const int error = statuses_[i].MPI_ERROR;
      if (error == MPI_SUCCESS || error == MPI_ERR_PENDING) continue;
      if (error == MPI_ERR_TRUNCATE) refuse_size(i, "more");
      check(error, [&] { return describe(i); });
    }
    check(code, [&] { return fmt::format("{} by rank {} of {}", name_, owner_.rank(), owner_.size()); });
    throw BugError("MPI reported an error without saying which");
  }

  [[noreturn]] void refuse_size(std::size_t i, const std::string& got) const {
    throw BugError("{}: rank {} sent {} bytes to rank {}, which wanted {}; both must pass the same sizes", name_, peers_[i],
                   got, owner_.rank(), sizes_[i]);
  }

  void check_size(std::size_t i) const {
    int got = 0;
    MPI_Get_count(&statuses_[i], MPI_BYTE, &got);
    if (got != sizes_[i]) refuse_size(i, std::to_string(got));
  }

  const Communicator& owner_;
  const bool beside_others_;
  const char* name_;
  std::size_t receives_;  // requests_ begins with this many
  std::size_t bytes_ = 0;
  std::vector<MPI_Request> requests_;
  std::vector<int> peers_, sizes_;  // by request
  std::vector<MPI_Status> statuses_;
};

// The library's own sum over all ranks, in place. Who is late is not known: all others are missing.
class MpiSum : public Transfer {
 public:
  MpiSum(MPI_Comm comm, const Communicator& owner, std::span<float> values) : owner_(owner), bytes_(values.size_bytes()) {
    const std::size_t piece = std::max<std::size_t>(1, owner.options().chunk_bytes / sizeof(float));
    for (std::size_t at = 0; at < values.size(); at += piece) {
      const std::size_t count = std::min(piece, values.size() - at);
      requests_.push_back(MPI_REQUEST_NULL);
      check(MPI_Iallreduce(MPI_IN_PLACE, values.data() + at, static_cast<int>(count), MPI_FLOAT, MPI_SUM, comm,
                           &requests_.back()),
            [&] { return describe(); });
    }
  }

  bool advance(double waited) override {
    int done = 0;
    check(MPI_Testall(static_cast<int>(requests_.size()), requests_.data(), &done, MPI_STATUSES_IGNORE),
          [&] { return describe(); });
    if (!done) rest(waited, bytes_);
    return done != 0;
  }

  std::vector<int> missing() const override { return owner_.others(); }

 private:
  std::string describe() const {
    return fmt::format("native sum in '{}' of step {}: {} bytes, by rank {} of {}", owner_.progress().operation(),
                       owner_.progress().step(), bytes_, owner_.rank(), owner_.size());
  }

  const Communicator& owner_;
  std::size_t bytes_;
  std::vector<MPI_Request> requests_;
};

MPI_Comm duplicate(MPI_Comm of) {
  MPI_Comm own = MPI_COMM_NULL;
  const auto doing = [] { return std::string("setting up communication"); };
  check(MPI_Comm_dup(of, &own), doing);
  check(MPI_Comm_set_errhandler(own, MPI_ERRORS_RETURN), doing);
  return own;
}

// Collective. What becomes a world of ours: messages go by `data`, the roll is called by `roll`.
std::unique_ptr<Communicator> world_of(MPI_Comm data, MPI_Comm roll, const CommOptions& options);

class MpiCommunicator : public Communicator {
 public:
  // `roll`: MPI_COMM_NULL in one for another thread.
  MpiCommunicator(MPI_Comm data, MPI_Comm roll, int rank, std::vector<RankInfo> ranks, const CommOptions& options)
      : Communicator("mpi", rank, std::move(ranks), options), data_(data), roll_(roll) {}
  // The duplicated communicators are left to MPI_Finalize: freeing them would communicate.

  std::unique_ptr<Communicator> for_another_thread() override {
    int level = MPI_THREAD_SINGLE;
    check(MPI_Query_thread(&level), [] { return std::string("MPI_Query_thread"); });
    const std::vector<int> levels = all_gather(level);
    for (int peer = 0; peer < size(); ++peer)
      if (levels[static_cast<std::size_t>(peer)] < MPI_THREAD_MULTIPLE)
        throw UserError(
            "a second thread is to communicate, and MPI on {} offers thread level {}; wanted {} (MPI_THREAD_MULTIPLE). Set "
            "overlap to false, or use an Open MPI built with it.",
            describe(peer), levels[static_cast<std::size_t>(peer)], MPI_THREAD_MULTIPLE);
    return std::make_unique<MpiCommunicator>(duplicate(data_), MPI_COMM_NULL, rank(), ranks(), options_for_another_thread());
  }

  std::unique_ptr<Communicator> split(int group) override {
    const auto part_of = [&](MPI_Comm of) {
      MPI_Comm part = MPI_COMM_NULL;
      const auto doing = [] { return std::string("dividing the ranks into groups"); };
      check(MPI_Comm_split(of, group, rank(), &part), doing);
      check(MPI_Comm_set_errhandler(part, MPI_ERRORS_RETURN), doing);
      return part;
    };
    const MPI_Comm data = part_of(data_), roll = part_of(roll_);
    return world_of(data, roll, options());
  }

  [[noreturn]] void abort(int exit_code) override { end_job(exit_code); }
  bool adds_natively() const override { return true; }
  using Communicator::share_notes;

 protected:
  std::unique_ptr<Transfer> post(const char* primitive, std::span<const Outgoing> out, std::span<const Incoming> in) override {
    return std::make_unique<MpiTransfer>(data_, *this, roll_ == MPI_COMM_NULL, primitive, out, in);
  }
  std::unique_ptr<Transfer> post_sum(std::span<float> values) override {
    return std::make_unique<MpiSum>(data_, *this, values);
  }

  bool roll_called() override {
    if (roll_ == MPI_COMM_NULL) return false;
    const auto now = std::chrono::steady_clock::now();
    if (now - last_look_ < std::chrono::milliseconds(50)) return false;
    last_look_ = now;
    int there = 0;
    return MPI_Iprobe(MPI_ANY_SOURCE, kRollTag, roll_, &there, MPI_STATUS_IGNORE) == MPI_SUCCESS && there;
  }

  Answers roll_call(const Whereabouts& mine, double seconds) override {
    mine_ = mine;
    inbox_.resize(static_cast<std::size_t>(size()));
    std::vector<MPI_Request> receives(static_cast<std::size_t>(size()), MPI_REQUEST_NULL);
    Answers answers(static_cast<std::size_t>(size()));
    answers[static_cast<std::size_t>(rank())] = mine;
    for (int peer = 0; peer < size(); ++peer) {  // errors: a rank that cannot be reached is silent
      if (peer == rank()) continue;
      MPI_Request sent;
      MPI_Isend(&mine_, sizeof mine_, MPI_BYTE, peer, kRollTag, roll_, &sent);
      MPI_Irecv(&inbox_[peer], sizeof inbox_[peer], MPI_BYTE, peer, kRollTag, roll_, &receives[peer]);
    }
    const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
    for (int open = size() - 1; open > 0 && std::chrono::steady_clock::now() < end;) {
      for (int peer = 0; peer < size(); ++peer) {
        int done = 0;
        if (receives[peer] == MPI_REQUEST_NULL) continue;
        const int code = MPI_Test(&receives[peer], &done, MPI_STATUS_IGNORE);
        if (code == MPI_SUCCESS && !done) continue;
        if (code == MPI_SUCCESS) answers[peer] = inbox_[peer];
        receives[peer] = MPI_REQUEST_NULL;
        --open;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    let_the_first_speak(answers);
    return answers;
  }

 private:
  // All who answered have the same to say. The lowest of them says it and ends the job; the others give it time to, since
  // mpirun 4.1 can itself crash when several ranks abort at once while another is stopped.
  void let_the_first_speak(const Answers& answers) const {
    const auto first = std::find_if(answers.begin(), answers.end(), [](const auto& answer) { return answer.has_value(); });
    if (first - answers.begin() < rank()) std::this_thread::sleep_for(std::chrono::seconds(5));
  }

  MPI_Comm data_, roll_;
  std::chrono::steady_clock::time_point last_look_{};
  Whereabouts mine_;  // sent and received by the roll: these outlive every call
  std::vector<Whereabouts> inbox_;
};

// Who the ranks are, before there is a communicator of ours.
std::vector<RankInfo> introduce(MPI_Comm comm, int rank, int size) {
  struct Card {
    char host[256];
    int64_t pid;
    int32_t local_rank;
  };
  MPI_Comm local = MPI_COMM_NULL;
  int local_rank = 0;
  const auto doing = [&] { return fmt::format("introducing rank {} of {} to the others", rank, size); };
  check(MPI_Comm_split_type(comm, MPI_COMM_TYPE_SHARED, rank, MPI_INFO_NULL, &local), doing);
  check(MPI_Comm_rank(local, &local_rank), doing);
  check(MPI_Comm_free(&local), doing);
  Card mine{};
  std::strncpy(mine.host, host_name().c_str(), sizeof mine.host - 1);
  mine.pid = getpid();
  mine.local_rank = local_rank;
  std::vector<Card> cards(static_cast<std::size_t>(size));
  check(MPI_Allgather(&mine, sizeof mine, MPI_BYTE, cards.data(), sizeof mine, MPI_BYTE, comm), doing);
  std::vector<RankInfo> ranks;
  for (const Card& card : cards) ranks.push_back({card.host, card.pid, card.local_rank});
  return ranks;
}

std::unique_ptr<Communicator> world_of(MPI_Comm data, MPI_Comm roll, const CommOptions& options) {
  int rank = 0, size = 0;
  const auto doing = [] { return std::string("setting up communication"); };
  check(MPI_Comm_rank(data, &rank), doing);
  check(MPI_Comm_size(data, &size), doing);
  auto world = std::make_unique<MpiCommunicator>(data, roll, rank, introduce(data, rank, size), options);
  world->share_notes();
  return world;
}

bool is_set(const char* variable) { return std::getenv(variable) != nullptr; }

int number_in(const char* variable) { return is_set(variable) ? std::atoi(std::getenv(variable)) : 0; }

}  // namespace

bool MpiEnvironment::started_by_launcher() { return is_set("OMPI_COMM_WORLD_SIZE") || is_set("PMIX_RANK"); }

void MpiEnvironment::initialise() {
  if (initialised_) return;
  int provided = MPI_THREAD_SINGLE;
  // The most there is: whether a second thread will communicate (overlap) only rank 0 knows so far. Less will do without one.
  check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, &provided), [] { return std::string("MPI_Init_thread"); });
  initialised_ = true;
  if (provided < MPI_THREAD_FUNNELED)
    throw SurroundingsError(
        "this MPI offers thread level {}; wanted at least {} (MPI_THREAD_FUNNELED), since a rank has threads besides the one "
        "that communicates. Use an Open MPI built with thread support.",
        provided, MPI_THREAD_FUNNELED);
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
}

void MpiEnvironment::finalize(Communicator& world) {
  if (!initialised_) return;
  world.progress().report(world.progress().step(), "leaving");
  world.barrier();
  initialised_ = false;
  check(MPI_Finalize(), [] { return std::string("MPI_Finalize"); });
}

void MpiEnvironment::abort(int exit_code) {
  if (initialised_) end_job(exit_code);
  std::fflush(nullptr);
  std::_Exit(exit_code);
}

std::unique_ptr<Communicator> make_mpi(const MpiEnvironment& environment, const CommOptions& options) {
  if (!environment.initialised()) throw BugError("make_mpi before MpiEnvironment::initialise");
  const MPI_Comm data = duplicate(MPI_COMM_WORLD), roll = duplicate(MPI_COMM_WORLD);
  return world_of(data, roll, options);
}

std::string mpi_version() {
  char text[MPI_MAX_LIBRARY_VERSION_STRING] = {};
  int length = 0;
  MPI_Get_library_version(text, &length);
  const std::string whole(text, static_cast<std::size_t>(length));
  return whole.substr(0, whole.find_first_of(",\n"));  // "Open MPI v4.1.4, package: …"
}

std::unique_ptr<Communicator> make_world(MpiEnvironment& environment, const CommOptions& options) {
  if (MpiEnvironment::started_by_launcher()) {
    environment.initialise();
    return make_mpi(environment, options);
  }
  if (number_in("SLURM_STEP_NUM_TASKS") > 1)
    throw UserError(
        "srun started {} tasks that cannot find each other: PMIX_RANK is not set, and each would train alone. Use "
        "srun --mpi=pmix, or mpirun inside the allocation.",
        number_in("SLURM_STEP_NUM_TASKS"));
  if (number_in("PMI_SIZE") > 1)
    throw UserError(
        "another MPI's launcher started {} processes (PMI_SIZE is set, OMPI_COMM_WORLD_SIZE is not), and each would train "
        "alone. Use the mpirun of the Open MPI this program was built with.",
        number_in("PMI_SIZE"));
  return make_single(options);
}

}  // namespace gru4rec

#include <ATen/Parallel.h>
#include <dlfcn.h>
#include <torch/headeronly/version.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "commands.h"
#include "gru4rec/base/error.h"
#include "gru4rec/base/hash.h"
#include "gru4rec/base/version.h"
#include "gru4rec/comm/agreement.h"
#include "gru4rec/comm/measure.h"
#include "gru4rec/comm/shared_floats.h"
#include "gru4rec/comm/watchdog.h"
#include "gru4rec/model/device.h"
#include "gru4rec/train/determinism.h"
#include "world.h"

namespace gru4rec {
namespace {

constexpr std::size_t kKibi = 1024, kMebi = 1024 * 1024, kLargest = 64 * kMebi;
constexpr double kClocksApart = 1.0;  // seconds from which on log lines of two hosts are hard to put in order

using Row = std::vector<std::string>;

// Columns as wide as their widest cell; the first row is the head.
void print_table(const std::vector<Row>& rows) {
  std::vector<std::size_t> widths;
  for (const Row& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  for (const Row& row : rows) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i) line += fmt::format("{:<{}}  ", row[i], widths[i]);
    line.erase(line.find_last_not_of(' ') + 1);
    fmt::print("{}\n", line);
  }
  fmt::print("\n");
}

// The loaded LibTorch has no function that tells its version: that of its headers, and the size of the file it came from.
std::string torch_text() {
  Dl_info loaded{};
  std::error_code ignored;
  const bool found = dladdr(reinterpret_cast<const void*>(&at::get_num_threads), &loaded) != 0;
  return fmt::format("{} ({} bytes)", TORCH_VERSION, found ? std::filesystem::file_size(loaded.dli_fname, ignored) : 0);
}

// Digest of the store, or why there is none.
std::string store_text(const std::string& path) {
  try {
    return hex_text(Store(path).info().data_digest);
  } catch (const Error& error) {
    return fmt::format("none ({})", error.what());
  }
}

// What ranks are asked, and in which row of the answers it is.
enum Fact { kProgram, kTorch, kMpi, kHdf5, kNccl, kCores, kThreads, kProcessor, kGpu, kStore, kFacts };

Row facts_of(const Options& options, bool names_data, int local_rank) {
  Row facts(kFacts);
  facts[kProgram] = fmt::format("{} {}", kVersion, hex_text(program_digest()));
  facts[kTorch] = torch_text();
  facts[kMpi] = mpi_version();
  facts[kHdf5] = hdf5_version();
  facts[kNccl] = nccl_version().empty() ? "not built" : nccl_version();
  facts[kCores] = std::to_string(std::thread::hardware_concurrency());
  facts[kThreads] = std::to_string(options.num_threads);
  facts[kProcessor] = capability_name(processor_capability());
  facts[kStore] = names_data ? store_text(options.store) : "-";
  try {
    const at::Device device = compute_device(options.device, local_rank);
    facts[kGpu] = device.is_cpu() ? "-" : std::to_string(device.index());
  } catch (const Error& error) {
    facts[kGpu] = fmt::format("none ({})", error.what());
  }
  return facts;
}

// Collective. The facts of every rank.
std::vector<Row> gather_facts(const Row& mine, Communicator& comm) {
  std::vector<Row> all(static_cast<std::size_t>(comm.size()));
  for (const std::string& fact : mine) {
    const std::vector<std::string> texts = comm.all_gather_text(fact);
    for (std::size_t rank = 0; rank < all.size(); ++rank) all[rank].push_back(texts[rank]);
  }
  return all;
}

// Collects what would end a training.
class Findings {
 public:
  void check(const std::function<void()>& requirement) {
    try {
      requirement();
    } catch (const UserError& error) {
      add(error.what());
    }
  }
  void add(const std::string& text) { texts_.push_back(text); }
  void print() const {
    for (const std::string& text : texts_) fmt::print("WRONG: {}\n", text);
  }
  bool empty() const { return texts_.empty(); }

 private:
  std::vector<std::string> texts_;
};

// Collective. Equal on all ranks.
Findings compare(const std::vector<Row>& facts, Communicator& comm) {
  const Row& mine = facts[static_cast<std::size_t>(comm.rank())];
  const std::string advice = "Install the same libraries on all hosts (launch/setup.sh).";
  Findings findings;
  findings.check([&] { require_same_program(comm); });
  findings.check([&] { require_equal(comm, "LibTorch", mine[kTorch], advice); });
  findings.check([&] { require_equal(comm, "MPI", mine[kMpi], advice); });
  findings.check([&] { require_equal(comm, "HDF5", mine[kHdf5], advice); });
  findings.check([&] { require_equal(comm, "NCCL", mine[kNccl], advice); });
  findings.check([&] { require_same_data(comm, mine[kStore]); });
  if (facts[0][kStore].starts_with("none") && findings.empty()) findings.add("no rank has the store: " + facts[0][kStore]);
  for (int rank = 0; rank < comm.size(); ++rank)
    if (const std::string& gpu = facts[static_cast<std::size_t>(rank)][kGpu]; gpu.starts_with("none"))
      findings.add(fmt::format("{} has no GPU: {}", comm.describe(rank), gpu));
  return findings;
}

void print_ranks(const std::vector<Row>& facts, const std::vector<double>& clocks, const Communicator& comm) {
  std::vector<Row> rows = {{"rank", "host", "pid", "program", "LibTorch", "MPI", "HDF5", "NCCL", "cores", "threads",
                            "processor", "GPU", "clock", "store"}};
  for (std::size_t rank = 0; rank < facts.size(); ++rank) {
    const RankInfo& info = comm.ranks()[rank];
    const Row& own = facts[rank];
    const auto brief = [](const std::string& text) { return text.starts_with("none") ? "none" : text; };
    rows.push_back({std::to_string(rank), info.host, std::to_string(info.pid), own[kProgram], own[kTorch], own[kMpi],
                    own[kHdf5], own[kNccl], own[kCores], own[kThreads], own[kProcessor], brief(own[kGpu]),
                    fmt::format("{:+.6f} s", clocks[rank]), brief(own[kStore])});
  }
  print_table(rows);
}

std::string rate(std::size_t bytes, double seconds) {
  return fmt::format("{:.1f} MB/s", static_cast<double>(bytes) / seconds / 1e6);
}

void print_exchanges(Communicator& comm) {
  const std::vector<PairTime> small = time_pairs(comm, 8), middle = time_pairs(comm, kMebi),
                              large = time_pairs(comm, kLargest);
  if (comm.rank() != 0) return;
  std::vector<Row> rows = {{"ranks", "8 B, one way", "1 MiB", "64 MiB"}};
  for (std::size_t i = 0; i < small.size(); ++i)
    rows.push_back({fmt::format("{}-{}", small[i].first, small[i].second), fmt::format("{:.1f} us", 1e6 * small[i].seconds),
                    rate(kMebi, middle[i].seconds), rate(kLargest, large[i].seconds)});
  print_table(rows);
}

void print_sums(Communicator& comm) {
  std::vector<Row> rows = {{"ordered sum of", "seconds", "of gradient"}};
  for (const std::size_t bytes : {4 * kKibi, 256 * kKibi, 4 * kMebi, kLargest}) {
    const double seconds = time_ordered_sum(comm, bytes / sizeof(float));
    rows.push_back({fmt::format("{} KiB", bytes / kKibi), fmt::format("{:.6f}", seconds), rate(bytes, seconds)});
  }
  if (comm.rank() == 0) print_table(rows);
}

// Collective. By rank, how many others of its host it cannot read the gradients of, if they are as large as the largest here.
std::vector<int> count_unread(Communicator& comm) {
  const int read = SharedFloats(kLargest / sizeof(float)).map_others(comm).ranks();
  const auto on_host = std::ranges::count_if(comm.ranks(), [&](const RankInfo& info) { return info.host == comm.host(); });
  return comm.all_gather(static_cast<int>(on_host) - 1 - read);
}

// What does not end a training, but somebody should know.
void print_remarks(const std::vector<Row>& facts, const std::vector<double>& clocks, const std::vector<int>& unread,
                   const Communicator& comm) {
  for (std::size_t rank = 0; rank < facts.size(); ++rank) {
    const std::string who = comm.describe(static_cast<int>(rank));
    if (std::abs(clocks[rank]) > kClocksApart)
      fmt::print("note: the clock of {} is {:+.1f} s from that of rank 0. Let NTP set it, or times in logs will mislead.\n",
                 who, clocks[rank]);
    if (facts[rank][kProcessor] != facts[0][kProcessor])
      fmt::print("note: {} is {}, rank 0 {}: all ranks will use the lower instruction set.\n", who, facts[rank][kProcessor],
                 facts[0][kProcessor]);
    if (unread[rank] > 0)
      fmt::print("note: {} and {} other rank(s) of its host cannot read each other's memory, so what they could read is sent: "
                 "they are in different containers, have no /proc or a limit on the size of files (ulimit -f), or the system "
                 "forbids it.\n",
                 who, unread[rank]);
  }
}

}  // namespace

int run_doctor(Options options, bool names_data, MpiEnvironment& environment) {
  const std::unique_ptr<Communicator> comm = start_world(environment, options);
  const Watchdog watchdog(*comm);
  comm->broadcast(0, std::span<bool>(&names_data, 1));
  const bool speaks = comm->rank() == 0;
  const std::vector<Row> facts = gather_facts(facts_of(options, names_data, comm->local_rank()), *comm);
  const std::vector<double> clocks = clock_offsets(*comm);
  if (speaks) {
    fmt::print("{} rank(s) over {}\n\n", comm->size(), comm->name());
    print_ranks(facts, clocks, *comm);
    std::fflush(stdout);
  }
  const Findings findings = compare(facts, *comm);
  const std::vector<int> unread = count_unread(*comm);
  if (comm->size() > 1) {
    print_exchanges(*comm);
    print_sums(*comm);
  }
  if (speaks) {
    print_remarks(facts, clocks, unread, *comm);
    findings.print();
    if (findings.empty()) fmt::print("all is well\n");
    std::fflush(stdout);
  }
  environment.finalize(*comm);
  return findings.empty() ? kExitDone : kExitUser;
}

}  // namespace gru4rec

#include "world.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <optional>

#include "gru4rec/base/config.h"
#include "gru4rec/base/error.h"
#include "gru4rec/base/hash.h"
#include "gru4rec/base/version.h"
#include "gru4rec/comm/agreement.h"
#include "gru4rec/data/ingest.h"
#include "gru4rec/model/device.h"
#include "gru4rec/train/core_to_spare.h"
#include "gru4rec/train/determinism.h"

namespace gru4rec {

std::unique_ptr<Communicator> start_world(MpiEnvironment& environment, Options& options) {
  std::unique_ptr<Communicator> comm = make_world(environment, {.timeout = options.comm_timeout});
  options = options_from_yaml(comm->broadcast_text(0, to_yaml(options)), "options of rank 0");
  comm->set_timeout(options.comm_timeout);  // the other ranks have only learned it now
  return comm;
}

void require_same_program(Communicator& comm) {
  require_equal(comm, "the program", fmt::format("{} ({})", kVersion, hex_text(program_digest())),
                "Install the same build on all hosts.");
}

void require_same_data(Communicator& comm, const std::string& digest) {
  require_equal(comm, "the store's digest", digest, "Give all hosts the same store.");
}

std::vector<std::string> crowded_hosts(const std::vector<RankInfo>& ranks, const std::vector<cpu_set_t>& cores, int threads) {
  struct Host {
    std::string name;
    int ranks = 0;
    cpu_set_t cores = {};
    bool one_is_crowded = false;
  };
  std::vector<Host> hosts;
  for (size_t rank = 0; rank < ranks.size(); ++rank) {
    const int own = CPU_COUNT(&cores[rank]);
    if (own == 0) continue;
    auto host = std::ranges::find(hosts, ranks[rank].host, &Host::name);
    if (host == hosts.end()) host = hosts.insert(hosts.end(), {.name = ranks[rank].host});
    ++host->ranks;
    CPU_OR(&host->cores, &host->cores, &cores[rank]);
    host->one_is_crowded = host->one_is_crowded || threads > own;
  }
  std::vector<std::string> sentences;
  for (const Host& host : hosts) {
    if (const int all = host.ranks * threads, there = CPU_COUNT(&host.cores); all > there)
      sentences.push_back(
          fmt::format("host {}: {} rank(s) with {} thread(s) in all may use {} core(s) and wait for each other. Start fewer "
                      "ranks there, or lower num_threads; mpirun binds ranks to cores unless it is told --bind-to none.",
                      host.name, host.ranks, all, there));
    else if (host.one_is_crowded)
      sentences.push_back(fmt::format(
          "host {}: a rank has more threads than the cores it is bound to. Start mpirun with --bind-to none, or with "
          "--map-by slot:PE=N for num_threads N.",
          host.name));
  }
  return sentences;
}

namespace {

// Collective.
void warn_of_crowded_hosts(const Options& options, Communicator& comm) {
  const std::vector<cpu_set_t> all = cores_of_ranks(comm);
  if (comm.rank() != 0) return;
  for (const std::string& sentence : crowded_hosts(comm.ranks(), all, static_cast<int>(options.num_threads)))
    spdlog::warn(sentence);
}

}  // namespace

std::unique_ptr<Communicator> enter_world(MpiEnvironment& environment, Options& options) {
  std::unique_ptr<Communicator> comm = start_world(environment, options);
  if (options.debug && comm->size() > 1)
    throw UserError(
        "--debug is one process that replays a run of any number of replicas, {} ranks were started. Start it without mpirun: "
        "gru4rec train … --debug --replicas {}.",
        comm->size(), options.replicas > 0 ? options.replicas : comm->size());
  require_same_program(*comm);
  warn_of_crowded_hosts(options, *comm);
  const std::vector<Capability> capabilities = comm->all_gather(processor_capability());
  pin_kernels(*std::min_element(capabilities.begin(), capabilities.end()), options.num_threads,
              options.deterministic == "strict");
  return comm;
}

std::unique_ptr<Communicator> between_gpus(std::unique_ptr<Communicator> host, const Options& options) {
  const bool alone = options.gpu_sum == GpuSum::automatic && host->size() == 1;
  if (options.device == DeviceKind::cpu || options.gpu_sum == GpuSum::host || alone) return host;
  const int gpu = compute_device(options.device, host->local_rank()).index();
  if (options.gpu_sum == GpuSum::automatic) {
    const std::string why = why_no_nccl(*host, gpu);
    if (!why.empty()) {
      if (host->rank() == 0) spdlog::warn("gpu_sum auto: gradients are added in the memory of the host, since {}", why);
      return host;
    }
  }
  return make_nccl(std::move(host), gpu);
}

Store open_store(const Options& options, Communicator& comm) {
  Store store(options.store);
  require_same_data(comm, hex_text(store.info().data_digest));
  if (comm.rank() != 0) return store;
  if (const std::optional<Options> before = ingest_options(store.info()))
    for (const std::string& changed : data_differences(*before, options, /*only_set=*/true))
      spdlog::warn("{} was asked for, the store {} was made with the former, which holds. Ingest again for the latter.",
                   changed, options.store);
  return store;
}

}  // namespace gru4rec

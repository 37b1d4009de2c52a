// What train and evaluate share before they touch a tensor: one world of equal ranks, with kernels pinned alike. Collective.
#pragma once

#include <sched.h>

#include <memory>
#include <string>
#include <vector>

#include "gru4rec/base/options.h"
#include "gru4rec/comm/world.h"
#include "gru4rec/data/store.h"

namespace gru4rec {

// Starts the communicator and hands rank 0's options to all; `options` need only be filled on rank 0.
std::unique_ptr<Communicator> start_world(MpiEnvironment& environment, Options& options);
// Throw UserError where ranks run another program than rank 0, or see other data.
void require_same_program(Communicator& comm);
void require_same_data(Communicator& comm, const std::string& digest);

// A sentence for each host, in order of its first rank, whose ranks of so many threads each have more of them than cores,
// together or one by itself. `cores`: by rank, those it may use; none: not known.
std::vector<std::string> crowded_hosts(const std::vector<RankInfo>& ranks, const std::vector<cpu_set_t>& cores, int threads);

// Starts the communicator, hands rank 0's options to all, refuses ranks that run another program, warns where threads outnumber
// cores, and pins kernels to the lowest capability of any rank. `options` need only be filled on rank 0.
std::unique_ptr<Communicator> enter_world(MpiEnvironment& environment, Options& options);

// Collective. The ranks of `host`, whose gradients go from GPU to GPU by NCCL where the options want that and it can be had;
// otherwise `host` itself.
std::unique_ptr<Communicator> between_gpus(std::unique_ptr<Communicator> host, const Options& options);

// Opens the store on every rank; all must see the same data.
Store open_store(const Options& options, Communicator& comm);

}  // namespace gru4rec

// What train and evaluate share before they touch a tensor: one world of equal ranks, with kernels pinned alike. Collective.
#pragma once

#include <memory>
#include <string>

#include "gru4rec/base/options.h"
#include "gru4rec/comm/world.h"
#include "gru4rec/data/store.h"

namespace gru4rec {

// Starts the communicator and hands rank 0's options to all; `options` need only be filled on rank 0.
std::unique_ptr<Communicator> start_world(MpiEnvironment& environment, Options& options);
// Throw UserError where ranks run another program than rank 0, or see other data.
void require_same_program(Communicator& comm);
void require_same_data(Communicator& comm, const std::string& digest);

// Starts the communicator, hands rank 0's options to all, refuses ranks that run another program, and pins kernels to the
// lowest capability of any rank. `options` need only be filled on rank 0.
std::unique_ptr<Communicator> enter_world(MpiEnvironment& environment, Options& options);

// Collective. The ranks of `host`, whose gradients go from GPU to GPU by NCCL where the options want that and it can be had;
// otherwise `host` itself.
std::unique_ptr<Communicator> between_gpus(std::unique_ptr<Communicator> host, const Options& options);

// Opens the store on every rank; all must see the same data.
Store open_store(const Options& options, Communicator& comm);

}  // namespace gru4rec

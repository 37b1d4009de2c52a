// What a run shows before its first step: who takes part, with what, and how much memory it will want.
#pragma once

#include <nlohmann/json.hpp>

#include "gru4rec/comm/communicator.h"
#include "gru4rec/data/store.h"
#include "gru4rec/train/trainer.h"

namespace gru4rec {

// Bytes a rank needs at its peak, by part; a formula, stated in docs/running.md.
struct MemoryEstimate {
  uint64_t parameters;   // weights, the two moments of the optimizer, the average of the weights if there is one
  uint64_t gradients;    // buffers of the ordered sum, slices of other ranks included
  uint64_t activations;  // of one share
  uint64_t scores;       // the softmax's chunk, twice
  uint64_t data;         // a window of the plan and the item cache
  uint64_t copy;         // of the parameters, from which a checkpoint is written in the background; on rank 0
  uint64_t total() const { return parameters + gradients + activations + scores + data + copy; }
};
MemoryEstimate estimate_memory(const Options& options, const RunStart& start, const StoreInfo& store, int rank, int world);

// run.json: who trains, with what, on which data. Local.
nlohmann::json run_json(const Options& options, const RunStart& start, const StoreInfo& store, const Communicator& comm);

// Collective; rank 0 prints to standard output: the time, memory and disk of a run of `epochs` more epochs.
void print_estimate(const Options& options, const RunStart& start, const Store& store, Communicator& comm, uint64_t epochs,
                    const Pace& pace);

// Collective; rank 0 prints to standard error: a line a rank and the table of resolved options.
void print_startup(const Options& options, const RunStart& start, const Store& store, Communicator& comm);

}  // namespace gru4rec

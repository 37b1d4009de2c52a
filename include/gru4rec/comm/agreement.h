// The agreement of a step: one small exchange after backward and before the update, from which every rank learns the same:
// how many targets there were, what the loss was, whether anyone failed and whether anyone was told to stop. So an error or
// a NaN on one rank ends all of them before any weight changes, and a signal on any rank stops all at the same step.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "gru4rec/base/error.h"
#include "gru4rec/comm/communicator.h"
#include "gru4rec/comm/replica_layout.h"

namespace gru4rec {

// What one rank has to say about its part of a step.
struct StepReport {
  int64_t step = 0;
  int64_t targets = 0;         // of its replicas together
  std::vector<double> losses;  // sums, one for each of its replicas in order; may be empty if `error` is set
  bool non_finite = false;     // a loss or gradient is NaN or infinite; `error` then says where (the batch's sessions)
  int stop_signal = 0;         // 0: none
  std::string error;           // not empty: this rank failed; what travels is cut to kTextBytes
  int error_code = kExitBug;   // exit code of that error

  static constexpr std::size_t kTextBytes = 480;
};

// What all ranks know after the exchange; equal on all of them, bit for bit.
struct Agreement {
  struct Failure {
    int rank;
    std::string who;  // "rank 2 (host node7, pid 4711)"
    bool non_finite;
    int exit_code;
    std::string text;
  };

  int64_t step = 0;
  int64_t targets = 0;
  double loss = 0.0;              // the sum over replicas, in the ordered sum's tree
  int stop = 0;                   // the greatest stop signal of any rank
  std::vector<Failure> failures;  // in rank order

  bool failed() const { return !failures.empty(); }
  // One message that names every failed rank, with the exit code of the first.
  //   throw all.error();
  Error error() const;
};

// Collective. Throws BugError if the ranks are not at the same step.
Agreement agree(Communicator& comm, const ReplicaLayout& layout, const StepReport& report);

// Collective. Throws, on every rank, if `value` differs between ranks: a UserError that names the ranks that differ from rank
// 0, both values and `advice`. For the binary, the options and the store's digest at start-up.
//
//   require_equal(comm, "the store's digest", store.digest_text(), "Give all hosts the same store.");
void require_equal(Communicator& comm, const std::string& what, const std::string& value, const std::string& advice);

}  // namespace gru4rec

// How a program gets its communicator: MPI when mpirun or srun started it, otherwise a true world of one that never touches
// MPI.
#pragma once

#include "gru4rec/comm/communicator.h"

namespace gru4rec {

// MPI's life in this process, owned by `main`. The constructor and the destructor do nothing to MPI: it is initialised by
// make_world, finalized only on success, and aborted on failure, so that no exception can hang in a destructor that
// communicates.
//
//   int main() {
//     MpiEnvironment mpi;
//     try {
//       auto world = make_world(mpi, {.timeout = options.comm_timeout});
//       const int code = run(*world);
//       mpi.finalize(*world);
//       return code;
//     } catch (const std::exception& error) {
//       fmt::print(stderr, "{}\n", error.what());
//       mpi.abort(exit_code_of(error));
//     }
//   }
class MpiEnvironment {
 public:
  MpiEnvironment() = default;
  MpiEnvironment(const MpiEnvironment&) = delete;
  MpiEnvironment& operator=(const MpiEnvironment&) = delete;

  // Whether this process is one of a job that mpirun or srun --mpi=pmix started. Local.
  static bool started_by_launcher();

  // Collective. Initialises MPI for calls from the thread that calls this, and from others where it can
  // (Communicator::for_another_thread). Throws SurroundingsError.
  void initialise();
  // Collective, on success only. Waits for all ranks of `world` first, with its time limit, since MPI_Finalize has none.
  // Nothing happens where MPI was never initialised.
  void finalize(Communicator& world);
  // Local: ends the whole job with this exit code. Without MPI, ends the process.
  [[noreturn]] void abort(int exit_code);

  bool initialised() const { return initialised_; }

 private:
  bool initialised_ = false;
};

// Collective. The world this process belongs to. Throws UserError where a launcher started several processes that cannot
// find each other (srun without --mpi=pmix, another MPI's mpirun), since each of them would take itself for the whole job.
std::unique_ptr<Communicator> make_world(MpiEnvironment& environment, const CommOptions& options);

// Local. The library behind make_mpi, "Open MPI v4.1.4".
std::string mpi_version();

// Local. A world of one.
std::unique_ptr<Communicator> make_single(const CommOptions& options = {});

// Collective. MPI_COMM_WORLD, duplicated, so that our messages meet nobody else's.
std::unique_ptr<Communicator> make_mpi(const MpiEnvironment& environment, const CommOptions& options);

// Collective. The ranks of `host`, whose messages may also lie in the memory of GPUs: those go by NCCL from GPU to GPU, all
// others by `host`. `device`: the GPU of this rank, by its number in the CUDA runtime. Throws UserError where why_no_nccl() has
// something to say, and SurroundingsError where the GPUs cannot be connected within the time limit.
//
//   std::shared_ptr<Communicator> world = make_world(mpi, options);
//   if (why_no_nccl(*world, device).empty()) world = make_nccl(world, device);
std::unique_ptr<Communicator> make_nccl(std::shared_ptr<Communicator> host, int device);
// Collective. Why these ranks cannot use NCCL, the same on all; empty if they can. Two ranks on one GPU cannot.
std::string why_no_nccl(Communicator& host, int device);
// Local. "2.28.9", empty in a program that was built without NCCL.
std::string nccl_version();

}  // namespace gru4rec

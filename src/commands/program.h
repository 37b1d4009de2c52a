// What the two programs share: `gru4rec`, which loads no LibTorch, and `gru4rec-torch` beside it, which it becomes for all that
// needs one. Everything below `main` throws; here that becomes a message, an exit code and, under mpirun, the end of the job.
#pragma once

#include <functional>

#include "command_line.h"
#include "gru4rec/comm/world.h"

namespace gru4rec {

// The rank that mpirun or srun gave this process, known before MPI is started; -1 where neither did. Local.
int launched_rank();

// Reads the command line, sets up the log and says what rank 0 has to be warned of. Local.
CommandLine begin(int argc, const char* const* argv);

// Does the work and returns its exit code. What it throws is told, by the rank that had it or, where all had it, by the first.
int guard(MpiEnvironment& environment, const std::function<int()>& work);

// Becomes the program of that name beside this one: the same process, with the same arguments. Does not return; throws
// UserError where it is not there. Local.
[[noreturn]] void become(const char* program, char** argv);

}  // namespace gru4rec

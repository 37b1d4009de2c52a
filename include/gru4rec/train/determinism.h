// What makes the kernels of two processes differ, pinned before the first of them runs: the instruction set that libraries
// choose by themselves, and the number of threads. Part of the claim "the same bits on any number of ranks";
// docs/architecture.md.
#pragma once

#include <cstdint>
#include <string>

namespace gru4rec {

// Instruction sets in rising order.
enum class Capability : int32_t { baseline = 0, avx2 = 1, avx512 = 2, avx512_bf16 = 3, amx = 4 };
std::string capability_name(Capability capability);  // "default", "avx2", "avx512", "avx512_bf16", "amx"

// Of this processor. Local.
Capability processor_capability();

// Makes ATen, MKL and oneDNN use at most `capability` (the lowest over all ranks) and `threads` threads. `strict`: MKL promises
// equal bits for equal shapes (MKL_CBWR=…,STRICT, honoured on Intel processors). Local; before any tensor operation of the
// process. Variables the user has set stay as they are.
void pin_kernels(Capability capability, int64_t threads, bool strict);
// What kernels were pinned to, or that of this processor if they were not. Local.
Capability pinned_capability();

// xxh3 of the running program's file: ranks must run the same one. Local.
uint64_t program_digest();

}  // namespace gru4rec

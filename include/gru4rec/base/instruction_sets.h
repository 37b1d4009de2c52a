// The instruction sets that loops over floats are compiled for, chosen at run time. Such loops are made of single IEEE
// operations, so that all of them give the same bits.
#pragma once

#include <sys/syscall.h>
#include <unistd.h>

#include <vector>

namespace gru4rec {

#define GRU4REC_AVX512 [[gnu::target("avx512f,avx512vl,avx512dq,avx512bw,avx2,fma,prefer-vector-width=512")]]
#define GRU4REC_AVX2 [[gnu::target("avx2,fma")]]
// always_inline takes over the target of its caller.
#define GRU4REC_INLINE [[gnu::always_inline]] inline

// Whether this processor has what GRU4REC_AVX512 names.
inline bool has_avx512() {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512dq");
}

// Those of one set of kernels that this processor can run, the widest first.
template <typename Kernels>
std::vector<Kernels> of_this_processor(const Kernels& avx512, const Kernels& avx2, const Kernels& baseline) {
  std::vector<Kernels> all;
  if (has_avx512()) all.push_back(avx512);
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) all.push_back(avx2);
  all.push_back(baseline);
  return all;
}

// Whether this processor has AVX-512 with products of bf16 (Intel from Cooper Lake on, AMD from Zen 4 on).
inline bool has_bf16_vectors() {
  return has_avx512() && __builtin_cpu_supports("avx512bf16");
}

// Whether this processor has AMX with products of bf16 (Intel from Sapphire Rapids on), and Linux lets this process use its
// tile registers: it gives them, 8 KiB a thread, only to those who ask. Local.
inline bool has_tiles() {
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  __builtin_cpu_init();
  return __builtin_cpu_supports("amx-tile") && __builtin_cpu_supports("amx-bf16") &&
         syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

}  // namespace gru4rec

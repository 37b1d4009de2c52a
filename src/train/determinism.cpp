#include "gru4rec/train/determinism.h"

#include <ATen/Parallel.h>

#include <cstdlib>
#include <fstream>
#include <vector>

#include "gru4rec/base/error.h"
#include "gru4rec/base/hash.h"

namespace gru4rec {

std::string capability_name(Capability capability) {
  switch (capability) {
    case Capability::avx512:
      return "avx512";
    case Capability::avx2:
      return "avx2";
    case Capability::baseline:
      return "default";
  }
  throw BugError("capability {} has no name", static_cast<int>(capability));
}

Capability processor_capability() {
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq"))
    return Capability::avx512;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return Capability::avx2;
  return Capability::baseline;
}

void pin_kernels(Capability capability, int64_t threads, bool strict) {
  constexpr int kKeepWhatTheUserSet = 0;
  setenv("ATEN_CPU_CAPABILITY", capability_name(capability).c_str(), kKeepWhatTheUserSet);
  const char* mkl = capability == Capability::avx512 ? "AVX512" : capability == Capability::avx2 ? "AVX2" : "COMPATIBLE";
  if (strict) setenv("MKL_CBWR", fmt::format("{},STRICT", mkl).c_str(), kKeepWhatTheUserSet);
  const char* dnnl = capability == Capability::avx512 ? "AVX512_CORE" : capability == Capability::avx2 ? "AVX2" : "SSE41";
  setenv("DNNL_MAX_CPU_ISA", dnnl, kKeepWhatTheUserSet);
  at::set_num_threads(static_cast<int>(threads));
}

uint64_t program_digest() {
  std::ifstream program("/proc/self/exe", std::ios::binary);
  Digest digest;
  std::vector<char> piece(1 << 20);
  while (program.read(piece.data(), static_cast<std::streamsize>(piece.size())) || program.gcount() > 0)
    digest.update_bytes(piece.data(), static_cast<size_t>(program.gcount()));
  return digest.value();
}

}  // namespace gru4rec

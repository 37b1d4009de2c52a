#include "gru4rec/train/determinism.h"

#include <ATen/Parallel.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <optional>
#include <vector>

#include "gru4rec/base/error.h"
#include "gru4rec/base/hash.h"
#include "gru4rec/base/instruction_sets.h"

namespace gru4rec {

namespace {

// How each library calls the instruction set, in the order of Capability.
struct Names {
  const char* ours;
  const char* aten;
  const char* mkl;
  const char* dnnl;
};
constexpr Names kNames[] = {{"default", "default", "COMPATIBLE", "SSE41"},
                            {"avx2", "avx2", "AVX2", "AVX2"},
                            {"avx512", "avx512", "AVX512", "AVX512_CORE"},
                            {"avx512_bf16", "avx512", "AVX512", "AVX512_CORE_BF16"},
                            {"amx", "avx512", "AVX512", "AVX512_CORE_AMX"}};

const Names& names_of(Capability capability) {
  const auto at = static_cast<size_t>(capability);
  if (at >= std::size(kNames)) throw BugError("capability {} has no name", at);
  return kNames[at];
}

std::optional<Capability> pinned;

}  // namespace

std::string capability_name(Capability capability) { return names_of(capability).ours; }

Capability processor_capability() {
  if (has_avx512()) {
    if (!has_bf16_vectors()) return Capability::avx512;
    return has_tiles() ? Capability::amx : Capability::avx512_bf16;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return Capability::avx2;
  return Capability::baseline;
}

void pin_kernels(Capability capability, int64_t threads, bool strict) {
  constexpr int kKeepWhatTheUserSet = 0;
  const Names& names = names_of(capability);
  pinned = capability;
  setenv("ATEN_CPU_CAPABILITY", names.aten, kKeepWhatTheUserSet);
  if (strict) setenv("MKL_CBWR", fmt::format("{},STRICT", names.mkl).c_str(), kKeepWhatTheUserSet);
  setenv("DNNL_MAX_CPU_ISA", names.dnnl, kKeepWhatTheUserSet);
  at::set_num_threads(static_cast<int>(threads));
}

Capability pinned_capability() { return pinned ? *pinned : processor_capability(); }

uint64_t program_digest() {
  std::ifstream program("/proc/self/exe", std::ios::binary);
  Digest digest;
  std::vector<char> piece(1 << 20);
  while (program.read(piece.data(), static_cast<std::streamsize>(piece.size())) || program.gcount() > 0)
    digest.update_bytes(piece.data(), static_cast<size_t>(program.gcount()));
  return digest.value();
}

}  // namespace gru4rec

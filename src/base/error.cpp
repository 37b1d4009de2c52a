#include "gru4rec/base/error.h"

#include <new>
#include <string_view>
#include <system_error>

#include "gru4rec/base/out_of_memory.h"

namespace gru4rec {

int exit_code_of(const std::exception& error) noexcept {
  if (const auto* ours = dynamic_cast<const Error*>(&error)) return ours->exit_code();
  if (is_out_of_memory(error) || dynamic_cast<const std::system_error*>(&error)) return kExitSurroundings;
  return kExitBug;
}

// LibTorch's texts: c10/core/impl/alloc_cpu.cpp, c10/cuda/CUDACachingAllocator.cpp.
bool is_out_of_memory(const std::exception& error) noexcept {
  if (dynamic_cast<const std::bad_alloc*>(&error)) return true;
  const std::string_view text = error.what();
  return text.find("can't allocate memory") != text.npos || text.find("CUDA out of memory") != text.npos;
}

std::string explain(const std::exception& error) {
  if (!is_out_of_memory(error)) return error.what();
  return fmt::format(
      "out of memory: {}. The start-up block says what a rank needs. Start fewer ranks on this host, raise its limit (ulimit "
      "-v, "
      "the job's memory), or choose a smaller train_batch_size or model; go on with --resume.",
      error.what());
}

std::string errno_text(int error_number) { return std::generic_category().message(error_number); }

}  // namespace gru4rec

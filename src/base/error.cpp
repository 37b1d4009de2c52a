#include "gru4rec/base/error.h"

#include <new>
#include <system_error>

namespace gru4rec {

int exit_code_of(const std::exception& error) noexcept {
  if (const auto* ours = dynamic_cast<const Error*>(&error)) return ours->exit_code();
  if (dynamic_cast<const std::bad_alloc*>(&error) || dynamic_cast<const std::system_error*>(&error)) return kExitSurroundings;
  return kExitBug;
}

std::string errno_text(int error_number) { return std::generic_category().message(error_number); }

}  // namespace gru4rec

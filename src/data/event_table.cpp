#include "gru4rec/data/event_table.h"

namespace gru4rec {

uint32_t Interner::code(std::string_view text) {
  if (const auto found = codes_.find(text); found != codes_.end()) return found->second;
  const auto code = static_cast<uint32_t>(texts_.size());
  texts_.emplace_back(text);
  codes_.emplace(texts_.back(), code);
  return code;
}

}  // namespace gru4rec

// The name a user most likely meant.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace gru4rec {

// The one of `names` nearest to a mistyped one (insertions, deletions, substitutions and swaps of neighbours; case is ignored), the
// first of several; "" if none is near. Local.
std::string nearest(std::string_view mistyped, const std::vector<std::string>& names);

}  // namespace gru4rec

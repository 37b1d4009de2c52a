// Local; safe for several threads.
#pragma once

#include <string>

namespace gru4rec {

// The name of this host; "unknown" where it has none.
std::string host_name();

}  // namespace gru4rec

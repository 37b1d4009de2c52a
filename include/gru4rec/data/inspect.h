// What `gru4rec inspect STORE` prints.
#pragma once

#include <string>

#include "gru4rec/data/store.h"

namespace gru4rec {

// Name, protocol, counts, splits, shards, digest, and the options and statistics of the ingest: several lines, with
// a newline at the end. Local.
std::string describe_store(const Store& store);

}  // namespace gru4rec

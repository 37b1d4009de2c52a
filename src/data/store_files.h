// Writing side of the files of a store, for the writer and for sealing what others wrote.
#pragma once

#include <filesystem>
#include <span>
#include <vector>

#include "gru4rec/base/atomic_file.h"
#include "store_layout.h"

namespace gru4rec {

// Where the elements of an array of a new shard lie: in memory, or in one piece of some file.
struct ArraySource {
  uint64_t elements;
  std::vector<std::span<const char>> memory = {};  // in order
  int fd = -1;                                     // of the file, where there is nothing in memory
  std::filesystem::path path = {};                 // of it, for messages
  uint64_t offset = 0;                             // bytes
};

// Builds a shard from its arrays, in the order of kArrayRules, with checksums and seal, and makes it durable. Does not commit
// it.
Seal write_shard(AtomicFile& out, const std::vector<ArraySource>& arrays);

// Builds a manifest and makes it durable. The caller commits it.
AtomicFile write_manifest(const std::filesystem::path& path, const StoreInfo& info, std::span<const std::string> item_names,
                          const UnseenItems& unseen);

}  // namespace gru4rec

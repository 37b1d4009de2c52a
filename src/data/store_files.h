// Writing side of the files of a store, for the writer and for sealing what others wrote.
#pragma once

#include <filesystem>
#include <span>
#include <vector>

#include "gru4rec/base/atomic_file.h"
#include "gru4rec/base/direct_file.h"
#include "store_layout.h"

namespace gru4rec {

// The elements of an array of a new shard, wherever they lie.
struct ArraySource {
  uint64_t elements;
  DirectFile::Next next;  // their bytes, in order
};

// Those of an open file from `offset` on; `path` names it in messages. Throws what read_at throws.
DirectFile::Next bytes_of(int fd, std::filesystem::path path, uint64_t offset);

// Builds a shard from its arrays, in the order of kArrayRules, with checksums and seal, and makes it durable. Does not commit
// it.
Seal write_shard(AtomicFile& out, const std::vector<ArraySource>& arrays);

// Builds a manifest and makes it durable. The caller commits it.
AtomicFile write_manifest(const std::filesystem::path& path, const StoreInfo& info, std::span<const std::string> item_names,
                          const UnseenItems& unseen);

}  // namespace gru4rec

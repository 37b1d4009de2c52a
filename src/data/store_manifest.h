// Reading side of a manifest.
#pragma once

#include "store_layout.h"

namespace gru4rec {

// What a user writes: name, protocol, size of the catalogue, ingest text and the files of the shards.
StoreInfo read_manifest_head(const Hdf5File& file);

// All of it, with the sums of the shards held against the totals.
StoreInfo read_manifest(const Hdf5File& file);

std::vector<std::string> read_item_names(const Hdf5File& file, uint64_t catalogue);

// Empty where the manifest names none.
UnseenItems read_unseen_items(const Hdf5File& file);

}  // namespace gru4rec

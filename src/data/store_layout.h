// What the files of a store consist of, shared by those who write, read and seal them. docs/formats.md says the same for users.
#pragma once

#include <array>
#include <span>
#include <string>
#include <vector>

#include "gru4rec/base/hash.h"
#include "gru4rec/base/hdf5.h"
#include "gru4rec/data/store.h"

namespace gru4rec {

inline constexpr const char* kManifestFile = "manifest.h5";
// Arrays of a manifest that are there only where they have something to say.
inline constexpr const char* kGrownFrom = "/grown_from";
inline constexpr const char* kUnseenNames = "/unseen/names";
inline constexpr const char* kUnseenNameOffsets = "/unseen/name_offsets";
inline constexpr const char* kUnseenEvents = "/unseen/events";
inline constexpr uint64_t kChecksumBlock = 8192;  // elements an xxh3 of a large array covers

// The large arrays of a shard, in the order of their names below.
enum ShardArray : size_t { kItems, kTimes, kOffsets, kTrainEnd, kValidEnd, kSessionIds, kSessionIdOffsets, kShardArrays };

struct ArrayRule {
  const char* name;
  ElementType type;
  std::string path() const { return std::string("/") + name; }
  std::string checksums() const { return std::string("/checksums/") + name; }
};

inline constexpr std::array<ArrayRule, kShardArrays> kArrayRules = {{
    {"items", ElementType::uint32},
    {"times", ElementType::int64},
    {"offsets", ElementType::uint64},
    {"train_end", ElementType::uint32},
    {"valid_end", ElementType::uint32},
    {"session_ids", ElementType::uint8},
    {"session_id_offsets", ElementType::uint64},
}};

inline constexpr uint64_t blocks_of(uint64_t elements) { return (elements + kChecksumBlock - 1) / kChecksumBlock; }

// The digest of what a store means, whatever the number of its shards: sessions in global order, then the vocabulary.
class ContentDigest {
 public:
  void add(const SessionRecord& session);
  void add_vocabulary(Protocol protocol, std::span<const std::string> item_names);
  uint64_t value() const { return digest_.value(); }

 private:
  Digest digest_;
};

std::string protocol_name(Protocol protocol);

}  // namespace gru4rec

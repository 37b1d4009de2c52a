#include "store_files.h"

#include <algorithm>
#include <utility>

#include "gru4rec/base/hdf5_texts.h"

namespace gru4rec {

namespace {

// Checksums of the blocks of an array, whose bytes come by and by.
class BlockSums {
 public:
  explicit BlockSums(uint64_t block_bytes) : block_bytes_(block_bytes) {}

  void add(std::span<const char> bytes) {
    while (!bytes.empty()) {
      const size_t count = std::min(block_bytes_ - begun_, bytes.size());
      if (count == block_bytes_) {
        sums_.push_back(hash_bytes(bytes.data(), count));
      } else {
        block_.update_bytes(bytes.data(), count);
        begun_ += count;
        if (begun_ == block_bytes_) end_block();
      }
      bytes = bytes.subspan(count);
    }
  }
  // After the last bytes.
  const std::vector<uint64_t>& all() {
    if (begun_ > 0) end_block();
    return sums_;
  }

 private:
  void end_block() {
    sums_.push_back(block_.value());
    block_ = Digest();
    begun_ = 0;
  }

  uint64_t block_bytes_;
  std::vector<uint64_t> sums_;
  Digest block_;        // of a block that did not come at once,
  uint64_t begun_ = 0;  // and how many bytes of it were there
};

// Copies an array to its place in the shard, and the checksums of its blocks to theirs.
void copy_array(const AtomicFile& out, DirectFile& direct, const ArraySource& source, size_t element_size, const Extent& place,
                const Extent& checksum_place) {
  BlockSums sums(kChecksumBlock * element_size);
  direct.write(place.bytes, place.offset, [&](std::span<char> bytes) {
    source.next(bytes);
    sums.add(bytes);
  });
  const std::vector<uint64_t>& checksums = sums.all();
  write_at(out.fd(), checksums.data(), checksums.size() * sizeof(uint64_t), checksum_place.offset, out.path());
}

void write_shard_list(Hdf5File& file, const std::vector<StoreInfo::Shard>& shards) {
  FlatTexts files;
  std::vector<uint64_t> sessions, events, digests;
  for (const StoreInfo::Shard& shard : shards) {
    files.add(shard.file);
    sessions.push_back(shard.sessions);
    events.push_back(shard.events);
    digests.push_back(shard.digest);
  }
  write_texts(file, "/shards/files", "/shards/file_offsets", files);
  file.write("/shards/sessions", sessions);
  file.write("/shards/events", events);
  file.write("/shards/digests", digests);
}

void write_unseen(Hdf5File& file, const UnseenItems& unseen) {
  FlatTexts names;
  for (const std::string& name : unseen.names) names.add(name);
  write_texts(file, kUnseenNames, kUnseenNameOffsets, names);
  file.write(kUnseenEvents, unseen.events);
}

}  // namespace

DirectFile::Next bytes_of(int fd, std::filesystem::path path, uint64_t offset) {
  return [fd, path = std::move(path), at = offset](std::span<char> out) mutable {
    read_at(fd, out.data(), out.size(), std::exchange(at, at + out.size()), path);
  };
}

Seal write_shard(AtomicFile& out, const std::vector<ArraySource>& arrays) {
  std::vector<Extent> places, checksums;
  Hdf5File file = Hdf5File::create(out.path());
  for (size_t a = 0; a < kShardArrays; ++a) {
    checksums.push_back(file.reserve(kArrayRules[a].checksums(), ElementType::uint64, {blocks_of(arrays[a].elements)}));
    places.push_back(file.reserve(kArrayRules[a].path(), kArrayRules[a].type, {arrays[a].elements}));
  }
  file.close();
  DirectFile direct(out.path(), out.fd());
  for (size_t a = 0; a < kShardArrays; ++a)
    copy_array(out, direct, arrays[a], element_bytes(kArrayRules[a].type), places[a], checksums[a]);
  const Seal seal = seal_file(out.path(), FileKind::shard, places);
  out.sync();
  return seal;
}

AtomicFile write_manifest(const std::filesystem::path& path, const StoreInfo& info, std::span<const std::string> item_names,
                          const UnseenItems& unseen) {
  AtomicFile out(path);
  Hdf5File file = Hdf5File::create(out.path());
  FlatTexts names;
  for (const std::string& name : item_names) names.add(name);
  write_texts(file, "/item_names", "/item_name_offsets", names);
  file.write_text("/ingest_json", info.ingest_json);
  write_shard_list(file, info.shards);
  if (!info.grown_from.empty()) file.write(kGrownFrom, info.grown_from);
  if (!unseen.events.empty()) write_unseen(file, unseen);
  file.write_attribute("/", "dataset", info.dataset);
  file.write_attribute("/", "protocol", protocol_name(info.protocol));
  file.write_attribute("/", "sessions", info.sessions);
  file.write_attribute("/", "events", info.events);
  file.write_attribute("/", "catalogue", info.catalogue);
  file.write_attribute("/", "train_targets", info.train_targets);
  file.write_attribute("/", "valid_targets", info.valid_targets);
  file.write_attribute("/", "test_targets", info.test_targets);
  file.write_attribute("/", "data_digest", info.data_digest);
  file.close();
  seal_file(out.path(), FileKind::manifest, {});
  out.sync();
  return out;
}

}  // namespace gru4rec

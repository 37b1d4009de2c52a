#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "gru4rec/base/atomic_file.h"
#include "store_manifest.h"
#include "store_shard.h"

namespace gru4rec {

namespace fs = std::filesystem;

namespace {

void make_durable(const fs::path& path) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0) throw_io_error("open", path, errno);
  const int failed = ::fsync(fd) == 0 ? 0 : errno;
  ::close(fd);
  if (failed != 0) throw_io_error("make durable (fsync)", path, failed);
}

std::vector<uint64_t> block_checksums(const ReadOnlyFile& file, const ArrayInfo& info) {
  const size_t size = element_bytes(info.type);
  std::vector<char> block(kChecksumBlock * size);
  std::vector<uint64_t> checksums;
  for (uint64_t at = 0; at < info.elements(); at += kChecksumBlock) {
    const size_t bytes = std::min(kChecksumBlock, info.elements() - at) * size;
    file.read(block.data(), bytes, info.place.offset + at * size);
    checksums.push_back(hash_bytes(block.data(), bytes));
  }
  return checksums;
}

void seal_shard(const fs::path& path) {
  std::vector<Extent> places;
  {
    const ReadOnlyFile raw(path);
    Hdf5File file = Hdf5File::open_for_change(path);
    const std::vector<ArrayInfo> infos = shard_arrays(file);
    for (size_t a = 0; a < kShardArrays; ++a) {
      file.remove(kArrayRules[a].checksums());
      file.write(kArrayRules[a].checksums(), block_checksums(raw, infos[a]));
      places.push_back(infos[a].place);
    }
    file.close();
  }
  make_durable(path);
  seal_file(path, FileKind::shard, places);
  make_durable(path);
}

void seal_manifest(const fs::path& path) {
  Hdf5File file = Hdf5File::open_for_change(path);
  StoreInfo info = read_manifest_head(file);
  std::vector<std::unique_ptr<ShardReader>> shards;
  for (StoreInfo::Shard& listed : info.shards) {
    shards.push_back(std::make_unique<ShardReader>(path.parent_path() / listed.file, info.catalogue));
    listed = {listed.file, shards.back()->sessions(), shards.back()->events(), shards.back()->digest()};
    info.sessions += listed.sessions;
    info.events += listed.events;
  }
  ContentSummary found = summarise(shards);
  found.digest.add_vocabulary(info.protocol, read_item_names(file, info.catalogue));
  info.train_targets = found.train_targets;
  info.valid_targets = found.valid_targets;
  info.test_targets = found.test_targets;
  info.data_digest = found.digest.value();
  write_manifest_counts(file, info);
  file.close();
  make_durable(path);
  seal_file(path, FileKind::manifest, {});
  make_durable(path);
}

void seal_folder(const fs::path& folder) {
  const fs::path manifest = folder / kManifestFile;
  break_seal(manifest);  // until the end: a folder that was sealed half-way must not look complete
  for (const StoreInfo::Shard& shard : read_manifest_head(Hdf5File::open(manifest)).shards) seal_store(folder / shard.file);
  seal_manifest(manifest);
}

}  // namespace

void seal_store(const fs::path& path) {
  if (fs::is_directory(path)) return seal_folder(path);
  const bool is_shard = Hdf5File::open(path).has("/items"), is_manifest = Hdf5File::open(path).has("/item_names");
  if (is_shard == is_manifest) {
    throw UserError(
        "{} is neither a shard (with /items) nor a manifest (with /item_names). Write it as docs/formats.md describes it.",
        path.string());
  }
  break_seal(path);
  return is_shard ? seal_shard(path) : seal_manifest(path);
}

}  // namespace gru4rec

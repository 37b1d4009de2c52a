#include "store_files.h"
#include "store_manifest.h"
#include "store_shard.h"

namespace gru4rec {

namespace fs = std::filesystem;

namespace {

void seal_shard(const fs::path& path) {
  const ReadOnlyFile raw(path);
  const std::vector<ArrayInfo> infos = shard_arrays(Hdf5File::open(path));
  std::vector<ArraySource> arrays;
  for (const ArrayInfo& info : infos)
    arrays.push_back({info.elements(), bytes_of(raw.fd(), path, info.place.offset)});
  AtomicFile out(path);
  write_shard(out, arrays);
  out.commit();
}

void seal_manifest(const fs::path& path) {
  const Hdf5File file = Hdf5File::open(path);
  StoreInfo info = read_manifest_head(file);
  std::vector<std::unique_ptr<ShardReader>> shards;
  for (StoreInfo::Shard& listed : info.shards) {
    shards.push_back(std::make_unique<ShardReader>(path.parent_path() / listed.file, info.catalogue));
    listed = {listed.file, shards.back()->sessions(), shards.back()->events(), shards.back()->digest()};
    info.sessions += listed.sessions;
    info.events += listed.events;
  }
  const std::vector<std::string> item_names = read_item_names(file, info.catalogue);
  ContentSummary found = summarise(shards);
  found.digest.add_vocabulary(info.protocol, item_names);
  info.train_targets = found.train_targets;
  info.valid_targets = found.valid_targets;
  info.test_targets = found.test_targets;
  info.data_digest = found.digest.value();
  write_manifest(path, info, item_names, read_unseen_items(file)).commit();
}

void seal_folder(const fs::path& folder) {
  const fs::path manifest = folder / kManifestFile;
  for (const StoreInfo::Shard& shard : read_manifest_head(Hdf5File::open(manifest)).shards) seal_shard(folder / shard.file);
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
  return is_shard ? seal_shard(path) : seal_manifest(path);
}

}  // namespace gru4rec

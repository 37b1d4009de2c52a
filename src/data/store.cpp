#include "gru4rec/data/store.h"

#include <algorithm>
#include <mutex>
#include <optional>

#include "store_manifest.h"
#include "store_shard.h"

namespace gru4rec {

namespace fs = std::filesystem;

namespace {

// Shards of a manifest, each held against what the manifest says of it.
std::vector<std::unique_ptr<ShardReader>> open_shards(const fs::path& folder, const StoreInfo& info) {
  std::vector<std::unique_ptr<ShardReader>> shards;
  for (const StoreInfo::Shard& listed : info.shards) {
    const fs::path path = folder / listed.file;
    if (!fs::exists(path)) {
      throw UserError(
          "the store {} is incomplete: its manifest names {}, which is not there. Copy it as well, or run ingest again.",
          folder.string(), listed.file);
    }
    auto shard = std::make_unique<ShardReader>(path, info.catalogue);
    if (shard->digest() != listed.digest || shard->sessions() != listed.sessions || shard->events() != listed.events) {
      throw UserError(
          "{} is not the shard its manifest names: digest {} with {} sessions and {} events, wanted {} with {} and {}. "
          "Copy all files of the store together, or run ingest again.",
          path.string(), hex_text(shard->digest()), shard->sessions(), shard->events(), hex_text(listed.digest),
          listed.sessions, listed.events);
    }
    shards.push_back(std::move(shard));
  }
  return shards;
}

// A stretch of a global range that lies in one shard.
struct Part {
  const ShardReader* shard;
  size_t index;    // of the shard
  uint64_t first;  // within the shard
  uint64_t count;
};

}  // namespace

struct Store::Impl {
  explicit Impl(fs::path where) : folder(std::move(where)) {
    if (!is_store(folder))
      throw UserError("there is no file {}, and so no session store. Make one with gru4rec ingest, or check the path.",
                      (folder / kManifestFile).string());
    manifest_seal = check_seal(folder / kManifestFile, FileKind::manifest);
    info = read_manifest(Hdf5File::open(folder / kManifestFile));
    shards = open_shards(folder, info);
    for (const auto& shard : shards) {
      session_starts.push_back(session_starts.back() + shard->sessions());
      event_starts.push_back(event_starts.back() + shard->events());
    }
  }

  // Cuts [first, first + count) at the bounds of shards, which begin at `starts`.
  std::vector<Part> parts(const std::vector<uint64_t>& starts, uint64_t first, uint64_t count, const char* what) const {
    if (first > starts.back() || count > starts.back() - first) {
      throw BugError("{} [{}, {}) of {} were asked for, it has {}", what, first, first + count, folder.string(), starts.back());
    }
    std::vector<Part> found;
    auto index = static_cast<size_t>(std::upper_bound(starts.begin(), starts.end(), first) - starts.begin()) - 1;
    for (; count > 0; ++index) {
      const uint64_t taken = std::min(count, starts[index + 1] - first);
      if (taken > 0) found.push_back({shards[index].get(), index, first - starts[index], taken});
      first += taken;
      count -= taken;
    }
    return found;
  }

  template <typename T>
  void read_events(ShardArray which, uint64_t first, std::span<T> out) const {
    for (const Part& part : parts(event_starts, first, out.size(), "events")) {
      part.shard->array(which).read(part.first, out.first(part.count));
      out = out.subspan(part.count);
    }
  }

  // As it was when the store was opened.
  Hdf5File manifest() const {
    const fs::path path = folder / kManifestFile;
    if (check_seal(path, FileKind::manifest).digest != manifest_seal.digest)
      throw UserError("the store {} was replaced while it was in use. Start again.", folder.string());
    return Hdf5File::open(path);
  }

  fs::path folder;
  Seal manifest_seal;
  std::mutex names_mutex;
  std::vector<std::string> names;  // once somebody has asked
  StoreInfo info;
  std::vector<std::unique_ptr<ShardReader>> shards;
  std::vector<uint64_t> session_starts = {0};  // [shards + 1], global index of a shard's first session
  std::vector<uint64_t> event_starts = {0};
};

Store::Store(const fs::path& folder) : impl_(std::make_unique<Impl>(folder)) {}
Store::~Store() = default;
Store::Store(Store&&) noexcept = default;

const StoreInfo& Store::info() const { return impl_->info; }

std::vector<Store::SessionShape> Store::shapes(uint64_t first, uint64_t count) const {
  std::vector<SessionShape> all;
  all.reserve(count);
  for (const Part& part : impl_->parts(impl_->session_starts, first, count, "sessions")) {
    for (SessionShape shape : part.shard->shapes(part.first, part.count)) {
      shape.first_event += impl_->event_starts[part.index];
      all.push_back(shape);
    }
  }
  return all;
}

void Store::read_items(uint64_t first_event, std::span<uint32_t> out) const { impl_->read_events(kItems, first_event, out); }
void Store::read_times(uint64_t first_event, std::span<int64_t> out) const { impl_->read_events(kTimes, first_event, out); }

const std::vector<std::string>& Store::item_names() const {
  const std::lock_guard lock(impl_->names_mutex);
  if (impl_->names.empty()) impl_->names = read_item_names(impl_->manifest(), impl_->info.catalogue);
  return impl_->names;
}

UnseenItems Store::unseen_items() const {
  UnseenItems unseen = read_unseen_items(impl_->manifest());
  uint64_t events = 0;
  visit_sessions(0, impl_->info.sessions, [&](const SessionRecord& session) {
    events += static_cast<uint64_t>(std::ranges::count(session.items, 0u));
    return true;
  });
  if (events != unseen.events.size())
    throw UserError(
        "the store {} has {} events of items that training lacks, and the names of {}: it was made by an earlier version, or "
        "by "
        "hand. Run ingest once on all data.",
        impl_->folder.string(), events, unseen.events.size());
  return unseen;
}

std::vector<std::string> Store::session_ids(uint64_t first, uint64_t count) const {
  std::vector<std::string> all;
  all.reserve(count);
  for (const Part& part : impl_->parts(impl_->session_starts, first, count, "sessions")) {
    for (std::string& id : part.shard->session_ids(part.first, part.count)) all.push_back(std::move(id));
  }
  return all;
}

void Store::visit_sessions(uint64_t first, uint64_t count, const Visit& visit) const {
  for (const Part& part : impl_->parts(impl_->session_starts, first, count, "sessions"))
    if (!visit_records(*part.shard, part.first, part.count, visit)) return;
}

void Store::verify() const {
  for (const auto& shard : impl_->shards) shard->forget_verified();
  ContentSummary found = summarise(impl_->shards);
  const StoreInfo& says = impl_->info;
  found.digest.add_vocabulary(says.protocol, item_names());
  if (found.digest.value() != says.data_digest) {
    throw UserError("the store {} is damaged: its content has digest {}, its manifest says {}. Copy it or run ingest again.",
                    impl_->folder.string(), hex_text(found.digest.value()), hex_text(says.data_digest));
  }
  if (found.train_targets != says.train_targets || found.valid_targets != says.valid_targets ||
      found.test_targets != says.test_targets) {
    throw UserError(
        "the store {} has {}, {} and {} targets of train, valid and test, its manifest says {}, {} and {}. Run ingest again.",
        impl_->folder.string(), found.train_targets, found.valid_targets, found.test_targets, says.train_targets,
        says.valid_targets, says.test_targets);
  }
}

uint64_t Store::bytes_read() const {
  uint64_t bytes = 0;
  for (const auto& shard : impl_->shards) bytes += shard->bytes_read();
  return bytes;
}

bool is_store(const std::filesystem::path& folder) { return std::filesystem::exists(folder / kManifestFile); }

}  // namespace gru4rec

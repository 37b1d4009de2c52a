#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <set>
#include <utility>

#include "gru4rec/base/atomic_file.h"
#include "store_files.h"

namespace gru4rec {

namespace fs = std::filesystem;

namespace {

constexpr uint64_t kPieceBytes = uint64_t{1} << 20;

// One array of the shard at hand, raw elements: in memory, and once that is too long in a temporary file. Memory that others
// keep for it does not count.
class Spool {
 public:
  Spool(fs::path folder, const ArrayRule& rule, uint64_t in_memory)
      : path_(std::move(folder) / (std::string("spool-") + rule.name)),
        size_(element_bytes(rule.type)),
        piece_bytes_(std::min(in_memory, kPieceBytes)),
        most_(in_memory / piece_bytes_ * piece_bytes_) {}

  template <typename T>
  void append(std::span<const T> values) {
    const auto* data = reinterpret_cast<const char*>(values.data());
    for (size_t left = values.size_bytes(); left > 0;) {
      if (held_ % piece_bytes_ == 0) start_piece();
      const size_t place = held_ % piece_bytes_, bytes = std::min<size_t>(left, piece_bytes_ - place);
      char* const here = pieces_[held_ / piece_bytes_].get() + place;
      std::memcpy(here, data, bytes);
      add_part({here, bytes});
      held_ += bytes;
      data += bytes;
      left -= bytes;
    }
  }

  // The values stay where they are until clear(), and are copied only where they do not lie behind those before them.
  template <typename T>
  void append_lasting(std::span<const T> values) {
    const auto* data = reinterpret_cast<const char*>(values.data());
    if (std::exchange(behind_, data + values.size_bytes()) != data) return append(values);
    add_part({data, values.size_bytes()});
  }

  template <typename T>
  requires std::is_arithmetic_v<T>
  void append(T value) {
    const size_t place = held_ % piece_bytes_;
    if (place == 0 || place + sizeof value > piece_bytes_) return append(std::span<const T>(&value, 1));
    char* const here = pieces_[held_ / piece_bytes_].get() + place;
    std::memcpy(here, &value, sizeof value);
    add_part({here, sizeof value});
    held_ += sizeof value;
  }

  uint64_t elements() const { return bytes_ / size_; }

  // Valid until the next call.
  ArraySource source() {
    ArraySource source{.elements = elements()};
    if (written_ == 0) {
      source.memory = parts_;
      return source;
    }
    flush();
    source.fd = file_->fd();
    source.path = file_->path();
    return source;
  }

  void clear() {
    if (file_ && ::ftruncate(file_->fd(), 0) != 0) throw_io_error("empty", file_->path(), errno);
    parts_.clear();
    held_ = 0;
    written_ = 0;
    bytes_ = 0;
  }

 private:
  void add_part(std::span<const char> part) {
    bytes_ += part.size();
    if (!parts_.empty() && parts_.back().data() + parts_.back().size() == part.data())
      parts_.back() = {parts_.back().data(), parts_.back().size() + part.size()};
    else
      parts_.push_back(part);
  }

  void start_piece() {
    if (held_ == most_) flush();
    if (held_ / piece_bytes_ == pieces_.size()) pieces_.push_back(std::make_unique_for_overwrite<char[]>(piece_bytes_));
  }

  void flush() {
    if (!file_) file_ = std::make_unique<AtomicFile>(path_);
    write_at(file_->fd(), parts_, written_, file_->path());
    written_ = bytes_;
    parts_.clear();
    held_ = 0;
  }

  fs::path path_;
  size_t size_;
  uint64_t piece_bytes_;  // kPieceBytes, or all that may be in memory where that is less
  uint64_t most_;         // bytes in memory
  std::vector<std::unique_ptr<char[]>> pieces_;
  uint64_t held_ = 0;                         // bytes, in pieces_
  std::vector<std::span<const char>> parts_;  // where the bytes are that are in memory, in order
  const char* behind_ = nullptr;              // the lasting values that came last
  std::unique_ptr<AtomicFile> file_;          // never committed
  uint64_t written_ = 0;                      // bytes that are in the file, before those of parts_
  uint64_t bytes_ = 0;                        // in all
};

fs::path made_folder(fs::path folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) throw_io_error("make folder", folder, error.value());
  return folder;
}

void check_record(const SessionRecord& session) {
  const size_t n = session.items.size();
  if (n == 0 || n > UINT32_MAX || session.times.size() != n || session.train_end < 1 || session.valid_end < session.train_end ||
      session.valid_end > n) {
    throw BugError("session '{}' has {} items, {} times and splits at {} and {}; wanted 1 <= train_end <= valid_end <= items",
                   session.id, n, session.times.size(), session.train_end, session.valid_end);
  }
}

}  // namespace

struct StoreWriter::Impl {
  struct WrittenShard {
    AtomicFile file;
    StoreInfo::Shard info;
  };

  Impl(fs::path where, int64_t shard_count, uint64_t expected_events, std::vector<StoreInfo::Shard> kept_shards,
       uint64_t in_memory)
      : folder(made_folder(std::move(where))),
        shards_wanted(static_cast<uint64_t>(std::max<int64_t>(1, shard_count))),
        expected(expected_events),
        kept(std::move(kept_shards)) {
    for (const StoreInfo::Shard& shard : kept) kept_sessions += shard.sessions;
    for (const ArrayRule& rule : kArrayRules) spools.emplace_back(folder, rule, in_memory);
    start_shard();
  }

  void start_shard() {
    for (Spool& spool : spools) spool.clear();
    spools[kOffsets].append<uint64_t>(0);
    spools[kSessionIdOffsets].append<uint64_t>(0);
  }

  uint64_t shard_sessions() const { return spools[kTrainEnd].elements(); }

  // A session opens the next shard if more than half of it lies beyond the current one's part of the expected events.
  bool opens_shard(uint64_t session_events) const {
    if (shard_sessions() == 0 || shards.size() + 1 >= shards_wanted) return false;
    const double end =
        static_cast<double>(expected) * static_cast<double>(shards.size() + 1) / static_cast<double>(shards_wanted);
    return static_cast<double>(written_events) + static_cast<double>(session_events) / 2 > end;
  }

  void add(const SessionRecord& session, bool lasting) {
    check_record(session);
    if (sessions >= kept_sessions) write(session, lasting);
    digest.add(session);
    events += session.items.size();
    sessions += 1;
    train_targets += session.train_end - 1;
    valid_targets += session.valid_end - session.train_end;
    test_targets += session.items.size() - session.valid_end;
    unseen_events += static_cast<uint64_t>(std::ranges::count(session.items, 0u));
    largest_item = std::max(largest_item, *std::max_element(session.items.begin(), session.items.end()));
  }

  void write(const SessionRecord& session, bool lasting) {
    if (opens_shard(session.items.size())) finish_shard();
    if (lasting) {
      spools[kItems].append_lasting(session.items);
      spools[kTimes].append_lasting(session.times);
    } else {
      spools[kItems].append(session.items);
      spools[kTimes].append(session.times);
    }
    spools[kOffsets].append(spools[kItems].elements());
    spools[kTrainEnd].append(session.train_end);
    spools[kValidEnd].append(session.valid_end);
    spools[kSessionIds].append(std::span<const char>(session.id));
    spools[kSessionIdOffsets].append(spools[kSessionIds].elements());
    written_events += session.items.size();
  }

  // Builds the HDF5 file of the spooled arrays under a temporary name and makes it durable.
  void finish_shard() {
    std::vector<ArraySource> arrays;
    for (Spool& spool : spools) arrays.push_back(spool.source());
    const size_t number = kept.size() + shards.size();
    AtomicFile out(folder / fmt::format("shard-{:05}.h5", number));
    const Seal seal = write_shard(out, arrays);
    const std::string name = fmt::format("shard-{:05}-{}.h5", number, hex_text(seal.digest));
    shards.push_back({std::move(out), {name, shard_sessions(), spools[kItems].elements(), seal.digest}});
    start_shard();
  }

  void end_shard() {
    if (shard_sessions() == 0) return;
    finish_shard();
    ++shards_wanted;
  }

  StoreInfo commit(StoreInfo info, std::span<const std::string> item_names, const UnseenItems& unseen) {
    if (committed) throw BugError("store {} was committed twice", folder.string());
    if (sessions == 0) {
      throw UserError("the store {} would be empty: no session is left. Loosen the filters, or check the input files.",
                      folder.string());
    }
    if (largest_item > item_names.size()) {
      throw BugError("a session holds item {}, the catalogue ends at {}", largest_item, item_names.size());
    }
    if (sessions < kept_sessions)
      throw BugError("{} sessions were added, the shards that are kept hold {}", sessions, kept_sessions);
    if (!unseen.names.empty() && unseen.events.size() != unseen_events)
      throw BugError("{} events have item 0, {} of them are named", unseen_events, unseen.events.size());
    if (shard_sessions() > 0) finish_shard();
    digest.add_vocabulary(info.protocol, item_names);
    info.sessions = sessions;
    info.events = events;
    info.catalogue = item_names.size();
    info.train_targets = train_targets;
    info.valid_targets = valid_targets;
    info.test_targets = test_targets;
    info.data_digest = digest.value();
    info.shards = kept;
    for (const WrittenShard& shard : shards) info.shards.push_back(shard.info);
    AtomicFile manifest =
        write_manifest(folder / kManifestFile, info, item_names, unseen);  // what needs room comes before the first name
    for (WrittenShard& shard : shards) shard.file.commit_as(folder / shard.info.file);
    manifest.commit();
    committed = true;
    remove_unnamed_shards(info);
    return info;
  }

  // Shards of the former store, and of runs that were killed between their shards and their manifest.
  void remove_unnamed_shards(const StoreInfo& info) const {
    std::set<std::string> named;
    for (const StoreInfo::Shard& shard : info.shards) named.insert(shard.file);
    std::vector<fs::path> gone;
    for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
      const std::string name = entry.path().filename().string();
      if (name.starts_with("shard-") && name.ends_with(".h5") && !named.contains(name)) gone.push_back(entry.path());
    }
    std::error_code ignored;  // the new store is complete; a file too many does not harm it
    for (const fs::path& path : gone) fs::remove(path, ignored);
  }

  fs::path folder;
  uint64_t shards_wanted;
  uint64_t expected;
  std::vector<StoreInfo::Shard> kept;
  uint64_t kept_sessions = 0;
  std::vector<Spool> spools;
  std::vector<WrittenShard> shards;
  ContentDigest digest;
  uint64_t sessions = 0, events = 0, train_targets = 0, valid_targets = 0, test_targets = 0;
  uint64_t written_events = 0, unseen_events = 0;
  uint32_t largest_item = 0;
  bool committed = false;
};

StoreWriter::StoreWriter(fs::path folder, int64_t shards, uint64_t expected_events, std::vector<StoreInfo::Shard> kept,
                         uint64_t in_memory)
    : impl_(std::make_unique<Impl>(std::move(folder), shards, expected_events, std::move(kept), in_memory)) {}
StoreWriter::~StoreWriter() = default;
void StoreWriter::add(const SessionRecord& session) { impl_->add(session, /*lasting=*/false); }
void StoreWriter::add_lasting(const SessionRecord& session) { impl_->add(session, /*lasting=*/true); }
void StoreWriter::end_shard() { impl_->end_shard(); }
StoreInfo StoreWriter::commit(StoreInfo info, std::span<const std::string> item_names, const UnseenItems& unseen) {
  return impl_->commit(std::move(info), item_names, unseen);
}

}  // namespace gru4rec

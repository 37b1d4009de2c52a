#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <functional>
#include <future>
#include <memory>
#include <set>
#include <utility>

#include "gru4rec/base/atomic_file.h"
#include "gru4rec/data/columns.h"
#include "store_files.h"

namespace gru4rec {

namespace fs = std::filesystem;

namespace {

constexpr uint64_t kBlockBytes = uint64_t{1} << 20;

// Bytes that lie in several places of memory, one behind the other.
class Pieces {
 public:
  void add(std::span<const char> bytes) {
    if (!pieces_.empty() && pieces_.back().ends_at(bytes.data()))
      pieces_.back().bytes += bytes.size();
    else
      pieces_.push_back({bytes.data(), nullptr, 0, bytes.size()});
  }
  // `count` of the numbers from `first` on, as int64_t.
  void add(const NearNumbers& numbers, uint64_t first, uint64_t count) {
    if (!pieces_.empty() && pieces_.back().ends_at(numbers, first))
      pieces_.back().bytes += count * sizeof(int64_t);
    else
      pieces_.push_back({nullptr, &numbers, first, count * sizeof(int64_t)});
  }
  void clear() { pieces_.clear(); }

  // Copies the bytes that come next, from the first on; as long as nothing is added.
  DirectFile::Next bytes() const {
    return [this, at = size_t{0}, begun = uint64_t{0}](std::span<char> out) mutable {
      while (!out.empty()) {
        const Piece& piece = pieces_[at];
        const auto count = std::min<uint64_t>(out.size(), piece.bytes - begun);
        piece.copy(begun, out.first(count));
        out = out.subspan(count);
        begun += count;
        if (begun == piece.bytes) ++at, begun = 0;
      }
    };
  }

 private:
  struct Piece {
    const char* data;
    const NearNumbers* numbers;  // where there are no data
    uint64_t first;              // of the numbers
    uint64_t bytes;

    bool ends_at(const char* other) const { return data && data + bytes == other; }
    bool ends_at(const NearNumbers& others, uint64_t other_first) const {
      return numbers == &others && first + bytes / sizeof(int64_t) == other_first;
    }
    // From a byte on, which may be in the midst of a number.
    void copy(uint64_t from, std::span<char> out) const {
      if (data) {
        std::memcpy(out.data(), data + from, out.size());
        return;
      }
      while (!out.empty()) {
        const uint64_t number = first + from / sizeof(int64_t), begun = from % sizeof(int64_t);
        uint64_t bytes_taken = 0;
        if (begun == 0 && out.size() >= sizeof(int64_t)) {
          const uint64_t count = out.size() / sizeof(int64_t);
          numbers->copy(number, count, out.data());
          bytes_taken = count * sizeof(int64_t);
        } else {
          char whole[sizeof(int64_t)];
          numbers->copy(number, 1, whole);
          bytes_taken = std::min(out.size(), sizeof whole - begun);
          std::memcpy(out.data(), whole + begun, bytes_taken);
        }
        from += bytes_taken;
        out = out.subspan(bytes_taken);
      }
    }
  };

  std::vector<Piece> pieces_;
};

// One array of the shard at hand, raw elements: in memory, and once that is too long in a temporary file. Memory that others
// keep for it does not count.
class Spool {
 public:
  Spool(fs::path folder, const ArrayRule& rule, uint64_t in_memory)
      : path_(std::move(folder) / (std::string("spool-") + rule.name)),
        size_(element_bytes(rule.type)),
        block_bytes_(std::min(in_memory, kBlockBytes)),
        most_(in_memory / block_bytes_ * block_bytes_) {}

  template <typename T>
  void append(std::span<const T> values) {
    const auto* data = reinterpret_cast<const char*>(values.data());
    for (size_t left = values.size_bytes(); left > 0;) {
      if (held_ % block_bytes_ == 0) start_block();
      const size_t place = held_ % block_bytes_, bytes = std::min<size_t>(left, block_bytes_ - place);
      char* const here = blocks_[held_ / block_bytes_].get() + place;
      std::memcpy(here, data, bytes);
      add_held({here, bytes});
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
    add_held({data, values.size_bytes()});
  }
  // The same of `count` numbers from `first` on, as int64_t.
  void append_lasting(const NearNumbers& numbers, uint64_t first, uint64_t count) {
    if (std::exchange(number_behind_, first + count) != first) {
      std::vector<int64_t> copy(count);
      numbers.copy(first, count, reinterpret_cast<char*>(copy.data()));
      return append(std::span<const int64_t>(copy));
    }
    pieces_.add(numbers, first, count);
    bytes_ += count * sizeof(int64_t);
  }

  template <typename T>
  requires std::is_arithmetic_v<T>
  void append(T value) {
    const size_t place = held_ % block_bytes_;
    if (place == 0 || place + sizeof value > block_bytes_) return append(std::span<const T>(&value, 1));
    char* const here = blocks_[held_ / block_bytes_].get() + place;
    std::memcpy(here, &value, sizeof value);
    add_held({here, sizeof value});
    held_ += sizeof value;
  }

  uint64_t elements() const { return bytes_ / size_; }

  // Valid, together with others, until something is added.
  ArraySource source() {
    if (written_ > 0 && written_ < bytes_) flush();
    return {elements(), written_ > 0 ? bytes_of(file_->fd(), file_->path(), 0) : pieces_.bytes()};
  }

  void clear() {
    if (file_ && ::ftruncate(file_->fd(), 0) != 0) throw_io_error("empty", file_->path(), errno);
    pieces_.clear();
    held_ = 0;
    written_ = 0;
    bytes_ = 0;
  }

 private:
  void add_held(std::span<const char> bytes) {
    bytes_ += bytes.size();
    pieces_.add(bytes);
  }

  void start_block() {
    if (held_ == most_) flush();
    if (held_ / block_bytes_ == blocks_.size()) blocks_.push_back(std::make_unique_for_overwrite<char[]>(block_bytes_));
  }

  void flush() {
    if (!file_) file_ = std::make_unique<AtomicFile>(path_);
    const auto next = pieces_.bytes();
    std::vector<char> aside(block_bytes_);
    for (uint64_t at = written_; at < bytes_;) {
      const std::span<char> some = std::span(aside).first(std::min(block_bytes_, bytes_ - at));
      next(some);
      write_at(file_->fd(), some.data(), some.size(), at, file_->path());
      at += some.size();
    }
    written_ = bytes_;
    pieces_.clear();
    held_ = 0;
  }

  fs::path path_;
  size_t size_;
  uint64_t block_bytes_;  // kBlockBytes, or all that may be in memory where that is less
  uint64_t most_;         // bytes in memory
  std::vector<std::unique_ptr<char[]>> blocks_;
  uint64_t held_ = 0;                 // bytes, in blocks_
  Pieces pieces_;                     // where the bytes are that are in memory
  const char* behind_ = nullptr;      // the lasting values that came last,
  uint64_t number_behind_ = 0;        // or numbers
  std::unique_ptr<AtomicFile> file_;  // never committed
  uint64_t written_ = 0;              // bytes that are in the file, before those of pieces_
  uint64_t bytes_ = 0;                // in all
};

// Adds the sessions of a shard to the digest of the store. A few sessions are in memory at a time, and of one that is long all.
void add_shard(uint64_t sessions, const std::vector<ArraySource>& arrays, ContentDigest& digest) {
  constexpr uint64_t kSessionsAtOnce = 1024, kEventsAtOnce = uint64_t{1} << 16;
  const auto next = [&](ShardArray which, auto& values, uint64_t count) {
    values.resize(count);
    arrays[which].next({reinterpret_cast<char*>(values.data()), count * sizeof values[0]});
  };
  std::vector<uint64_t> ends, id_ends;
  std::vector<uint32_t> train_end, valid_end, items;
  std::vector<int64_t> times;
  std::string ids;
  next(kOffsets, ends, 1), next(kSessionIdOffsets, id_ends, 1);
  uint64_t end = ends[0], id_end = id_ends[0];
  for (uint64_t left = sessions; left > 0;) {
    const uint64_t count = std::min(left, kSessionsAtOnce), id_begin = id_end;
    next(kOffsets, ends, count), next(kSessionIdOffsets, id_ends, count);
    next(kTrainEnd, train_end, count), next(kValidEnd, valid_end, count);
    next(kSessionIds, ids, id_ends.back() - id_begin);
    for (uint64_t from = 0, to = 0; from < count; from = to) {
      const uint64_t begin = end;
      while (to < count && (to == from || ends[to] - begin <= kEventsAtOnce)) ++to;
      next(kItems, items, ends[to - 1] - begin), next(kTimes, times, ends[to - 1] - begin);
      for (uint64_t s = from; s < to; ++s) {
        const uint64_t first = std::exchange(end, ends[s]), id_first = std::exchange(id_end, id_ends[s]);
        digest.add({std::string_view(ids).substr(id_first - id_begin, id_end - id_first),
                    std::span(items).subspan(first - begin, end - first), std::span(times).subspan(first - begin, end - first),
                    train_end[s], valid_end[s]});
      }
    }
    left -= count;
  }
}

fs::path made_folder(fs::path folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) throw_io_error("make folder", folder, error.value());
  return folder;
}

void check_record(const SessionRecord& session, uint64_t times) {
  const size_t n = session.items.size();
  if (n == 0 || n > UINT32_MAX || times != n || session.train_end < 1 || session.valid_end < session.train_end ||
      session.valid_end > n) {
    throw BugError("session '{}' has {} items, {} times and splits at {} and {}; wanted 1 <= train_end <= valid_end <= items",
                   session.id, n, times, session.train_end, session.valid_end);
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

  // From here to where `changing` becomes false again what was added is in part here and in part there. An error leaves it so,
  // and nothing can go on from there.
  void begin_change() {
    if (changing) throw BugError("the writer of store {} met an error, wanted another one that begins anew", folder.string());
    changing = true;
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

  // `lasting`: null, or what has its times from `first` on, if they and the items last.
  void add(const SessionRecord& session, const NearNumbers* lasting, uint64_t first) {
    const uint64_t lasting_times = lasting && first < lasting->size() ? lasting->size() - first : 0;
    check_record(session, lasting ? std::min<uint64_t>(session.items.size(), lasting_times) : session.times.size());
    begin_change();
    if (sessions < kept_sessions)
      lasting ? add_to_digest(session, *lasting, first) : digest.add(session);
    else
      write(session, lasting, first);
    events += session.items.size();
    sessions += 1;
    train_targets += session.train_end - 1;
    valid_targets += session.valid_end - session.train_end;
    test_targets += session.items.size() - session.valid_end;
    unseen_events += static_cast<uint64_t>(std::ranges::count(session.items, 0u));
    largest_item = std::max(largest_item, *std::max_element(session.items.begin(), session.items.end()));
    changing = false;
  }

  void add_to_digest(SessionRecord session, const NearNumbers& lasting, uint64_t first) {
    std::vector<int64_t> times(session.items.size());
    lasting.copy(first, times.size(), reinterpret_cast<char*>(times.data()));
    session.times = times;
    digest.add(session);
  }

  void write(const SessionRecord& session, const NearNumbers* lasting, uint64_t first) {
    if (opens_shard(session.items.size())) finish_shard();
    if (lasting) {
      spools[kItems].append_lasting(session.items);
      spools[kTimes].append_lasting(*lasting, first, session.items.size());
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

  // Builds the HDF5 file of the spooled arrays under a temporary name and makes it durable. While the disk has it, the digest
  // of its sessions is made.
  void finish_shard() {
    std::vector<ArraySource> arrays, digested;
    for (Spool& spool : spools) arrays.push_back(spool.source()), digested.push_back(spool.source());
    const size_t number = kept.size() + shards.size();
    AtomicFile out(folder / fmt::format("shard-{:05}.h5", number));
    auto digesting = std::async(add_shard, shard_sessions(), std::cref(digested), std::ref(digest));
    const Seal seal = write_shard(out, arrays);
    digesting.get();
    const std::string name = fmt::format("shard-{:05}-{}.h5", number, hex_text(seal.digest));
    shards.push_back({std::move(out), {name, shard_sessions(), spools[kItems].elements(), seal.digest}});
    start_shard();
  }

  void end_shard() {
    if (shard_sessions() == 0) return;
    begin_change();
    finish_shard();
    ++shards_wanted;
    changing = false;
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
    begin_change();
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
    changing = false;
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
  bool changing = false;
};

StoreWriter::StoreWriter(fs::path folder, int64_t shards, uint64_t expected_events, std::vector<StoreInfo::Shard> kept,
                         uint64_t in_memory)
    : impl_(std::make_unique<Impl>(std::move(folder), shards, expected_events, std::move(kept), in_memory)) {}
StoreWriter::~StoreWriter() = default;
void StoreWriter::add(const SessionRecord& session) { impl_->add(session, nullptr, 0); }
void StoreWriter::add_lasting(const SessionRecord& session, const NearNumbers& times, uint64_t first) {
  impl_->add(session, &times, first);
}
void StoreWriter::end_shard() { impl_->end_shard(); }
StoreInfo StoreWriter::commit(StoreInfo info, std::span<const std::string> item_names, const UnseenItems& unseen) {
  return impl_->commit(std::move(info), item_names, unseen);
}

}  // namespace gru4rec

// The session store: what ingest writes and everything else reads. On disk (docs/formats.md): a folder with `manifest.h5`
// and the 1…N shards it names, `shard-00000-<digest>.h5`, all sealed (base/sealed_file.h).
//
// Sessions have a global index 0…n-1 in the order of their end time (for train/valid/test files: training sessions first,
// then valid, then test). Items are numbered 1…catalogue by first appearance in time order; 0 means "not in the catalogue":
// as a target it can only be missed, in a prefix it is passed over. 0 is also the padding row of the model.
//
// A split is two positions a session, whatever the protocol. The targets of a session of n events are its positions
// 1…n-1, of which
//     [1, train_end)          are trained on,
//     [train_end, valid_end)  belong to valid,
//     [valid_end, n)          belong to test.
// leave_one_out: train_end = n-2, valid_end = n-1 (n >= 4); 3 events: 2, 2; 2 events: 2, 2. A training session of
// a split by time: n, n; a valid session: 1, n; a test session: 1, 1.
#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace gru4rec {

class NearNumbers;

enum class Protocol : uint32_t {
  leave_one_out = 0,  // an evaluated target sees its last MAX_ITEM_LIST_LENGTH events (RecBole)
  next_item = 1,      // a session is read whole (session benchmarks)
};

// One session while a store is being written. `items` and `times` are parallel, in time order.
struct SessionRecord {
  std::string_view id;
  std::span<const uint32_t> items;
  std::span<const int64_t> times;
  uint32_t train_end;
  uint32_t valid_end;
};

// Original ids of the events whose item is 0, which no number stands for.
struct UnseenItems {
  std::vector<std::string> names;  // each once
  std::vector<uint32_t> events;    // [events of item 0, in global order] index of its name
};

// What the manifest says.
struct StoreInfo {
  std::string dataset;
  Protocol protocol = Protocol::leave_one_out;
  uint64_t sessions = 0;
  uint64_t events = 0;
  uint64_t catalogue = 0;  // number of items; ids are 1…catalogue
  uint64_t train_targets = 0, valid_targets = 0, test_targets = 0;
  uint64_t data_digest = 0;  // xxh3 over the logical content: the same for any number of shards
  std::string ingest_json;   // options and statistics of the ingest, for people
  struct Shard {
    std::string file;  // relative to the folder
    uint64_t sessions, events;
    uint64_t digest;  // seal of the file
  };
  std::vector<Shard> shards;
  std::vector<uint64_t> grown_from;  // data digests of the stores it was before each append, oldest first

  // Whether it is that store, or was it once: then the items of that one have the same numbers here.
  bool extends(uint64_t digest) const {
    return digest == data_digest || std::find(grown_from.begin(), grown_from.end(), digest) != grown_from.end();
  }
};

// Writes a store. Nothing is visible under its final name before commit(), which writes the manifest last; a store that is
// being replaced stays readable until then. Shards are named after their content, so new ones never overwrite those of another
// store in the folder; commit() removes those no manifest names any more. Equal content gives equal files.
//
// The arrays of the shard at hand are held first (HDF5 needs to know their lengths when it makes contiguous arrays): in memory,
// and what is more than `in_memory` in a temporary file, so that a large store needs room for one shard more than it has.
// Throws SurroundingsError (disk full, no permission, …), and after that BugError for whatever it is asked. Local; one thread.
//
//   StoreWriter writer(folder, shards, total_events);
//   for (…) writer.add(session);
//   writer.commit(info, item_names);
class StoreWriter {
 public:
  static constexpr uint64_t kInMemory = uint64_t{64} << 20;

  // `expected_events`: total, to balance the shards by events (a session is never split). A wrong number only unbalances them.
  // Fewer shards are written if there are fewer sessions. Makes the folder.
  // `kept`: files of the store in the folder with which the new one begins as well. They stay untouched; their sessions are
  // added like all others, and counted neither in `shards` nor in `expected_events`.
  // `in_memory`: bytes of each of the seven arrays that are held there; whole MiB, or anything from 1 on below one.
  StoreWriter(std::filesystem::path folder, int64_t shards, uint64_t expected_events, std::vector<StoreInfo::Shard> kept = {},
              uint64_t in_memory = kInMemory);
  ~StoreWriter();  // without commit: removes its temporary files
  // The session is copied. Throws BugError for a record that breaks the contract at the top of this file.
  void add(const SessionRecord& session);
  // The same of a record whose items stay where they are, unchanged, until commit(), and so do `times`, which from `first` on
  // has its times (session.times is not looked at): neither is copied where it lies behind those of the record before.
  void add_lasting(const SessionRecord& session, const NearNumbers& times, uint64_t first);
  // The next session opens a shard, one more than was asked for. No effect where it does so anyway.
  void end_shard();
  // item_names[i] is the original id of item i+1. Fills counts, shards and digest of `info`.
  StoreInfo commit(StoreInfo info, std::span<const std::string> item_names, const UnseenItems& unseen = {});

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Reads a store: opened read-only without file locks; arrays are read by pread from the place HDF5 reports, in blocks of
// 8,192 elements. The first read of a block verifies its checksum and its values (whole blocks, so up to two more than asked
// for are read then); later reads go straight to the page cache, until a shard's size or time of modification changes: from
// then on each read verifies. A store that is replaced while it is open stays readable. Local; safe for several threads.
//
// Throws UserError if the folder is no store, a seal or checksum does not hold, or sizes contradict each other: the constructor
// for all that a manifest and the structure of its shards can tell, the other functions for the blocks they touch.
class Store {
 public:
  explicit Store(const std::filesystem::path& folder);
  ~Store();
  Store(Store&&) noexcept;

  const StoreInfo& info() const;

  // Number of events of each of `count` sessions from `first`, and where their splits lie.
  struct SessionShape {
    uint64_t first_event;  // global index of its first event
    uint32_t events;
    uint32_t train_end;
    uint32_t valid_end;
  };
  std::vector<SessionShape> shapes(uint64_t first, uint64_t count) const;

  // Items of the events [first_event, first_event + out.size()), global indices, across shards.
  void read_items(uint64_t first_event, std::span<uint32_t> out) const;
  void read_times(uint64_t first_event, std::span<int64_t> out) const;

  // [catalogue]. Read once and kept: whoever has asked is not disturbed by a store that takes this one's place.
  const std::vector<std::string>& item_names() const;
  // UserError if the store has unseen items whose ids nobody wrote down, as stores of earlier versions have.
  UnseenItems unseen_items() const;
  std::vector<std::string> session_ids(uint64_t first, uint64_t count) const;

  // Whole sessions [first, first + count) in order, the events of a few in memory at a time, until visit() returns false.
  using Visit = std::function<bool(const SessionRecord& session)>;
  void visit_sessions(uint64_t first, uint64_t count, const Visit& visit) const;

  // Reads everything again and holds it against every checksum, rule and count and the data digest. One pass, bounded memory.
  void verify() const;

  uint64_t bytes_read() const;  // from the arrays, by this object; for the start-up block and tests

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Whether a folder has the manifest of a store; it may still not hold. Local.
bool is_store(const std::filesystem::path& folder);

// Completes and seals files that somebody wrote with h5py (docs/formats.md shows how): a shard gets its checksums, a manifest
// its counts, the digests of its shards and the data digest. A folder: all shards its manifest names, then that. Each file is
// written anew and replaced atomically, so one that breaks a rule of the format stays as it was. Needs room for the
// largest file once more. Throws UserError. Local.
void seal_store(const std::filesystem::path& path);

}  // namespace gru4rec

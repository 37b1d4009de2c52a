// Reading side of one shard: its arrays, checked by block on the first read, and the walk over a sequence of shards.
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <vector>

#include "store_layout.h"

namespace gru4rec {

// A file descriptor that is closed at the end. Safe for several threads.
class ReadOnlyFile {
 public:
  explicit ReadOnlyFile(std::filesystem::path path);
  ~ReadOnlyFile();
  ReadOnlyFile(const ReadOnlyFile&) = delete;
  ReadOnlyFile& operator=(const ReadOnlyFile&) = delete;
  void read(void* data, size_t bytes, uint64_t offset) const;
  const std::filesystem::path& path() const { return path_; }
  int fd() const { return fd_; }
  uint64_t bytes_read() const { return bytes_read_.load(std::memory_order_relaxed); }
  // True for good once its size or time of modification was seen to differ from what they were when it was opened. Asked after
  // a read, it tells of every change that the read can have seen. Replacing or removing the file is none: it stays readable.
  bool changed() const;
  bool known_changed() const { return changed_.load(std::memory_order_relaxed); }  // without looking

 private:
  struct Version {
    int64_t bytes = 0, seconds = 0, nanoseconds = 0;
    friend bool operator==(const Version&, const Version&) = default;
  };
  Version version() const;

  std::filesystem::path path_;
  int fd_;
  Version opened_;
  mutable std::atomic<bool> changed_{false};
  mutable std::atomic<uint64_t> bytes_read_{0};
};

// One large array. Blocks are verified on their first read; a bitmap remembers. From when the file is changed under us, it is
// not believed any more and every read verifies its blocks. Safe for several threads.
class CheckedArray {
 public:
  // Judges the values of a block, `count` from index `first`; throws UserError.
  using Judge = std::function<void(const void* values, uint64_t first, uint64_t count)>;

  CheckedArray(const ReadOnlyFile& file, std::string name, const ArrayInfo& info, std::vector<uint64_t> checksums);

  void judge_with(Judge judge) { judge_ = std::move(judge); }
  uint64_t size() const { return size_; }
  void forget_verified();

  template <typename T>
  void read(uint64_t first, std::span<T> out) const {
    read_elements(first, out.size(), reinterpret_cast<char*>(out.data()));
  }
  template <typename T>
  std::vector<T> read(uint64_t first, uint64_t count) const {
    std::vector<T> values(count);
    read(first, std::span<T>(values));
    return values;
  }

 private:
  void read_elements(uint64_t first, uint64_t count, char* out) const;
  void read_blocks(uint64_t first, uint64_t count, char* out) const;
  void read_raw(uint64_t first, uint64_t count, char* out) const;
  void verify_block(uint64_t block, const char* values) const;
  bool verified(uint64_t block) const;
  uint64_t block_end(uint64_t block) const { return std::min(size_, (block + 1) * kChecksumBlock); }

  const ReadOnlyFile* file_;
  std::string name_;
  Extent place_;
  size_t element_bytes_;
  uint64_t size_;
  std::vector<uint64_t> checksums_;
  mutable std::vector<std::atomic<uint64_t>> verified_;  // bit b % 64 of word b / 64
  Judge judge_;
};

// One shard whose seal held. `catalogue` bounds its items.
class ShardReader {
 public:
  ShardReader(const std::filesystem::path& path, uint64_t catalogue);
  ShardReader(const ShardReader&) = delete;
  ShardReader& operator=(const ShardReader&) = delete;

  uint64_t sessions() const { return sessions_; }
  uint64_t events() const { return events_; }
  uint64_t digest() const { return digest_; }
  const CheckedArray& array(ShardArray which) const { return arrays_[which]; }
  uint64_t bytes_read() const { return file_->bytes_read(); }
  void forget_verified();

  // Shapes of sessions [first, first + count) of this shard; first_event counts from the shard's first event.
  std::vector<Store::SessionShape> shapes(uint64_t first, uint64_t count) const;
  std::vector<std::string> session_ids(uint64_t first, uint64_t count) const;

 private:
  void check_sizes() const;
  void check_ends(ShardArray offsets, uint64_t end) const;
  const std::filesystem::path& path() const { return file_->path(); }

  std::unique_ptr<ReadOnlyFile> file_;
  std::vector<CheckedArray> arrays_;
  uint64_t digest_ = 0;
  uint64_t sessions_ = 0, events_ = 0;
};

// Store::visit_sessions of one shard. Returns false where visit() did.
bool visit_records(const ShardReader& shard, uint64_t first, uint64_t count, const Store::Visit& visit);

// What only a pass over all sessions can tell.
struct ContentSummary {
  ContentDigest digest;
  uint64_t train_targets = 0, valid_targets = 0, test_targets = 0;
};
ContentSummary summarise(const std::vector<std::unique_ptr<ShardReader>>& shards);

// Checks of one shard file on its own: names, types and sizes of its arrays, in the order of kArrayRules.
std::vector<ArrayInfo> shard_arrays(const Hdf5File& file);

}  // namespace gru4rec

#include "store_shard.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "gru4rec/base/atomic_file.h"

namespace gru4rec {

namespace fs = std::filesystem;

ReadOnlyFile::ReadOnlyFile(fs::path path) : path_(std::move(path)), fd_(::open(path_.c_str(), O_RDONLY | O_CLOEXEC)) {
  if (fd_ < 0) throw_io_error("open", path_, errno);
  opened_ = version();
}

ReadOnlyFile::Version ReadOnlyFile::version() const {
  struct stat status {};
  if (::fstat(fd_, &status) != 0) throw_io_error("look at", path_, errno);
  return {status.st_size, status.st_mtim.tv_sec, status.st_mtim.tv_nsec};
}

bool ReadOnlyFile::changed() const {
  if (!known_changed() && version() != opened_) changed_.store(true, std::memory_order_relaxed);
  return known_changed();
}

ReadOnlyFile::~ReadOnlyFile() { ::close(fd_); }

void ReadOnlyFile::read(void* data, size_t bytes, uint64_t offset) const {
  read_at(fd_, data, bytes, offset, path_);
  bytes_read_.fetch_add(bytes, std::memory_order_relaxed);
}

CheckedArray::CheckedArray(const ReadOnlyFile& file, std::string name, const ArrayInfo& info, std::vector<uint64_t> checksums)
    : file_(&file),
      name_(std::move(name)),
      place_(info.place),
      element_bytes_(element_bytes(info.type)),
      size_(info.elements()),
      checksums_(std::move(checksums)),
      verified_((blocks_of(size_) + 63) / 64) {
  if (checksums_.size() != blocks_of(size_)) {
    throw UserError("{} has {} checksums for array {}, its {} elements need {}. Seal it again: gru4rec inspect --seal {}",
                    file.path().string(), checksums_.size(), name_, size_, blocks_of(size_), file.path().string());
  }
}

void CheckedArray::forget_verified() {
  for (auto& word : verified_) word.store(0, std::memory_order_relaxed);
}

bool CheckedArray::verified(uint64_t block) const {
  return !file_->known_changed() && verified_[block / 64].load(std::memory_order_acquire) >> (block % 64) & 1;
}

void CheckedArray::read_raw(uint64_t first, uint64_t count, char* out) const {
  file_->read(out, count * element_bytes_, place_.offset + first * element_bytes_);
}

void CheckedArray::verify_block(uint64_t block, const char* values) const {
  const uint64_t first = block * kChecksumBlock;
  const uint64_t count = block_end(block) - first;
  const uint64_t found = hash_bytes(values, count * element_bytes_);
  if (found != checksums_[block]) {
    throw UserError("{} {}: {}[{}:{}] has checksum {}, the file says {}. Copy or write it again.", file_->path().string(),
                    file_->changed() ? "was changed while it was in use" : "is damaged", name_, first, first + count,
                    hex_text(found), hex_text(checksums_[block]));
  }
  if (judge_) judge_(values, first, count);
  verified_[block / 64].fetch_or(uint64_t{1} << (block % 64), std::memory_order_release);
}

// A change after this look is seen by the next one, which all that was read here comes before.
void CheckedArray::read_elements(uint64_t first, uint64_t count, char* out) const {
  const bool changed_before = file_->changed();
  read_blocks(first, count, out);
  if (!changed_before && file_->changed()) read_blocks(first, count, out);
}

// Runs of verified blocks and runs of whole unverified ones go straight to `out`; an unverified block of which only a part is
// wanted is read whole on the side.
void CheckedArray::read_blocks(uint64_t first, uint64_t count, char* out) const {
  const uint64_t end = first + count;
  if (end < first || end > size_) {
    throw BugError("{}[{}:{}] of {} was asked for, it has {} elements", name_, first, end, file_->path().string(), size_);
  }
  std::vector<char> aside;
  for (uint64_t at = first; at < end;) {
    char* const into = out + (at - first) * element_bytes_;
    const uint64_t block = at / kChecksumBlock;
    uint64_t stop = at;
    if (verified(block)) {
      while (stop < end && verified(stop / kChecksumBlock)) stop = std::min(end, block_end(stop / kChecksumBlock));
      read_raw(at, stop - at, into);
    } else if (at == block * kChecksumBlock && block_end(block) <= end) {
      while (stop < end && block_end(stop / kChecksumBlock) <= end && !verified(stop / kChecksumBlock)) {
        stop = block_end(stop / kChecksumBlock);
      }
      read_raw(at, stop - at, into);
      for (uint64_t b = block; b * kChecksumBlock < stop; ++b)
        verify_block(b, into + (b - block) * kChecksumBlock * element_bytes_);
    } else {
      const uint64_t start = block * kChecksumBlock;
      aside.resize(kChecksumBlock * element_bytes_);
      read_raw(start, block_end(block) - start, aside.data());
      verify_block(block, aside.data());
      stop = std::min(end, block_end(block));
      std::memcpy(into, aside.data() + (at - start) * element_bytes_, (stop - at) * element_bytes_);
    }
    at = stop;
  }
}

std::vector<ArrayInfo> shard_arrays(const Hdf5File& file) {
  std::vector<ArrayInfo> infos;
  for (const ArrayRule& rule : kArrayRules) {
    ArrayInfo info = file.array(rule.path());
    if (info.type != rule.type || info.dims.size() != 1) {
      throw UserError("array {} of {} is a {} of {} dimensions, it has to be a {} of one. Write it again with that type.",
                      rule.path(), file.path().string(), element_name(info.type), info.dims.size(), element_name(rule.type));
    }
    infos.push_back(std::move(info));
  }
  return infos;
}

namespace {

// The bytes the seal leaves out must be exactly those the checksums of the blocks cover.
void check_extents(const fs::path& path, const Seal& seal, const std::vector<ArrayInfo>& infos) {
  std::vector<Extent> places;
  for (const ArrayInfo& info : infos) {
    if (info.place.bytes > 0) places.push_back(info.place);
  }
  std::sort(places.begin(), places.end(), [](const Extent& a, const Extent& b) { return a.offset < b.offset; });
  if (places != seal.extents) {
    throw UserError("{} is damaged: the arrays its seal lists are not those it has. Seal it again: gru4rec inspect --seal {}",
                    path.string(), path.string());
  }
}

void judge_items(const fs::path& path, uint64_t catalogue, const uint32_t* items, uint64_t first, uint64_t count) {
  const uint32_t* const largest = std::max_element(items, items + count);
  if (*largest > catalogue) {
    throw UserError(
        "{} holds item {} at items[{}], the catalogue of its manifest ends at {}. Write both again from the same data.",
        path.string(), *largest, first + static_cast<uint64_t>(largest - items), catalogue);
  }
}

}  // namespace

ShardReader::ShardReader(const fs::path& path, uint64_t catalogue) {
  const Seal seal = check_seal(path, FileKind::shard);
  digest_ = seal.digest;
  file_ = std::make_unique<ReadOnlyFile>(path);
  const Hdf5File file = Hdf5File::open(path);
  const std::vector<ArrayInfo> infos = shard_arrays(file);
  check_extents(path, seal, infos);
  arrays_.reserve(kShardArrays);
  for (size_t a = 0; a < kShardArrays; ++a) {
    arrays_.emplace_back(*file_, kArrayRules[a].name, infos[a], file.read<uint64_t>(kArrayRules[a].checksums()));
  }
  arrays_[kItems].judge_with([this, catalogue](const void* items, uint64_t first, uint64_t count) {
    judge_items(this->path(), catalogue, static_cast<const uint32_t*>(items), first, count);
  });
  sessions_ = arrays_[kTrainEnd].size();
  events_ = arrays_[kItems].size();
  check_sizes();
}

void ShardReader::check_sizes() const {
  const auto expect = [this](ShardArray which, uint64_t wanted) {
    if (arrays_[which].size() == wanted) return;
    throw UserError(
        "array {} of {} has {} elements, it has to have {} as the file has {} sessions and {} events. Write it again.",
        kArrayRules[which].name, path().string(), arrays_[which].size(), wanted, sessions_, events_);
  };
  expect(kTimes, events_);
  expect(kValidEnd, sessions_);
  expect(kOffsets, sessions_ + 1);
  expect(kSessionIdOffsets, sessions_ + 1);
  check_ends(kOffsets, events_);
  check_ends(kSessionIdOffsets, arrays_[kSessionIds].size());
}

void ShardReader::check_ends(ShardArray offsets, uint64_t end) const {
  const uint64_t front = arrays_[offsets].read<uint64_t>(0, 1)[0];
  const uint64_t back = arrays_[offsets].read<uint64_t>(sessions_, 1)[0];
  if (front == 0 && back == end) return;
  throw UserError("{} of {} goes from {} to {}, it has to go from 0 to {}. Write it again.", kArrayRules[offsets].name,
                  path().string(), front, back, end);
}

void ShardReader::forget_verified() {
  for (CheckedArray& array : arrays_) array.forget_verified();
}

std::vector<Store::SessionShape> ShardReader::shapes(uint64_t first, uint64_t count) const {
  const auto offsets = arrays_[kOffsets].read<uint64_t>(first, count + 1);
  const auto train_end = arrays_[kTrainEnd].read<uint32_t>(first, count);
  const auto valid_end = arrays_[kValidEnd].read<uint32_t>(first, count);
  std::vector<Store::SessionShape> shapes(count);
  for (uint64_t i = 0; i < count; ++i) {
    if (offsets[i + 1] <= offsets[i] || offsets[i + 1] > events_ || offsets[i + 1] - offsets[i] > UINT32_MAX) {
      throw UserError("session {} of {} goes from event {} to {} of {}; offsets have to rise and stay within. Write it again.",
                      first + i, path().string(), offsets[i], offsets[i + 1], events_);
    }
    const auto events = static_cast<uint32_t>(offsets[i + 1] - offsets[i]);
    if (train_end[i] < 1 || valid_end[i] < train_end[i] || valid_end[i] > events) {
      throw UserError(
          "session {} of {} has {} events and splits at {} and {}; wanted 1 <= train_end <= valid_end <= events. "
          "Write it again.",
          first + i, path().string(), events, train_end[i], valid_end[i]);
    }
    shapes[i] = {offsets[i], events, train_end[i], valid_end[i]};
  }
  return shapes;
}

std::vector<std::string> ShardReader::session_ids(uint64_t first, uint64_t count) const {
  const auto offsets = arrays_[kSessionIdOffsets].read<uint64_t>(first, count + 1);
  const uint64_t bytes = arrays_[kSessionIds].size();
  for (uint64_t i = 0; i < count; ++i) {
    if (offsets[i + 1] < offsets[i] || offsets[i + 1] > bytes) {
      throw UserError("the id of session {} of {} goes from byte {} to {} of {}. Write it again.", first + i, path().string(),
                      offsets[i], offsets[i + 1], bytes);
    }
  }
  const auto text = arrays_[kSessionIds].read<char>(offsets[0], offsets[count] - offsets[0]);
  std::vector<std::string> ids(count);
  for (uint64_t i = 0; i < count; ++i) {
    ids[i].assign(text.data() + (offsets[i] - offsets[0]), text.data() + (offsets[i + 1] - offsets[0]));
  }
  return ids;
}

namespace {

constexpr uint64_t kSessionsAtOnce = 8192;
constexpr uint64_t kEventsAtOnce = uint64_t{1} << 20;  // at least one session, though

// Sessions [first, first + count), of which the shapes are in memory at once.
bool visit_some(const ShardReader& shard, uint64_t first, uint64_t count, const Store::Visit& visit) {
  const auto shapes = shard.shapes(first, count);
  const auto ids = shard.session_ids(first, count);
  for (size_t from = 0, to = 0; from < count; from = to) {
    uint64_t events = 0;
    while (to < count && (to == from || events + shapes[to].events <= kEventsAtOnce)) events += shapes[to++].events;
    const auto items = shard.array(kItems).read<uint32_t>(shapes[from].first_event, events);
    const auto times = shard.array(kTimes).read<int64_t>(shapes[from].first_event, events);
    for (size_t s = from; s < to; ++s) {
      const Store::SessionShape& shape = shapes[s];
      const uint64_t at = shape.first_event - shapes[from].first_event;
      if (!visit({ids[s], std::span(items).subspan(at, shape.events), std::span(times).subspan(at, shape.events),
                  shape.train_end, shape.valid_end}))
        return false;
    }
  }
  return true;
}

}  // namespace

bool visit_records(const ShardReader& shard, uint64_t first, uint64_t count, const Store::Visit& visit) {
  for (const uint64_t end = first + count; first < end; first += kSessionsAtOnce)
    if (!visit_some(shard, first, std::min(kSessionsAtOnce, end - first), visit)) return false;
  return true;
}

ContentSummary summarise(const std::vector<std::unique_ptr<ShardReader>>& shards) {
  ContentSummary summary;
  const auto add = [&](const SessionRecord& session) {
    summary.digest.add(session);
    summary.train_targets += session.train_end - 1;
    summary.valid_targets += session.valid_end - session.train_end;
    summary.test_targets += session.items.size() - session.valid_end;
    return true;
  };
  for (const auto& shard : shards) visit_records(*shard, 0, shard->sessions(), add);
  return summary;
}

}  // namespace gru4rec

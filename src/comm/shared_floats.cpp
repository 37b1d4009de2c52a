#include "gru4rec/comm/shared_floats.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <random>
#include <string>
#include <utility>

#include "gru4rec/base/heap.h"

namespace gru4rec {
namespace {

constexpr std::size_t kHead = 64;  // bytes before the floats, which begin with the token

// A file in memory, or -1. To pass the limit on the size of files would end the process.
int file_in_memory(std::size_t bytes) {
  rlimit limit{};
  if (::getrlimit(RLIMIT_FSIZE, &limit) != 0 || limit.rlim_cur < bytes) return -1;
  const int file = ::memfd_create("gru4rec", MFD_CLOEXEC);
  if (file >= 0 && ::ftruncate(file, static_cast<off_t>(bytes)) == 0) return file;
  if (file >= 0) ::close(file);
  return -1;
}

// Whether the pages of a mapped file are there, so that to touch one cannot fail (SIGBUS). Huge ones where the system has them
// for such files, which only a write through the mapping brings; Linux before 5.14 has no call for that.
bool has_pages(int file, void* memory, std::size_t bytes) {
  constexpr int kPopulateWrite = 23;  // MADV_POPULATE_WRITE, which sys/mman.h of older C libraries lacks
  want_huge_pages(memory, bytes);
  int error = 0;
  do error = ::madvise(memory, bytes, kPopulateWrite) == 0 ? 0 : errno;
  while (error == EINTR);
  if (error != EINVAL) return error == 0;
  do error = ::posix_fallocate(file, 0, static_cast<off_t>(bytes));
  while (error == EINTR);
  return error == 0;
}

}  // namespace

// What a rank tells of its memory.
struct SharedFloats::Card {
  int64_t bytes = 0;  // 0: none that others can map
  int32_t file = -1;
  Token token{};
};

SharedFloats::File& SharedFloats::File::operator=(File&& other) noexcept {
  if (descriptor_ >= 0) ::close(descriptor_);
  descriptor_ = other.release();
  return *this;
}

SharedFloats::File::~File() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

int SharedFloats::File::release() { return std::exchange(descriptor_, -1); }

MappedMemory SharedFloats::map(int file, std::size_t bytes, int protection) {
  const int flags = file >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS;
  void* memory = ::mmap(nullptr, bytes, protection, flags, file, 0);
  return {memory == MAP_FAILED ? nullptr : static_cast<std::byte*>(memory), {bytes}};
}

SharedFloats::SharedFloats(std::size_t floats) {
  const std::size_t bytes = kHead + floats * sizeof(float);
  file_ = File(file_in_memory(bytes));
  if (file_.get() >= 0) {
    memory_ = map(file_.get(), bytes, PROT_READ | PROT_WRITE);
    if (!memory_ || !has_pages(file_.get(), memory_.get(), bytes)) file_ = File();
  }
  if (file_.get() < 0) {
    memory_ = map(-1, bytes, PROT_READ | PROT_WRITE);
    if (!memory_) throw std::bad_alloc();
    want_huge_pages(memory_.get(), bytes);
    std::memset(memory_.get(), 0, bytes);  // pages are there before the first step
  }
  std::random_device random;
  for (uint32_t& part : token_) part = random();
  std::memcpy(memory_.get(), &token_, sizeof token_);
  floats_ = reinterpret_cast<float*>(memory_.get() + kHead);
}

// The memory that a card speaks of, if it is what that descriptor of that process leads to.
MappedMemory SharedFloats::map_other(const Card& card, int64_t pid) {
  const std::string path = "/proc/" + std::to_string(pid) + "/fd/" + std::to_string(card.file);
  const File file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));  // it may be anything
  struct stat status {};
  if (file.get() < 0 || ::fstat(file.get(), &status) != 0 || !S_ISREG(status.st_mode) || status.st_size != card.bytes)
    return {nullptr, {0}};
  MappedMemory memory = map(file.get(), static_cast<std::size_t>(card.bytes), PROT_READ);
  const bool theirs = memory && std::memcmp(memory.get(), &card.token, sizeof card.token) == 0;
  return theirs ? std::move(memory) : MappedMemory(nullptr, {0});
}

NearMemory SharedFloats::map_others(Communicator& comm) const {
  Card mine;
  if (file_.get() >= 0) mine = {static_cast<int64_t>(memory_.get_deleter().bytes), file_.get(), token_};
  const std::vector<Card> cards = comm.all_gather(mine);
  const auto ranks = static_cast<std::size_t>(comm.size()), rank = static_cast<std::size_t>(comm.rank());
  NearMemory near;
  for (std::size_t peer = 0; peer < ranks; ++peer) {
    const RankInfo& info = comm.ranks()[peer];
    const bool reach = peer != rank && mine.bytes != 0 && cards[peer].bytes != 0 && info.host == comm.host();
    near.memory_.push_back(reach ? map_other(cards[peer], info.pid) : MappedMemory(nullptr, {0}));
  }
  std::vector<uint8_t> reads(ranks), all(ranks * ranks);
  for (std::size_t peer = 0; peer < ranks; ++peer) reads[peer] = near.memory_[peer] != nullptr;
  comm.all_gather_v(std::span<const uint8_t>(reads), std::vector<std::size_t>(ranks, ranks), std::span<uint8_t>(all));
  for (std::size_t peer = 0; peer < ranks; ++peer) {
    MappedMemory& memory = near.memory_[peer];
    if (!all[peer * ranks + rank]) memory.reset();
    near.floats_.push_back(memory ? reinterpret_cast<const float*>(memory.get() + kHead) : nullptr);
  }
  return near;
}

int NearMemory::ranks() const {
  return static_cast<int>(std::ranges::count_if(floats_, [](const float* floats) { return floats != nullptr; }));
}

}  // namespace gru4rec

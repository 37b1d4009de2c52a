// Laws of writes past the page cache: the bytes are those of an ordinary write, wherever they begin and end; no page is kept.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "gru4rec/base/direct_file.h"
#include "gru4rec/base/error.h"
#include "support/hostile.h"
#include "support/temporary_folder.h"

namespace gru4rec {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::read_whole;
using testing::TemporaryFolder;
namespace fs = std::filesystem;

constexpr size_t kMiB = size_t{1} << 20;

// Bytes of which no two blocks are alike.
std::string text_of(size_t bytes) {
  std::string text(bytes, '\0');
  uint32_t state = 1;
  for (char& letter : text) letter = static_cast<char>((state = state * 1664525 + 1013904223) >> 24);
  return text;
}

struct OpenFile {
  explicit OpenFile(fs::path at) : path(std::move(at)), fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666)) {}
  ~OpenFile() { ::close(fd); }
  fs::path path;
  int fd;
};

// On a disk, and in memory, where there may be no direct writes.
class Direct : public ::testing::TestWithParam<const char*> {
 protected:
  TemporaryFolder folder_{GetParam()};
};
INSTANTIATE_TEST_SUITE_P(Folders, Direct, ::testing::Values("/var/tmp", "/dev/shm"),
                         [](const auto& folder) { return std::string(folder.param) == "/var/tmp" ? "Disk" : "Memory"; });

TEST_P(Direct, WritesTheBytesAndNoOthers) {
  const std::string text = text_of(9 * kMiB + 20'000);
  for (const size_t offset : {0, 1, 512, 4095, 4096, 5000}) {
    for (const size_t bytes : {size_t{0}, size_t{1}, size_t{4096}, kMiB - 1, kMiB + 4097, size_t{8195}, 4 * kMiB - 1,
                               4 * kMiB + 4096, 9 * kMiB + 17}) {
      const OpenFile file(folder_ / "a");
      const std::string before(offset + bytes + 5000, 'x');
      testing::write_whole(file.path, before);
      DirectFile(file.path, file.fd).write(text.data() + 3, bytes, offset);
      ASSERT_EQ(read_whole(file.path), std::string(offset, 'x') + text.substr(3, bytes) + std::string(5000, 'x'))
          << bytes << " bytes at " << offset;
    }
  }
}

// As on a file system without direct writes: there is no file of this name to open anew.
TEST_P(Direct, WhereTheyAreRefusedOrdinaryWritesHaveTheSameBytes) {
  const std::string text = text_of(9 * kMiB);
  const OpenFile file(folder_ / "a");
  testing::write_whole(file.path, "some");
  DirectFile refused(folder_ / "another", file.fd);
  refused.write(text.data(), text.size(), 4);
  refused.write(text.data(), 10, 4 + text.size());
  EXPECT_EQ(read_whole(file.path), "some" + text + text.substr(0, 10));
}

TEST_P(Direct, BytesAreAskedForOnceAndInOrder) {
  const std::string text = text_of(13 * kMiB);
  for (const bool refused : {false, true}) {
    for (const size_t bytes : {size_t{0}, size_t{77}, kMiB - 1, kMiB, 4 * kMiB - 3, 4 * kMiB, 9 * kMiB + 20'000, text.size()}) {
      const OpenFile file(folder_ / "a");
      testing::write_whole(file.path, "some");
      size_t given = 0;
      DirectFile(refused ? folder_ / "another" : file.path, file.fd).write(bytes, 4, [&](std::span<char> out) {
        ASSERT_LE(given + out.size(), bytes);
        std::ranges::copy(std::span(text).subspan(given, out.size()), out.begin());
        given += out.size();
      });
      EXPECT_EQ(given, bytes);
      ASSERT_EQ(read_whole(file.path).substr(0, 4 + bytes), "some" + text.substr(0, bytes)) << bytes;
    }
  }
}

// Behind a part that may be on its way.
TEST_P(Direct, WhatTheBytesComeFromMayThrow) {
  const std::string text = text_of(9 * kMiB);
  const OpenFile file(folder_ / "a");
  DirectFile direct(file.path, file.fd);
  int asked = 0;
  const auto refuse = [&](std::span<char> out) {
    if (++asked == 2) throw UserError("nothing more is there");
    std::ranges::copy(std::span(text).first(out.size()), out.begin());
  };
  EXPECT_THROW(direct.write(text.size(), 0, refuse), UserError);
  direct.write(text.data(), text.size(), 0);
  EXPECT_EQ(read_whole(file.path), text);
}

TEST_P(Direct, GrowsTheFileByPartsInAnyOrder) {
  const std::string text = text_of(6 * kMiB + 777);
  const size_t middle = 3 * kMiB + 333;
  const OpenFile file(folder_ / "a");
  DirectFile direct(file.path, file.fd);
  direct.write(text.data() + middle, text.size() - middle, middle);
  direct.write(text.data(), middle, 0);
  EXPECT_EQ(read_whole(file.path), text);
}

// Of the first `bytes` of a file.
int64_t cached_pages(const OpenFile& file, size_t bytes) {
  void* mapped = ::mmap(nullptr, bytes, PROT_READ, MAP_SHARED, file.fd, 0);
  std::vector<unsigned char> cached(bytes / static_cast<size_t>(::sysconf(_SC_PAGESIZE)));
  EXPECT_EQ(::mincore(mapped, bytes, cached.data()), 0);
  ::munmap(mapped, bytes);
  return std::ranges::count_if(cached, [](unsigned char page) { return (page & 1) != 0; });
}

// Some file systems take the flag and use the cache.
bool writes_past_the_cache(const OpenFile& file, const std::string& text) {
  const int direct = ::open(file.path.c_str(), O_WRONLY | O_DIRECT | O_CLOEXEC);
  if (direct < 0) return false;
  const std::unique_ptr<char, decltype(&std::free)> block(static_cast<char*>(std::aligned_alloc(4096, 4096)), &std::free);
  std::memcpy(block.get(), text.data(), 4096);
  const bool written = ::pwrite(direct, block.get(), 4096, 0) == 4096;
  ::close(direct);
  return written && cached_pages(file, 4096) == 0;
}

TEST(DirectFile, LeavesNoPageOfItInTheCache) {
  const TemporaryFolder folder("/var/tmp");
  const OpenFile file(folder / "a");
  const std::string text = text_of(8 * kMiB);
  if (!writes_past_the_cache(file, text)) GTEST_SKIP() << "the file system of /var/tmp has no writes past the page cache";
  ASSERT_EQ(::ftruncate(file.fd, 0), 0);
  DirectFile(file.path, file.fd).write(text.data(), text.size(), 0);
  EXPECT_EQ(cached_pages(file, text.size()), 0);
}

// While it lives, files end at `bytes`, as on a disk without room: it takes a part, and refuses the rest.
class ShortFiles {
 public:
  explicit ShortFiles(rlim_t bytes) : former_signal_(std::signal(SIGXFSZ, SIG_IGN)) {
    EXPECT_EQ(::getrlimit(RLIMIT_FSIZE, &former_), 0);
    const rlimit limit{bytes, former_.rlim_max};
    EXPECT_EQ(::setrlimit(RLIMIT_FSIZE, &limit), 0);
  }
  ~ShortFiles() {
    ::setrlimit(RLIMIT_FSIZE, &former_);
    std::signal(SIGXFSZ, former_signal_);
  }

 private:
  rlimit former_{};
  void (*former_signal_)(int);
};

TEST_P(Direct, ARefusalNamesTheFileAndWhatToDo) {
  const OpenFile file(folder_ / "a");
  const std::string text = text_of(8 * kMiB - 100);  // the part that is refused is the last
  const ShortFiles short_files(6 * kMiB + 100);
  std::string said = "no error";
  try {
    DirectFile(file.path, file.fd).write(text.data(), text.size(), 100);
  } catch (const SurroundingsError& error) {
    said = error.what();
  }
  EXPECT_THAT(said, AllOf(HasSubstr("cannot write " + file.path.string() + ": File too large"), HasSubstr("ulimit -f")));
}

// There is room again before the part behind the refused one is written.
TEST_P(Direct, WithoutAnErrorAllOfItIsThere) {
  const OpenFile file(folder_ / "a");
  const std::string text = text_of(13 * kMiB);
  auto short_files = std::make_unique<ShortFiles>(6 * kMiB);
  size_t given = 0;
  bool refused = false;
  try {
    DirectFile(file.path, file.fd).write(text.size(), 0, [&](std::span<char> out) {
      for (int wait = 0; given == 8 * kMiB && wait < 200 && fs::file_size(file.path) < 6 * kMiB; ++wait)
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
      if (given == 8 * kMiB) std::this_thread::sleep_for(std::chrono::milliseconds(50)), short_files.reset();
      std::ranges::copy(std::span(text).subspan(given, out.size()), out.begin());
      given += out.size();
    });
  } catch (const SurroundingsError&) {
    refused = true;
  }
  EXPECT_TRUE(refused || read_whole(file.path) == text);
}

}  // namespace
}  // namespace gru4rec

// Damages a file in every way we can think of and holds a loader to its promise: an error of the user's kind before the content
// is used, never a crash, a huge allocation or silence.
//
//   HostileFile hostile(folder / "manifest.h5", [&] { Store(folder).verify(); });
//   EXPECT_THAT(hostile.flip_bits(1000, 1), IsEmpty());
#pragma once

#include <sys/resource.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

#include "gru4rec/base/error.h"
#include "gru4rec/base/hash.h"
#include "gru4rec/base/random.h"
#include "gru4rec/base/sealed_file.h"

namespace gru4rec::testing {

// Limits the address space of this process to what it has now and `more` bytes, so that a huge allocation fails with
// std::bad_alloc. Without effect under a sanitizer, which reserves terabytes of address space; those refuse huge
// allocations by themselves.
class MemoryLimit {
 public:
  explicit MemoryLimit(uint64_t more) {
    ::getrlimit(RLIMIT_AS, &former_);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    uint64_t pages = 0;
    std::ifstream("/proc/self/statm") >> pages;
    const rlimit limited{std::min<rlim_t>(former_.rlim_max, pages * 4096 + more), former_.rlim_max};
    ::setrlimit(RLIMIT_AS, &limited);
#else
    static_cast<void>(more);
#endif
  }
  ~MemoryLimit() { ::setrlimit(RLIMIT_AS, &former_); }
  MemoryLimit(const MemoryLimit&) = delete;
  MemoryLimit& operator=(const MemoryLimit&) = delete;

 private:
  rlimit former_{};
};

inline std::string read_whole(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

inline void write_whole(const std::filesystem::path& path, const std::string& content) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out << content;
  if (!out.flush()) throw std::runtime_error("cannot write " + path.string());
}

class HostileFile {
 public:
  using Faults = std::vector<std::string>;  // trials in which the loader broke its promise

  // `load` has to read all of the file, and to succeed as the file is. The file is put back after every trial.
  HostileFile(std::filesystem::path path, std::function<void()> load)
      : path_(std::move(path)), load_(std::move(load)), good_(read_whole(path_)) {
    load_();
  }

  const std::string& good() const { return good_; }

  // One trial with other content. Adds to `faults` unless a UserError came.
  void trial(const std::string& what, const std::string& content, Faults& faults) const {
    write_whole(path_, content);
    try {
      const MemoryLimit limit(uint64_t{256} << 20);
      load_();
      faults.push_back(what + ": loaded as if nothing was wrong");
    } catch (const UserError& error) {
      if (std::strlen(error.what()) < 20) faults.push_back(what + ": the error says only '" + error.what() + "'");
    } catch (const std::exception& error) {
      faults.push_back(what + ": " + error.what());
    }
    write_whole(path_, good_);
  }

  Faults flip_bits(int count, uint64_t seed) const {
    Faults faults;
    const Stream random(seed, Purpose::window_order);
    for (int i = 0; i < count; ++i) flip(random.below(static_cast<uint64_t>(i), good_.size() * 8), faults);
    return faults;
  }

  Faults flip_every_bit(uint64_t first_byte, uint64_t end_byte) const {
    Faults faults;
    for (uint64_t bit = first_byte * 8; bit < std::min<uint64_t>(end_byte, good_.size()) * 8; ++bit) flip(bit, faults);
    return faults;
  }

  // At places chosen by chance and at those where something begins or ends.
  Faults truncate(int count, uint64_t seed) const {
    std::vector<uint64_t> sizes = {0, 1, 7, 8, 503, 504, 511, 512, 513, 519, 520, good_.size() - 1, good_.size() - 8};
    const Stream random(seed, Purpose::window_order, 1);
    for (uint64_t i = sizes.size(); i < static_cast<uint64_t>(count); ++i) sizes.push_back(random.below(i, good_.size()));
    Faults faults;
    for (uint64_t size : sizes) trial("cut to " + std::to_string(size) + " bytes", good_.substr(0, size), faults);
    return faults;
  }

  // Each field of the seal set to wrong values, once as damage (its checksum fails) and once with a checksum that fits.
  Faults header_fields() const {
    struct Field {
      const char* name;
      size_t offset, bytes;
    };
    std::vector<Field> fields = {{"magic", 0, 8},       {"version", 8, 4},       {"kind", 12, 4},
                                 {"file size", 16, 8},  {"digest", 24, 8},       {"extents", 32, 4},
                                 {"reserved a", 36, 4}, {"first extent", 40, 8}, {"reserved b", 296, 208}};
    for (size_t e : {0, 1, 6, 7, 15}) {  // used and unused ones
      fields.push_back({"an extent's place", 40 + 16 * e, 8});
      fields.push_back({"an extent's length", 48 + 16 * e, 8});
    }
    Faults faults;
    for (const Field& field : fields) {
      for (const std::string& value : wrong_values(good_.substr(field.offset, field.bytes))) {
        std::string content = good_;
        content.replace(field.offset, field.bytes, value);
        const std::string what = std::string(field.name) + " at " + std::to_string(field.offset);
        trial(what, content, faults);
        const uint64_t checksum = hash_bytes(content.data(), 504);
        std::memcpy(content.data() + 504, &checksum, sizeof checksum);
        trial(what + " with a fitting checksum", content, faults);
      }
    }
    return faults;
  }

  // Files that are no sealed file at all.
  Faults foreign() const {
    Faults faults;
    trial("an empty file", "", faults);
    trial("text", "user_id:token\titem_id:token\ttimestamp:float\n1\t2\t3\n", faults);
    trial("zeros", std::string(good_.size(), '\0'), faults);
    trial("a gzip header", "\x1f\x8b\x08" + std::string(5000, 'x'), faults);
    trial("nothing behind the user block", good_.substr(0, kUserBlockBytes), faults);
    trial("twice the file", good_ + good_, faults);
    std::string unsealed = good_;
    std::fill_n(unsealed.begin(), kUserBlockBytes, '\0');
    trial("no seal", unsealed, faults);
    trial("no user block", good_.substr(kUserBlockBytes), faults);
    return faults;
  }

 private:
  void flip(uint64_t bit, Faults& faults) const {
    std::string content = good_;
    content[bit / 8] = static_cast<char>(content[bit / 8] ^ (1 << (bit % 8)));
    trial("bit " + std::to_string(bit % 8) + " of byte " + std::to_string(bit / 8) + " flipped", content, faults);
  }

  static std::vector<std::string> wrong_values(const std::string& right) {
    std::string more = right, less = right, top = right;
    more[0] = static_cast<char>(more[0] + 1);
    less[0] = static_cast<char>(less[0] - 1);
    top.back() = static_cast<char>(top.back() ^ 0x80);
    std::vector<std::string> values = {std::string(right.size(), '\0'), std::string(right.size(), '\xff'), more, less, top};
    values.erase(std::remove(values.begin(), values.end(), right), values.end());
    return values;
  }

  std::filesystem::path path_;
  std::function<void()> load_;
  std::string good_;
};

}  // namespace gru4rec::testing

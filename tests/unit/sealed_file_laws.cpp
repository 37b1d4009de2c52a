// Checksums, the layer over HDF5, and the seal of a file that is no store.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <thread>

#include "gru4rec/base/hash.h"
#include "gru4rec/base/hdf5.h"
#include "gru4rec/base/sealed_file.h"
#include "support/hostile.h"
#include "support/temporary_folder.h"

namespace gru4rec {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::HostileFile;
using ::testing::IsEmpty;
using testing::read_whole;
using testing::TemporaryFolder;
namespace fs = std::filesystem;

template <typename Work>
std::string user_error(Work work) {
  try {
    work();
  } catch (const UserError& error) {
    return error.what();
  }
  return "no error";
}

TEST(Digest, DependsOnTheBytesAndNotOnHowTheyWereCut) {
  const std::string text(100'003, 'x');
  Digest whole, parts;
  whole.update_bytes(text.data(), text.size());
  for (size_t at = 0, step = 1; at < text.size(); at += step, step = step * 3 % 1009 + 1) {
    parts.update_bytes(text.data() + at, std::min(step, text.size() - at));
  }
  EXPECT_EQ(parts.value(), whole.value());
  EXPECT_EQ(whole.value(), hash_bytes(text.data(), text.size()));
}

TEST(Digest, IsXxh3OfSeedZero) {
  EXPECT_EQ(hex_text(hash_bytes("", 0)), "2d06800538d394c2") << "the published value of nothing";
  EXPECT_EQ(hex_text(0xabc), "0000000000000abc");
}

TEST(Digest, TextsDoNotRunIntoEachOther) {
  EXPECT_NE(Digest().update("ab").update("c").value(), Digest().update("a").update("bc").value());
  const Digest before = Digest().update("a");
  Digest copy = before;
  copy.update("b");
  EXPECT_EQ(before.value(), Digest().update("a").value()) << "a copy goes its own way";
  EXPECT_EQ(copy.value(), Digest().update("a").update("b").value());
}

// A file with one of everything.
void write_everything(const fs::path& path) {
  Hdf5File file = Hdf5File::create(path);
  file.write("/state/deep/er/table", std::span<const float>(std::vector<float>{1, 2, 3, -0.0F, NAN, 6}), {2, 3});
  file.write("/state/doubles", std::vector<double>{0.1, -1e300});
  file.write("/state/counts", std::vector<uint64_t>{UINT64_MAX, 0, 7});
  file.write("/state/signed", std::vector<int64_t>{-1, INT64_MIN});
  file.write("/state/ids", std::vector<uint32_t>{UINT32_MAX});
  file.write("/state/nothing", std::vector<float>{});
  file.write("/state/scalar", std::span<const double>(std::vector<double>{2.5}), {});
  file.write_text("/provenance/text", "grüße");
  file.make_group("/empty/group");
  file.write_attribute("/state", "step", int64_t{-7});
  file.write_attribute("/state", "step", int64_t{500});
  file.write_attribute("/", "learner", "adam");
  file.write_attribute("/", "none", "");
  file.write_attribute("/state/ids", "rate", 0.25);
  file.close();
}

TEST(Hdf5File, ReadsWhatWasWritten) {
  const TemporaryFolder folder;
  write_everything(folder / "a.h5");
  const Hdf5File file = Hdf5File::open(folder / "a.h5");
  std::vector<float> table(6);
  file.read("/state/deep/er/table", std::span<float>(table), {2, 3});
  EXPECT_TRUE(std::signbit(table[3]) && std::isnan(table[4]));
  EXPECT_EQ(table[5], 6.0F);
  EXPECT_THAT(file.read<double>("/state/doubles"), ElementsAre(0.1, -1e300));
  EXPECT_THAT(file.read<uint64_t>("/state/counts"), ElementsAre(UINT64_MAX, 0, 7));
  EXPECT_THAT(file.read<int64_t>("/state/signed"), ElementsAre(-1, INT64_MIN));
  EXPECT_THAT(file.read<uint32_t>("/state/ids"), ElementsAre(UINT32_MAX));
  EXPECT_THAT(file.read<float>("/state/nothing"), IsEmpty());
  EXPECT_THAT(file.read<double>("/state/scalar"), ElementsAre(2.5));
  EXPECT_EQ(file.read_text("/provenance/text"), "grüße");
  EXPECT_EQ(file.read_attribute<int64_t>("/state", "step"), 500);
  EXPECT_EQ(file.read_attribute<std::string>("/", "learner"), "adam");
  EXPECT_EQ(file.read_attribute<std::string>("/", "none"), "");
  EXPECT_EQ(file.read_attribute<double>("/state/ids", "rate"), 0.25);
  EXPECT_THAT(file.names("/"), ElementsAre("empty", "provenance", "state"));
  EXPECT_THAT(file.names("/state/deep"), ElementsAre("er"));
  EXPECT_TRUE(file.has("/state/deep/er/table") && file.has("/empty/group") && file.has_attribute("/", "none"));
  EXPECT_FALSE(file.has("/state/deep/x/table") || file.has("/x") || file.has_attribute("/", "x"));
}

TEST(Hdf5File, EqualContentGivesEqualBytes) {
  const TemporaryFolder folder;
  write_everything(folder / "a.h5");
  std::this_thread::sleep_for(std::chrono::milliseconds(1100));  // a time stamp would differ
  write_everything(folder / "b.h5");
  EXPECT_EQ(read_whole(folder / "a.h5"), read_whole(folder / "b.h5"));
}

TEST(Hdf5File, BytesWrittenAtAReservedPlaceAreTheArray) {
  const TemporaryFolder folder;
  Hdf5File file = Hdf5File::create(folder / "a.h5");
  const Extent place = file.reserve("/big", ElementType::uint32, {1'000'003});
  file.write("/after", std::vector<uint32_t>{5});
  file.close();
  std::string content = read_whole(folder / "a.h5");
  ASSERT_GE(content.size(), place.offset + place.bytes);
  const uint32_t last = 77;
  std::memcpy(content.data() + place.offset + place.bytes - 4, &last, 4);
  testing::write_whole(folder / "a.h5", content);
  const auto values = Hdf5File::open(folder / "a.h5").read<uint32_t>("/big");
  EXPECT_EQ(values.size(), 1'000'003u);
  EXPECT_EQ(values.back(), 77u);
  EXPECT_THAT(Hdf5File::open(folder / "a.h5").read<uint32_t>("/after"), ElementsAre(5));
}

TEST(Hdf5File, WhatDoesNotFitIsNamed) {
  const TemporaryFolder folder;
  write_everything(folder / "a.h5");
  const Hdf5File file = Hdf5File::open(folder / "a.h5");
  std::vector<float> table(6);
  EXPECT_THAT(user_error([&] { file.read<int64_t>("/state/counts"); }), HasSubstr("has type uint64, it has to be int64"));
  EXPECT_THAT(user_error([&] {
                file.read("/state/deep/er/table", std::span<float>(table), {3, 2});
              }),
              HasSubstr("has shape [2, 3], it has to be [3, 2]"));
  EXPECT_THAT(user_error([&] { file.read<float>("/state/missing"); }), HasSubstr("has no array '/state/missing'"));
  EXPECT_THAT(user_error([&] { file.read_attribute<int64_t>("/state", "missing"); }), HasSubstr("has no attribute 'missing'"));
  EXPECT_THAT(user_error([&] { file.read_attribute<double>("/state", "step"); }), HasSubstr("one number of type float64"));
  EXPECT_THAT(user_error([&] { file.read_attribute<std::string>("/state", "step"); }), HasSubstr("one text of fixed length"));
  EXPECT_THAT(user_error([&] { file.names("/state/ids"); }), HasSubstr("has no group"));
  EXPECT_THAT(user_error([&] { Hdf5File::open(folder / "missing"); }), HasSubstr("missing"));
  testing::write_whole(folder / "text", std::string(1000, 'x'));
  EXPECT_THAT(user_error([&] { Hdf5File::open(folder / "text"); }), HasSubstr("cannot read the HDF5 structure of"));
}

TEST(Hdf5File, AFileThatCannotBeMadeIsAnErrorOfTheSurroundings) {
  EXPECT_THROW(Hdf5File::create("/nonexistent/a.h5"), SurroundingsError);
  EXPECT_THROW(Hdf5File::create("/proc/a.h5"), SurroundingsError);
}

TEST(Hdf5File, SeveralThreadsUseFilesOfTheirOwn) {
  const TemporaryFolder folder;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&folder, t] {
      for (int i = 0; i < 5; ++i) {
        const fs::path path = folder / std::to_string(t);
        write_everything(path);
        EXPECT_THAT(Hdf5File::open(path).read<uint32_t>("/state/ids"), ElementsAre(UINT32_MAX));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

class SealedCheckpoint : public ::testing::Test {
 protected:
  SealedCheckpoint() {
    write_everything(path_);
    seal_ = seal_file(path_, FileKind::checkpoint, {});
  }
  TemporaryFolder folder_;
  const fs::path path_ = folder_ / "a.h5";
  Seal seal_;
};

TEST_F(SealedCheckpoint, IsCheckedWhole) {
  const Seal found = check_seal(path_, FileKind::checkpoint);
  EXPECT_EQ(found.digest, seal_.digest);
  EXPECT_EQ(found.file_bytes, fs::file_size(path_));
  EXPECT_EQ(Hdf5File::open(path_).read_text("/provenance/text"), "grüße") << "HDF5 skips the seal";
  const HostileFile hostile(path_, [this] { check_seal(path_, FileKind::checkpoint); });
  EXPECT_THAT(hostile.flip_every_bit(0, kUserBlockBytes), IsEmpty());
  EXPECT_THAT(hostile.flip_bits(1000, 2), IsEmpty());
  EXPECT_THAT(hostile.truncate(100, 1), IsEmpty());
  EXPECT_THAT(hostile.header_fields(), IsEmpty());
  EXPECT_THAT(hostile.foreign(), IsEmpty());
}

TEST_F(SealedCheckpoint, LeavesOutExactlyItsExtents) {
  const Extent counts = Hdf5File::open(path_).array("/state/counts").place;
  const Extent table = Hdf5File::open(path_).array("/state/deep/er/table").place;
  seal_file(path_, FileKind::checkpoint, {counts, Extent{}, table});
  const std::string good = read_whole(path_);
  for (uint64_t at = kUserBlockBytes; at < good.size(); ++at) {
    const auto within = [at](const Extent& e) { return at >= e.offset && at < e.offset + e.bytes; };
    std::string content = good;
    content[at] = static_cast<char>(content[at] ^ 16);
    testing::write_whole(path_, content);
    const bool refused = user_error([&] { check_seal(path_); }) != "no error";
    ASSERT_EQ(refused, !(within(counts) || within(table))) << at;
  }
}

TEST_F(SealedCheckpoint, OfAnotherKindIsRefusedByName) {
  EXPECT_THAT(user_error([&] { check_seal(path_, FileKind::shard); }), HasSubstr("is a checkpoint, not a store shard"));
}

}  // namespace
}  // namespace gru4rec

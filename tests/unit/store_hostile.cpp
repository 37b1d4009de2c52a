// A damaged or made-up store is refused before its content is used.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <hdf5.h>
#include <sys/stat.h>

#include <chrono>
#include <optional>
#include <set>

#include "gru4rec/base/hdf5.h"
#include "support/hostile.h"
#include "support/store_example.h"
#include "support/temporary_folder.h"

namespace gru4rec {
namespace {

using testing::example_sessions;
using ::testing::HasSubstr;
using testing::HostileFile;
using ::testing::IsEmpty;
using testing::TemporaryFolder;
using testing::write_example;
namespace fs = std::filesystem;

constexpr uint64_t kCatalogue = 43;

class HostileStore : public ::testing::Test {
 protected:
  HostileStore() {
    info_ = write_example(store(), example_sessions(307, kCatalogue), 2, kCatalogue);
    manifest_ = store() / "manifest.h5";
    shard_ = store() / info_.shards[1].file;
  }
  fs::path store() const { return folder_ / "store"; }
  HostileFile hostile(const fs::path& file) const {
    return {file, [this] { Store(store()).verify(); }};
  }
  std::string refusal() const {
    try {
      const testing::MemoryLimit limit(uint64_t{256} << 20);
      Store(store()).verify();
    } catch (const UserError& error) {
      return error.what();
    }
    return "no refusal";
  }

  // Writes the shard or the manifest anew, without a seal, some of it changed: `change` writes what it changes and names it.
  using Change = std::function<std::set<std::string>(const Hdf5File& from, Hdf5File& to)>;
  static void rewrite(const fs::path& path, const Change& change) {
    const fs::path changed = path.string() + ".changed";
    {
      const Hdf5File from = Hdf5File::open(path);
      Hdf5File to = Hdf5File::create(changed);
      const std::set<std::string> done = change(from, to);
      for (const std::string& name : from.names("/")) {
        if (name != "shards" && name != "checksums" && !done.contains("/" + name)) copy_array(from, to, "/" + name);
      }
      if (from.has("/shards") && !done.contains("/shards")) {
        copy_array(from, to, "/shards/files");
        copy_array(from, to, "/shards/file_offsets");
      }
      if (from.has("/item_names")) {
        for (const char* name : {"dataset", "protocol"}) {
          to.write_attribute("/", name, from.read_attribute<std::string>("/", name));
        }
      }
      to.close();
    }
    fs::rename(changed, path);
  }
  static Extent copy_array(const Hdf5File& from, Hdf5File& to, const std::string& name) {
    switch (from.array(name).type) {
      case ElementType::uint8:
        return to.write(name, from.read<uint8_t>(name));
      case ElementType::uint32:
        return to.write(name, from.read<uint32_t>(name));
      case ElementType::int64:
        return to.write(name, from.read<int64_t>(name));
      default:
        return to.write(name, from.read<uint64_t>(name));
    }
  }

  // The refusal of a changed file with a seal that holds, so that only the rules of the content are left. seal_store may refuse
  // on its own account; that is as good, but the file must not look sealed then.
  std::string refusal_of_resealed(const fs::path& file, const Change& change) const {
    rewrite(file, change);
    try {
      seal_store(store());
    } catch (const UserError& error) {
      EXPECT_NE(refusal(), "no refusal");
      return error.what();
    }
    return refusal();
  }
  template <typename T>
  std::string refusal_with(const std::string& name, const std::function<void(std::vector<T>&)>& change) const {
    return refusal_of_resealed(shard_, [&](const Hdf5File& from, Hdf5File& to) {
      auto values = from.read<T>(name);
      change(values);
      to.write(name, values);
      return std::set{name};
    });
  }

  TemporaryFolder folder_;
  StoreInfo info_;
  fs::path manifest_, shard_;
};

TEST_F(HostileStore, OneBitFlippedAnywhereInTheManifestIsRefused) {
  EXPECT_THAT(hostile(manifest_).flip_bits(1000, 1), IsEmpty());
}
TEST_F(HostileStore, OneBitFlippedAnywhereInAShardIsRefused) { EXPECT_THAT(hostile(shard_).flip_bits(1000, 2), IsEmpty()); }
TEST_F(HostileStore, EveryBitOfTheUserBlockCounts) {
  EXPECT_THAT(hostile(shard_).flip_every_bit(0, kUserBlockBytes), IsEmpty());
}
TEST_F(HostileStore, AManifestCutAnywhereIsRefused) { EXPECT_THAT(hostile(manifest_).truncate(100, 3), IsEmpty()); }
TEST_F(HostileStore, AShardCutAnywhereIsRefused) { EXPECT_THAT(hostile(shard_).truncate(100, 4), IsEmpty()); }
TEST_F(HostileStore, EachFieldOfAManifestsSealIsChecked) { EXPECT_THAT(hostile(manifest_).header_fields(), IsEmpty()); }
TEST_F(HostileStore, EachFieldOfAShardsSealIsChecked) { EXPECT_THAT(hostile(shard_).header_fields(), IsEmpty()); }
TEST_F(HostileStore, ForeignFilesAreRefused) {
  EXPECT_THAT(hostile(manifest_).foreign(), IsEmpty());
  EXPECT_THAT(hostile(shard_).foreign(), IsEmpty());
}

TEST_F(HostileStore, AnArrayIsNotUsedBeforeItsBlockWasChecked) {
  // A time that is off by one breaks no other rule than its block's checksum.
  const Extent times = Hdf5File::open(shard_).array("/times").place;
  std::string content = testing::read_whole(shard_);
  content[times.offset + 8] ^= 1;
  testing::write_whole(shard_, content);
  const Store opened(store());  // the seal does not cover arrays
  std::vector<int64_t> out(1);
  EXPECT_NO_THROW(opened.read_times(0, out)) << "the other shard";
  EXPECT_THROW(opened.read_times(opened.info().events - 1, out), UserError) << "another event of the same block";
  std::vector<uint32_t> items(opened.info().events);
  EXPECT_NO_THROW(opened.read_items(0, items));
}

// A store that is open, all of whose blocks were verified once, and of which the last shard is then tampered with.
class StoreInUse : public HostileStore {
 protected:
  StoreInUse() {
    // So that a change is later than what is seen at the opening, however coarse the clock of the file system.
    fs::last_write_time(shard_, fs::file_time_type::clock::now() - std::chrono::hours(1));
    opened_.emplace(store());
    before_ = items();
  }
  std::vector<uint32_t> items() const {
    std::vector<uint32_t> items(opened_->info().events);
    opened_->read_items(0, items);
    return items;
  }
  std::string refused_items() const {
    try {
      items();
    } catch (const UserError& error) {
      return error.what();
    }
    return "no refusal";
  }
  std::optional<Store> opened_;
  std::vector<uint32_t> before_;
};

TEST_F(StoreInUse, AChangedBlockIsRefusedAlthoughItWasVerifiedBefore) {
  const Extent place = Hdf5File::open(shard_).array("/items").place;
  std::string content = testing::read_whole(shard_);
  content[place.offset + 40] ^= 1;  // item 10, which stays below the catalogue's end or not
  testing::write_whole(shard_, content);
  EXPECT_THAT(refused_items(), HasSubstr(shard_.string() + " was changed while it was in use: items[0:"));
  content[place.offset + 40] ^= 1;
  testing::write_whole(shard_, content);
  EXPECT_EQ(items(), before_) << "what is sound again is read again";
  content[place.offset + 44] ^= 1;
  testing::write_whole(shard_, content);
  EXPECT_THAT(refused_items(), HasSubstr("was changed while it was in use")) << "a second change";
}
TEST_F(StoreInUse, AShardThatIsCutOffIsRefused) {
  const Extent place = Hdf5File::open(shard_).array("/items").place;
  fs::resize_file(shard_, place.offset + 40);
  EXPECT_THAT(refused_items(), HasSubstr(fmt::format("{} ends at byte {}, ", shard_.string(), place.offset + 40)));
  EXPECT_THROW(opened_->shapes(opened_->info().sessions - 1, 1), UserError);
}
TEST_F(StoreInUse, OneThatIsTouchedOrRemovedStaysReadable) {
  fs::last_write_time(shard_, fs::file_time_type::clock::now());
  EXPECT_EQ(items(), before_);
  fs::remove(shard_);
  EXPECT_EQ(items(), before_);
}

TEST_F(HostileStore, AnUnsealedFileNamesTheCommandThatSealsIt) {
  rewrite(shard_, [](const Hdf5File&, Hdf5File&) { return std::set<std::string>(); });
  EXPECT_THAT(refusal(), HasSubstr("gru4rec inspect --seal " + shard_.string()));
  seal_store(store());
  EXPECT_EQ(refusal(), "no refusal");
}

TEST_F(HostileStore, SealingASoundStoreChangesNothingThatMatters) {
  seal_store(store());
  const Store again(store());
  again.verify();
  EXPECT_EQ(again.info().data_digest, info_.data_digest);
  EXPECT_EQ(again.info().train_targets, info_.train_targets);
}

TEST_F(HostileStore, AMissingManifestIsNoStore) {
  fs::remove(manifest_);
  EXPECT_THAT(refusal(), HasSubstr("there is no file " + manifest_.string()));
}
TEST_F(HostileStore, AMissingShardIsNamed) {
  fs::remove(shard_);
  EXPECT_THAT(refusal(), HasSubstr(info_.shards[1].file));
}
TEST_F(HostileStore, AShardOfAnotherStoreIsRefused) {
  const StoreInfo other = write_example(folder_ / "other", example_sessions(211, kCatalogue), 1, kCatalogue);
  fs::copy_file(folder_ / "other" / other.shards[0].file, shard_, fs::copy_options::overwrite_existing);
  EXPECT_THAT(refusal(), HasSubstr("is not the shard its manifest names"));
}
TEST_F(HostileStore, AManifestInPlaceOfAShardIsRefused) {
  fs::copy_file(manifest_, shard_, fs::copy_options::overwrite_existing);
  EXPECT_THAT(refusal(), HasSubstr("is a store manifest, not a store shard"));
}
TEST_F(HostileStore, AFifoOrFolderInPlaceOfAFileDoesNotHang) {
  fs::remove(manifest_);
  fs::create_directory(manifest_);
  EXPECT_THAT(refusal(), HasSubstr("is not a file"));
  fs::remove(manifest_);
  ASSERT_EQ(::mkfifo(manifest_.c_str(), 0600), 0);
  EXPECT_THAT(refusal(), HasSubstr("is not a file"));
}

// From here on the seals hold: somebody wrote and sealed a file that breaks a rule.
TEST_F(HostileStore, SealedOffsetsThatDoNotRiseAreRefused) {
  EXPECT_THAT(refusal_with<uint64_t>("/offsets", [](auto& v) { std::swap(v[5], v[6]); }), HasSubstr("offsets have to rise"));
}
TEST_F(HostileStore, SealedOffsetsThatDoNotEndAtTheItemsAreRefused) {
  EXPECT_THAT(refusal_with<uint64_t>("/offsets", [](auto& v) { v.back() += 1; }), HasSubstr("has to go from 0 to"));
}
TEST_F(HostileStore, SealedOffsetsThatDoNotStartAtZeroAreRefused) {
  EXPECT_THAT(refusal_with<uint64_t>("/offsets", [](auto& v) { v.front() = 1; }), HasSubstr("has to go from 0 to"));
}
TEST_F(HostileStore, SealedOffsetsFarBeyondTheItemsAreRefused) {
  EXPECT_THAT(refusal_with<uint64_t>("/offsets", [](auto& v) { v[9] = UINT64_MAX - 3; }), HasSubstr("offsets have to rise"));
}
TEST_F(HostileStore, SealedItemsBeyondTheCatalogueAreRefused) {
  EXPECT_THAT(refusal_with<uint32_t>("/items", [](auto& v) { v[77] = kCatalogue + 1; }), HasSubstr("items[77]"));
}
TEST_F(HostileStore, SealedSplitsOutsideTheSessionAreRefused) {
  EXPECT_THAT(refusal_with<uint32_t>("/valid_end", [](auto& v) { v[7] = 1000; }), HasSubstr("splits at"));
}
TEST_F(HostileStore, SealedSplitsInTheWrongOrderAreRefused) {
  EXPECT_THAT(refusal_with<uint32_t>("/train_end", [](auto& v) { v[7] = 1000; }), HasSubstr("splits at"));
}
TEST_F(HostileStore, SealedSplitsAtZeroAreRefused) {
  EXPECT_THAT(refusal_with<uint32_t>("/train_end", [](auto& v) { v[7] = 0; }), HasSubstr("splits at"));
}
TEST_F(HostileStore, SealedSessionIdOffsetsThatFallAreRefused) {
  EXPECT_THAT(refusal_with<uint64_t>("/session_id_offsets", [](auto& v) { v[9] = v[7] - 1; }), HasSubstr("the id of session"));
}
TEST_F(HostileStore, SealedArraysOfUnequalLengthAreRefused) {
  for (const char* name : {"/items", "/offsets", "/train_end", "/valid_end", "/session_ids", "/session_id_offsets"}) {
    const std::string before = testing::read_whole(shard_);
    const std::string message = refusal_of_resealed(shard_, [&](const Hdf5File& from, Hdf5File& to) {
      const ElementType type = from.array(name).type;
      if (type == ElementType::uint64) to.write(name, std::vector<uint64_t>{0, 1, 2});
      if (type == ElementType::uint32) to.write(name, std::vector<uint32_t>{1, 1});
      if (type == ElementType::uint8) to.write_text(name, "abc");
      return std::set<std::string>{name};
    });
    EXPECT_THAT(message, ::testing::AnyOf(HasSubstr("elements, it has to have"), HasSubstr("has to go from"))) << name;
    testing::write_whole(shard_, before);
  }
}
TEST_F(HostileStore, SealedArraysOfAnotherTypeAreRefused) {
  const auto widen = [](const Hdf5File& from, Hdf5File& to) {
    const auto items = from.read<uint32_t>("/items");
    to.write("/items", std::vector<int64_t>(items.begin(), items.end()));
    return std::set<std::string>{"/items"};
  };
  EXPECT_THAT(refusal_of_resealed(shard_, widen), HasSubstr("it has to be a uint32"));
}
TEST_F(HostileStore, SealedArraysOfTwoDimensionsAreRefused) {
  const auto fold = [](const Hdf5File& from, Hdf5File& to) {
    const auto items = from.read<uint32_t>("/items");
    to.write("/items", std::span<const uint32_t>(items), {1, items.size()});
    return std::set<std::string>{"/items"};
  };
  EXPECT_THAT(refusal_of_resealed(shard_, fold), HasSubstr("of 2 dimensions"));
}
TEST_F(HostileStore, SealedArraysThatAreMissingAreRefused) {
  for (const std::string name : {"/times", "/offsets", "/train_end", "/valid_end", "/session_ids", "/session_id_offsets"}) {
    const std::string before = testing::read_whole(shard_);
    EXPECT_THAT(refusal_of_resealed(shard_, [&](const Hdf5File&, Hdf5File&) { return std::set{name}; }), HasSubstr(name));
    testing::write_whole(shard_, before);
  }
}
TEST_F(HostileStore, SealedManifestsThatLeadOutOfTheFolderAreRefused) {
  for (const std::string name : {"../secret.h5", "/etc/passwd", "", ".hidden", "a/b.h5"}) {
    const auto lead_out = [&](const Hdf5File&, Hdf5File& to) {
      to.write_text("/shards/files", name);
      to.write("/shards/file_offsets", std::vector<uint64_t>{0, name.size()});
      return std::set<std::string>{"/shards"};
    };
    EXPECT_THAT(refusal_of_resealed(manifest_, lead_out), HasSubstr("without a folder"));
  }
}
TEST_F(HostileStore, SealedManifestsWithAnotherNumberOfItemNamesAreRefused) {
  const auto merge = [](const Hdf5File& from, Hdf5File& to) {
    to.write("/item_name_offsets", std::vector<uint64_t>{0, from.array("/item_names").elements()});
    return std::set<std::string>{"/item_name_offsets"};
  };
  EXPECT_THAT(refusal_of_resealed(manifest_, merge), HasSubstr("the catalogue of its manifest ends at 1"));
}

// Makes an array that claims 2^40 elements without storing one, as any HDF5 library can, and seals the file as it is.
void claim_huge_array(const fs::path& path, const std::string& name, FileKind kind, const std::vector<Extent>& extents) {
  const hid_t file = H5Fopen(path.c_str(), H5F_ACC_RDWR, H5P_DEFAULT);
  H5Ldelete(file, name.c_str(), H5P_DEFAULT);
  const hsize_t dims = hsize_t{1} << 40;
  const hid_t space = H5Screate_simple(1, &dims, nullptr);
  const hid_t type = name == "/items" ? H5T_STD_U32LE : H5T_STD_U64LE;
  H5Dclose(H5Dcreate2(file, name.c_str(), type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
  H5Sclose(space);
  ASSERT_GE(H5Fclose(file), 0);
  seal_file(path, kind, extents);
}

TEST_F(HostileStore, ArraysThatClaimMoreThanTheFileHasAreRefusedBeforeMemoryIsAllocated) {
  const Seal seal = check_seal(shard_, FileKind::shard);
  claim_huge_array(shard_, "/items", FileKind::shard, seal.extents);
  EXPECT_THAT(refusal(), HasSubstr("claims shape [1099511627776], more than the"));
  claim_huge_array(manifest_, "/item_name_offsets", FileKind::manifest, {});
  EXPECT_THAT(refusal(), HasSubstr("claims shape [1099511627776], more than the"));
}

TEST_F(HostileStore, ASealThatLeavesOutMoreThanTheArraysIsRefused) {
  // Bytes outside the arrays that no checksum covers could change unseen.
  Seal seal = check_seal(shard_, FileKind::shard);
  seal.extents.back().bytes -= 1;
  seal_file(shard_, FileKind::shard, seal.extents);
  EXPECT_THAT(refusal(), HasSubstr("the arrays its seal lists are not those it has"));
}

TEST_F(HostileStore, SealRefusesFilesThatAreNoPartOfAStore) {
  const fs::path other = folder_ / "other.h5";
  Hdf5File file = Hdf5File::create(other);
  file.write("/values", std::vector<float>{1.0F, 2.0F});
  file.close();
  seal_file(other, FileKind::checkpoint, {});
  EXPECT_THROW(seal_store(other), UserError);
  EXPECT_NO_THROW(check_seal(other, FileKind::checkpoint)) << "a file that is refused keeps its seal";
  testing::write_whole(other, "no HDF5 at all");
  EXPECT_THROW(seal_store(other), UserError);
}

}  // namespace
}  // namespace gru4rec

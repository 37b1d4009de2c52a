// A damaged or made-up checkpoint is refused before its content is used; what its digest says is said of all of the state.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <hdf5.h>

#include <cmath>
#include <set>

#include "gru4rec/base/hdf5.h"
#include "support/checkpoint_example.h"
#include "support/hostile.h"
#include "support/temporary_folder.h"

namespace gru4rec {
namespace {

using testing::CheckpointExample;
using testing::HostileFile;
using ::testing::IsEmpty;
using testing::TemporaryFolder;
namespace fs = std::filesystem;

class HostileCheckpoint : public ::testing::Test {
 protected:
  HostileCheckpoint() { digest_ = example_.save(file_); }

  // Reads into a model of its own and holds it to the promise that nothing of a refused file is used.
  void load() const {
    CheckpointExample target(2);
    const auto bytes = [](std::span<const float> floats) { return hash_bytes(floats.data(), floats.size_bytes()); };
    const auto all = [&] {
      return std::vector{bytes(target.model.parameters()), bytes(target.average.parameters()),
                         bytes(target.adam.first_moment()), bytes(target.adam.second_moment())};
    };
    const auto before = all();
    try {
      load_checkpoint(file_, target.model, target.adam, &target.average);
    } catch (...) {
      if (all() != before) throw std::logic_error("refused, but some of it had been used");
      throw;
    }
  }
  HostileFile hostile() const {
    return {file_, [this] { load(); }};
  }

  TemporaryFolder folder_;
  const fs::path file_ = folder_ / "step-00000501.h5";
  CheckpointExample example_;
  uint64_t digest_ = 0;
};

TEST_F(HostileCheckpoint, OneBitFlippedAnywhereIsRefused) { EXPECT_THAT(hostile().flip_bits(1000, 5), IsEmpty()); }
TEST_F(HostileCheckpoint, EveryBitOfTheUserBlockCounts) {
  EXPECT_THAT(hostile().flip_every_bit(0, kUserBlockBytes), IsEmpty());
}
TEST_F(HostileCheckpoint, CutAnywhereIsRefused) { EXPECT_THAT(hostile().truncate(100, 6), IsEmpty()); }
TEST_F(HostileCheckpoint, EachFieldOfTheSealIsChecked) { EXPECT_THAT(hostile().header_fields(), IsEmpty()); }
TEST_F(HostileCheckpoint, ForeignFilesAreRefused) { EXPECT_THAT(hostile().foreign(), IsEmpty()); }

// From here on the seals hold: somebody changed a file and sealed it.

struct Attribute {
  std::string object, name;
};

// All attributes and arrays of a file, by the library's own walk.
struct Content {
  explicit Content(const fs::path& path) {
    const hid_t file = H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT);
    H5Ovisit_by_name1(file, "/", H5_INDEX_NAME, H5_ITER_INC, visit, this, H5P_DEFAULT);
    H5Fclose(file);
  }
  static herr_t visit(hid_t root, const char* name, const H5O_info_t* info, void* out) {
    auto& content = *static_cast<Content*>(out);
    const std::string path = name == std::string(".") ? "/" : "/" + std::string(name);
    if (info->type == H5O_TYPE_DATASET) content.arrays.push_back(path);
    const hid_t object = H5Oopen(root, name, H5P_DEFAULT);
    content.object = path;
    const auto collect = [](hid_t, const char* attribute, const H5A_info_t*, void* to) -> herr_t {
      auto& found = *static_cast<Content*>(to);
      found.attributes.push_back({found.object, attribute});
      return 0;
    };
    H5Aiterate2(object, H5_INDEX_NAME, H5_ITER_INC, nullptr, collect, &content);
    H5Oclose(object);
    return 0;
  }
  std::vector<std::string> arrays;
  std::vector<Attribute> attributes;
  std::string object;  // at hand
};

class ResealedCheckpoint : public HostileCheckpoint {
 protected:
  // Lets `change` have the file open, and seals it again.
  void reseal(const std::function<void(hid_t file)>& change) const {
    const hid_t file = H5Fopen(file_.c_str(), H5F_ACC_RDWR, H5P_DEFAULT);
    change(file);
    ASSERT_GE(H5Fclose(file), 0);
    seal_file(file_, FileKind::checkpoint, {});
  }
  // The refusal of the file after `change` had it open and it was sealed again. Empty if it was loaded.
  void expect_refused(const std::string& what, const std::function<void(hid_t file)>& change) const {
    const std::string good = testing::read_whole(file_);
    SCOPED_TRACE(what);
    ASSERT_NO_FATAL_FAILURE(reseal(change));
    HostileFile::Faults faults;
    const std::string changed = testing::read_whole(file_);
    ASSERT_NE(changed, good) << what << " changed nothing";
    testing::write_whole(file_, good);
    hostile().trial(what, changed, faults);
    EXPECT_THAT(faults, IsEmpty());
  }

  static void replace_attribute(hid_t file, const Attribute& at, hid_t type, hid_t space, const void* value) {
    H5Adelete_by_name(file, at.object.c_str(), at.name.c_str(), H5P_DEFAULT);
    const hid_t made =
        H5Acreate_by_name(file, at.object.c_str(), at.name.c_str(), type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    EXPECT_GE(H5Awrite(made, type, value), 0);
    H5Aclose(made);
  }
  // The same type and size, other bytes.
  static void change_attribute(hid_t file, const Attribute& at, const std::function<void(std::string& bytes)>& change) {
    const hid_t attribute = H5Aopen_by_name(file, at.object.c_str(), at.name.c_str(), H5P_DEFAULT, H5P_DEFAULT);
    const hid_t type = H5Aget_type(attribute);
    std::string bytes(H5Tget_size(type), '\0');
    EXPECT_GE(H5Aread(attribute, type, bytes.data()), 0);
    change(bytes);
    H5Aclose(attribute);
    const hid_t scalar = H5Screate(H5S_SCALAR);
    replace_attribute(file, at, type, scalar, bytes.data());
    H5Sclose(scalar);
    H5Tclose(type);
  }
  static void replace_array(hid_t file, const std::string& name, hid_t type, const std::vector<hsize_t>& dims) {
    H5Ldelete(file, name.c_str(), H5P_DEFAULT);
    const hid_t space = H5Screate_simple(static_cast<int>(dims.size()), dims.data(), nullptr);
    H5Dclose(H5Dcreate2(file, name.c_str(), type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    H5Sclose(space);
  }

  const Content content_{file_};
};

TEST_F(ResealedCheckpoint, WithAnAttributeMissingIsRefused) {
  EXPECT_GE(content_.attributes.size(), 18u + 2u + 2u + 6u);
  for (const Attribute& at : content_.attributes) {
    if (at.name == "start_digest") continue;  // earlier versions did not write it
    expect_refused("without " + at.name,
                   [&](hid_t file) { H5Adelete_by_name(file, at.object.c_str(), at.name.c_str(), H5P_DEFAULT); });
  }
}

TEST_F(ResealedCheckpoint, OfAnEarlierVersionHasNoStartDigestAndTheSameDigest) {
  reseal([](hid_t file) { H5Adelete_by_name(file, "/provenance", "start_digest", H5P_DEFAULT); });
  const CheckpointInfo info = read_checkpoint_info(file_);
  EXPECT_EQ(info.start_digest, 0u);
  EXPECT_EQ(info.digest, digest_);
}

TEST_F(ResealedCheckpoint, OfAnEarlierVersionHasNoItemIdsAndTheSameDigest) {
  EXPECT_EQ(read_checkpoint_info(file_).catalogue->item_names, example_.info.catalogue->item_names);
  EXPECT_EQ(read_checkpoint_info(file_).catalogue->max_inputs, 9);
  reseal([](hid_t file) { H5Ldelete(file, "/catalogue", H5P_DEFAULT); });
  const CheckpointInfo info = read_checkpoint_info(file_);
  EXPECT_EQ(info.catalogue, nullptr);
  EXPECT_EQ(info.digest, digest_);
}

TEST_F(ResealedCheckpoint, WithAnAttributeOfAnotherTypeIsRefused) {
  const std::vector<double> values(3, 1.0);
  const hid_t scalar = H5Screate(H5S_SCALAR);
  const hsize_t three = 3;
  const hid_t vector = H5Screate_simple(1, &three, nullptr);
  for (const Attribute& at : content_.attributes) {
    expect_refused(at.name + " as int16",
                   [&](hid_t file) { replace_attribute(file, at, H5T_STD_I16LE, scalar, values.data()); });
    expect_refused(at.name + " as three numbers",
                   [&](hid_t file) { replace_attribute(file, at, H5T_IEEE_F64LE, vector, values.data()); });
  }
  H5Sclose(scalar);
  H5Sclose(vector);
}

TEST_F(ResealedCheckpoint, WithAnotherNumberInItsStateIsRefusedByTheDigestOrItsRules) {
  for (const Attribute& at : content_.attributes) {
    if (at.object == "/provenance") continue;  // nothing depends on it
    for (const char byte : {'\x01', '\xff', '\x80', '\x7f'}) {
      expect_refused(at.name + " with a lowest byte changed", [&](hid_t file) {
        change_attribute(file, at, [&](std::string& bytes) { bytes[0] = static_cast<char>(bytes[0] ^ byte); });
      });
      expect_refused(at.name + " with a highest byte changed", [&](hid_t file) {
        change_attribute(file, at, [&](std::string& bytes) { bytes.back() = static_cast<char>(bytes.back() ^ byte); });
      });
    }
    for (size_t middle : {2u, 3u, 4u, 5u})
      expect_refused(at.name + " with byte " + std::to_string(middle) + " changed", [&](hid_t file) {
        change_attribute(file, at, [&](std::string& bytes) {
          const size_t place = std::min(middle, bytes.size() - 1);
          bytes[place] = static_cast<char>(bytes[place] ^ 0x11);
        });
      });
  }
}

TEST_F(ResealedCheckpoint, WithAnArrayMissingOrInAnotherShapeIsRefused) {
  EXPECT_EQ(content_.arrays.size(), 5u + 4 * example_.model.layout().parameters().size());
  for (const std::string& name : content_.arrays) {
    expect_refused("without " + name, [&](hid_t file) { H5Ldelete(file, name.c_str(), H5P_DEFAULT); });
    expect_refused(name + " as a group", [&](hid_t file) {
      H5Ldelete(file, name.c_str(), H5P_DEFAULT);
      H5Gclose(H5Gcreate2(file, name.c_str(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    });
    expect_refused(name + " as int16", [&](hid_t file) { replace_array(file, name, H5T_STD_I16LE, {5}); });
    const bool tensor = name.starts_with("/state/") && name != "/state/options" && name != "/state/best_histogram";
    if (!tensor) continue;
    for (const std::vector<hsize_t>& dims : std::vector<std::vector<hsize_t>>{{1}, {5, 7, 1}, {0, 5}, {21, 8}})
      expect_refused(name + " in another shape", [&](hid_t file) { replace_array(file, name, H5T_IEEE_F32LE, dims); });
  }
}

TEST_F(ResealedCheckpoint, WithoutItsAverageIsRefused) {
  expect_refused("without the average", [](hid_t file) { H5Ldelete(file, "/state/average", H5P_DEFAULT); });
}

TEST_F(ResealedCheckpoint, WithAnArrayThatClaimsTerabytesIsRefusedWithoutTakingMemory) {
  for (const std::string& name : content_.arrays) {
    const bool text = name.find("options") != std::string::npos;
    const hid_t type = text ? H5T_STD_U8LE : name == "/state/best_histogram" ? H5T_STD_I64LE : H5T_IEEE_F32LE;
    for (const std::vector<hsize_t>& dims : std::vector<std::vector<hsize_t>>{{hsize_t{1} << 40}, {hsize_t{1} << 33, 1 << 29}})
      expect_refused(name + " of terabytes", [&](hid_t file) { replace_array(file, name, type, dims); });
  }
}

TEST_F(ResealedCheckpoint, WithOneElementChangedIsRefused) {
  for (const std::string& name : content_.arrays) {
    if (name.starts_with("/provenance")) continue;
    expect_refused("an element of " + name, [&](hid_t file) {
      const hid_t set = H5Dopen2(file, name.c_str(), H5P_DEFAULT), type = H5Dget_type(set);
      std::string bytes(H5Dget_storage_size(set), '\0');
      H5Dread(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, bytes.data());
      bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
      H5Dwrite(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, bytes.data());
      H5Tclose(type);
      H5Dclose(set);
    });
  }
}

TEST_F(ResealedCheckpoint, WithAModelThatNoMemoryHoldsIsRefused) {
  for (const char* name : {"catalogue", "embedding_size", "hidden_size", "num_layers"})
    for (const int64_t value :
         {int64_t{0}, int64_t{-1}, INT64_MIN, INT64_MAX, int64_t{1} << 40, int64_t{1} << 30, int64_t{1000}})
      expect_refused(std::string(name) + " = " + std::to_string(value), [&](hid_t file) {
        change_attribute(file, {"/state", name}, [&](std::string& bytes) { std::memcpy(bytes.data(), &value, 8); });
      });
}

// Laws of the digest.

TEST_F(HostileCheckpoint, EqualStatesGiveEqualDigestsAndWithEqualProvenanceEqualBytes) {
  const CheckpointExample same;
  EXPECT_EQ(same.save(folder_ / "same.h5"), digest_);
  EXPECT_EQ(testing::read_whole(folder_ / "same.h5"), testing::read_whole(file_));
  CheckpointExample elsewhere;
  elsewhere.info.world_size = 4;
  elsewhere.info.store = "/another/folder";
  elsewhere.info.options = "verbose: true\n";
  elsewhere.info.train_seconds = 99;
  elsewhere.info.start_digest = 5;
  EXPECT_EQ(elsewhere.save(folder_ / "elsewhere.h5"), digest_);
  EXPECT_NE(testing::read_whole(folder_ / "elsewhere.h5"), testing::read_whole(file_));
}

TEST_F(HostileCheckpoint, WhatWasSavedIsRead) {
  CheckpointExample target(2);
  const CheckpointInfo info = load_checkpoint(file_, target.model, target.adam, &target.average);
  EXPECT_EQ(info.digest, digest_);
  EXPECT_EQ(info.state.best, example_.info.state.best);
  EXPECT_EQ(info.options, example_.info.options);
  EXPECT_EQ(info.start_digest, example_.info.start_digest);
  target.info = info;
  EXPECT_EQ(target.save(folder_ / "again.h5"), digest_);
  EXPECT_EQ(testing::read_whole(folder_ / "again.h5"), testing::read_whole(file_))
      << "the same file, written from what was read";
}

std::vector<float> copy_of(std::span<const float> values) { return {values.begin(), values.end()}; }

TEST_F(HostileCheckpoint, ItsAverageIsWhatIsEvaluatedAndWithoutOneItsWeightsAre) {
  Gru4Rec model(example_.info.shape);
  load_weights(file_, model);
  EXPECT_EQ(copy_of(model.parameters()), copy_of(example_.average.parameters()));
  const fs::path plain = folder_ / "plain.h5";
  EXPECT_NE(save_checkpoint(plain, example_.info, state_of(example_.model, example_.adam)), digest_);
  load_weights(plain, model);
  EXPECT_EQ(copy_of(model.parameters()), copy_of(example_.model.parameters()));
  CheckpointExample target(2);
  EXPECT_THROW(load_checkpoint(plain, target.model, target.adam, &target.average), BugError);
  EXPECT_THROW(load_checkpoint(file_, target.model, target.adam), BugError);
}

TEST_F(HostileCheckpoint, WithoutAverageAndBeforeAnyPlateauTheFileHoldsNeither) {
  CheckpointInfo info = example_.info;
  info.state.plateau_rate = 1;
  save_checkpoint(file_, info, state_of(example_.model, example_.adam));
  const Content content(file_);
  for (const Attribute& at : content.attributes) {
    EXPECT_NE(at.name, "plateau_rate");
    EXPECT_NE(at.name, "dense_layer");
  }
  for (const std::string& name : content.arrays) EXPECT_FALSE(name.starts_with("/state/average")) << name;
  CheckpointExample target(2);
  EXPECT_EQ(load_checkpoint(file_, target.model, target.adam).state.plateau_rate, 1.0);
}

TEST_F(HostileCheckpoint, WithoutADenseLayerTheFileSaysSoAndGivesTheModelBack) {
  const ModelShape shape{.catalogue = 43, .embedding_size = 5, .hidden_size = 5, .dense_layer = false};
  Gru4Rec model(shape), other(shape);
  model.initialise(1);
  other.initialise(2);
  Optimizer adam(model.layout(), {}), other_adam(other.layout(), {});
  CheckpointInfo info = example_.info;
  info.shape = shape;
  save_checkpoint(file_, info, state_of(model, adam));
  EXPECT_EQ(Hdf5File::open(file_).read_attribute<int64_t>("/state", "dense_layer"), 0);
  EXPECT_FALSE(load_checkpoint(file_, other, other_adam).shape.dense_layer);
  EXPECT_EQ(copy_of(other.parameters()), copy_of(model.parameters()));
}

TEST_F(HostileCheckpoint, TheBestOfARunIsToldByItsNewestUndamagedCheckpoint) {
  const fs::path run = folder_ / "run", checkpoints = run / "checkpoints";
  for (const char* name : {"step-00000480.h5", "step-00000500.h5"}) example_.save(checkpoints / name);
  testing::write_whole(checkpoints / "step-00000520.h5", "damaged");
  EXPECT_EQ(best_checkpoint_at(run), checkpoints / "step-00000480.h5");
}

TEST_F(HostileCheckpoint, EachCounterAndOptionCountsInTheDigest) {
  const std::vector<std::function<void(CheckpointInfo&)>> changes = {
      [](auto& i) { i.state.epoch ^= 1; },
      [](auto& i) { i.state.batch ^= 1; },
      [](auto& i) { i.state.step ^= 1; },
      [](auto& i) { i.state.epoch_loss = std::nextafter(i.state.epoch_loss, 1e9); },
      [](auto& i) { i.state.epoch_targets ^= 1; },
      [](auto& i) { i.state.best.value = std::nextafter(i.state.best.value, 1); },
      [](auto& i) { i.state.best.stalled ^= 1; },
      [](auto& i) { i.state.best.epoch ^= 1; },
      [](auto& i) { i.state.best.step ^= 1; },
      [](auto& i) { i.state.best_histogram.targets ^= 1; },
      [](auto& i) { i.state.best_histogram.at[19] ^= 1; },
      [](auto& i) { i.state.plateau_rate = std::nextafter(i.state.plateau_rate, 1); },
      [](auto& i) { i.state.plateau_rate = 1; },
      [](auto& i) { i.replicas ^= 1; },
      [](auto& i) { i.data_digest ^= 1; },
      [](auto& i) { i.teacher_digest ^= 1; },
      [](auto& i) { i.number_options += ' '; },
      [](auto& i) { i.shape.dropout_prob = std::nextafter(i.shape.dropout_prob, 1); },
      [](auto& i) { i.shape.hidden_dropout_prob = std::nextafter(i.shape.hidden_dropout_prob, 1); },
      [](auto& i) { i.shape.output_dropout_prob = std::nextafter(i.shape.output_dropout_prob, 1); },
      [](auto& i) { i.shape.dense_layer = !i.shape.dense_layer; },
      [](auto& i) { i.shape.cosine = !i.shape.cosine; },
      [](auto& i) { i.shape.score_scale += 1; },
      [](auto& i) { i.shape.learn_score_scale = !i.shape.learn_score_scale; },
      [](auto& i) { i.shape.score_padding = !i.shape.score_padding; },
  };
  std::set<uint64_t> digests = {digest_};
  for (const auto& change : changes) {
    CheckpointExample changed;
    change(changed.info);
    digests.insert(changed.save(folder_ / "changed.h5"));
  }
  EXPECT_EQ(digests.size(), changes.size() + 1);
}

TEST_F(HostileCheckpoint, EachBitOfAParameterMomentOrAverageCountsInTheDigest) {
  std::set<uint64_t> digests = {digest_};
  uint64_t flipped = 0;
  for (const ParameterInfo& info : example_.model.layout().parameters()) {
    for (int which = 0; which < 4; ++which) {
      const auto buffer = which == 0   ? example_.model.parameters()
                          : which == 1 ? example_.adam.first_moment()
                          : which == 2 ? example_.adam.second_moment()
                                       : example_.average.parameters();
      const Stream random(9, Purpose::window_order, flipped);
      const uint64_t element = static_cast<uint64_t>(info.offset) + random.below(0, static_cast<uint64_t>(info.size()));
      auto* bits = reinterpret_cast<unsigned char*>(&buffer[element]);
      const uint64_t bit = random.below(1, 32);
      const auto mask = static_cast<unsigned char>(1u << bit % 8);
      bits[bit / 8] ^= mask;
      digests.insert(example_.save(folder_ / "changed.h5"));
      bits[bit / 8] ^= mask;
      ++flipped;
    }
  }
  EXPECT_EQ(digests.size(), flipped + 1);
}

}  // namespace
}  // namespace gru4rec

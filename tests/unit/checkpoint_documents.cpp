// What docs/formats.md says of a checkpoint is so: its tables name all there is, lead to the digest, and its example runs.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "gru4rec/base/hash.h"
#include "gru4rec/base/hdf5.h"
#include "support/checkpoint_example.h"
#include "support/folders.h"
#include "support/hostile.h"
#include "support/temporary_folder.h"

namespace gru4rec {
namespace {

using testing::CheckpointExample;
using ::testing::HasSubstr;
using testing::TemporaryFolder;
namespace fs = std::filesystem;

std::string page() { return testing::read_whole(testing::source_folder() / "docs/formats.md"); }

// Bytes as the page lists them.
class Bytes {
 public:
  template <typename T>
  void number(T value) {
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  void text(const std::string& value) {
    number(uint64_t{value.size()});
    bytes_ += value;
  }
  template <typename T>
  void array(const std::vector<T>& values) {
    bytes_.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
  }
  uint64_t digest() const { return hash_bytes(bytes_.data(), bytes_.size()); }

 private:
  std::string bytes_;
};

TEST(CheckpointDocuments, TheDigestIsThatOfThePage) {
  const TemporaryFolder folder;
  const CheckpointExample example;
  const uint64_t digest = example.save(folder / "step-00000501.h5");
  const Hdf5File file = Hdf5File::open(folder / "step-00000501.h5");
  Bytes bytes;
  bytes.number(uint32_t{2});
  const auto add = [&]<typename T>(T, std::initializer_list<const char*> names) {
    for (const char* name : names) {
      bytes.text(name);
      bytes.number(file.read_attribute<T>("/state", name));
    }
  };
  add(uint64_t{}, {"epoch", "batch"});
  add(int64_t{}, {"step"});
  add(double{}, {"epoch_loss"});
  add(int64_t{}, {"epoch_targets"});
  add(double{}, {"best_value"});
  add(int64_t{}, {"best_stalled"});
  add(uint64_t{}, {"best_epoch"});
  add(int64_t{}, {"best_step", "best_targets", "replicas"});
  add(uint64_t{}, {"data_digest", "teacher_digest"});
  add(int64_t{}, {"catalogue", "embedding_size", "hidden_size", "num_layers"});
  add(double{}, {"dropout_prob", "hidden_dropout_prob", "output_dropout_prob"});
  bytes.text("score_padding");
  bytes.number(static_cast<uint8_t>(file.read_attribute<int64_t>("/state", "score_padding")));
  bytes.text("cosine");
  bytes.number(static_cast<uint8_t>(file.read_attribute<int64_t>("/state", "cosine")));
  add(double{}, {"score_scale"});
  bytes.text("learn_score_scale");
  bytes.number(static_cast<uint8_t>(file.read_attribute<int64_t>("/state", "learn_score_scale")));
  add(double{}, {"plateau_rate"});
  EXPECT_FALSE(file.has_attribute("/state", "dense_layer"));
  bytes.text(file.read_text("/state/options"));
  bytes.array(file.read<int64_t>("/state/best_histogram"));
  for (const std::string name : {"gru_layers.weight_ih_l0", "gru_layers.weight_hh_l0", "gru_layers.weight_ih_l1",
                                 "gru_layers.weight_hh_l1", "dense.weight", "dense.bias", "item_embedding.weight"}) {
    for (const std::string group : {"/state/parameters/", "/state/first_moment/", "/state/second_moment/", "/state/average/"}) {
      bytes.text(group + name);
      bytes.array(file.read<float>(group + name));
    }
  }
  EXPECT_EQ(bytes.digest(), digest);
  EXPECT_EQ(file.read_attribute<uint64_t>("/", "digest"), digest);
}

TEST(CheckpointDocuments, TheExampleWithH5pyReadsTheParameters) {
  const char* chosen = std::getenv("GRU4REC_TEST_PYTHON");
  const std::string python = chosen ? chosen : "python3";
  if (std::system((python + " -c 'import h5py' 2>/dev/null").c_str()) != 0)
    GTEST_SKIP() << python << " has no h5py; name one that has with GRU4REC_TEST_PYTHON";
  const std::string text = page(), start = "<!-- tests run this example on a checkpoint -->\n```python\n";
  const size_t marked = text.find(start);
  ASSERT_NE(marked, std::string::npos);
  const size_t first = marked + start.size();
  const TemporaryFolder folder;
  testing::write_whole(folder / "read.py", text.substr(first, text.find("```", first) - first));
  const uint64_t digest = CheckpointExample().save(folder / "step-00000501.h5");

  const std::string command = python + " " + (folder / "read.py").string() + " " + (folder / "step-00000501.h5").string();
  ASSERT_EQ(std::system((command + " >" + (folder / "output").string() + " 2>&1").c_str()), 0)
      << testing::read_whole(folder / "output");
  const std::string printed = testing::read_whole(folder / "output");
  EXPECT_THAT(printed, HasSubstr("digest " + hex_text(digest)));
  EXPECT_THAT(printed, HasSubstr("step 501\n"));
  EXPECT_THAT(printed, HasSubstr("learning_rate: 0.001"));
  EXPECT_THAT(printed, HasSubstr("item_embedding.weight (44, 5) "));
  EXPECT_THAT(printed, HasSubstr("gru_layers.weight_ih_l1 (21, 7) "));
}

}  // namespace
}  // namespace gru4rec

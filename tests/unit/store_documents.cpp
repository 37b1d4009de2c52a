// What docs/formats.md says of a store is so: its examples run, and its tables lead to the same bytes and digests.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <fstream>
#include <sstream>

#include "gru4rec/base/error.h"
#include "gru4rec/base/hash.h"
#include "gru4rec/base/hdf5.h"
#include "gru4rec/data/inspect.h"
#include "support/folders.h"
#include "support/hostile.h"
#include "support/store_example.h"
#include "support/temporary_folder.h"

namespace gru4rec {
namespace {

using ::testing::ElementsAre;
using testing::example_sessions;
using ::testing::HasSubstr;
using testing::TemporaryFolder;
using testing::write_example;
namespace fs = std::filesystem;

// The marked Python examples of the page, in order.
std::vector<std::string> examples_of(const fs::path& page) {
  const std::string text = testing::read_whole(page);
  const std::string start = "<!-- tests run this example -->\n```python\n";
  std::vector<std::string> examples;
  for (size_t at = text.find(start); at != std::string::npos; at = text.find(start, at + 1)) {
    const size_t first = at + start.size();
    examples.push_back(text.substr(first, text.find("```", first) - first));
  }
  return examples;
}

// Runs a program of Python and returns what it prints; an error of it fails the test.
std::string run_python(const std::string& python, const fs::path& script, const fs::path& argument) {
  FILE* pipe = ::popen((python + " " + script.string() + " " + argument.string() + " 2>&1").c_str(), "r");
  std::string output;
  std::array<char, 4096> part;
  while (const size_t n = std::fread(part.data(), 1, part.size(), pipe)) output.append(part.data(), n);
  EXPECT_EQ(::pclose(pipe), 0) << output;
  return output;
}

TEST(StoreDocuments, TheExamplesWithH5pyWriteAndReadAStore) {
  const char* chosen = std::getenv("GRU4REC_TEST_PYTHON");
  const std::string python = chosen ? chosen : "python3";
  if (std::system((python + " -c 'import h5py, numpy' 2>/dev/null").c_str()) != 0) {
    GTEST_SKIP() << python << " has no h5py; name one that has with GRU4REC_TEST_PYTHON";
  }
  const auto examples = examples_of(testing::source_folder() / "docs/formats.md");
  ASSERT_EQ(examples.size(), 2u);
  const TemporaryFolder folder;
  fs::create_directory(folder / "store");
  testing::write_whole(folder / "write.py", examples[0]);
  testing::write_whole(folder / "read.py", examples[1]);

  run_python(python, folder / "write.py", folder / "store");
  EXPECT_THROW(Store(folder / "store"), UserError) << "without a seal it is not read";
  seal_store(folder / "store");
  const Store store(folder / "store");
  store.verify();
  EXPECT_EQ(store.info().dataset, "breakfast");
  EXPECT_EQ(store.info().protocol, Protocol::leave_one_out);
  EXPECT_THAT(store.item_names(), ElementsAre("milk", "rye", "tea"));
  EXPECT_THAT(store.session_ids(0, 3), ElementsAre("anna", "ben", "carl"));
  std::vector<uint32_t> items(9);
  store.read_items(0, items);
  EXPECT_THAT(items, ElementsAre(3, 1, 3, 1, 2, 3, 2, 2, 3));
  const auto shapes = store.shapes(0, 3);
  EXPECT_EQ(shapes[1].train_end, 2u);
  EXPECT_EQ(shapes[1].valid_end, 3u);
  EXPECT_EQ(shapes[2].train_end, 2u);

  const std::string printed = run_python(python, folder / "read.py", folder / "store");
  EXPECT_THAT(printed, HasSubstr("digest " + hex_text(store.info().data_digest)));
  EXPECT_THAT(printed, HasSubstr("ben ['milk', 'rye', 'tea', 'rye']"));
}

// Little-endian number at a place of a text.
template <typename T>
T number_at(const std::string& bytes, size_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

TEST(StoreDocuments, TheSealLiesWhereItsTableSays) {
  const TemporaryFolder folder;
  const StoreInfo info = write_example(folder / "store", example_sessions(307, 97), 1, 97);
  const std::string bytes = testing::read_whole(folder / "store" / info.shards[0].file);
  EXPECT_EQ(bytes.substr(0, 8), "GRU4SEAL");
  EXPECT_EQ(number_at<uint32_t>(bytes, 8), 1u);
  EXPECT_EQ(number_at<uint32_t>(bytes, 12), 2u) << "a shard";
  EXPECT_EQ(number_at<uint64_t>(bytes, 16), bytes.size());
  EXPECT_EQ(number_at<uint32_t>(bytes, 32), 7u) << "seven large arrays";
  std::string outside = bytes.substr(512);
  for (size_t e = 7; e-- > 0;)
    outside.erase(number_at<uint64_t>(bytes, 40 + 16 * e) - 512, number_at<uint64_t>(bytes, 48 + 16 * e));
  EXPECT_EQ(number_at<uint64_t>(bytes, 24), hash_bytes(outside.data(), outside.size()));
  EXPECT_EQ(info.shards[0].digest, hash_bytes(outside.data(), outside.size()));
  EXPECT_EQ(number_at<uint64_t>(bytes, 504), hash_bytes(bytes.data(), 504));
}

TEST(StoreDocuments, ChecksumsAndDataDigestAreThoseOfThePage) {
  const TemporaryFolder folder;
  const auto sessions = example_sessions(1009, 97);
  const StoreInfo info = write_example(folder / "store", sessions, 1, 97);
  const Hdf5File shard = Hdf5File::open(folder / "store" / info.shards[0].file);
  const auto items = shard.read<uint32_t>("/items");
  const auto checksums = shard.read<uint64_t>("/checksums/items");
  ASSERT_EQ(checksums.size(), (items.size() + 8191) / 8192);
  EXPECT_EQ(checksums[0], hash_bytes(items.data(), 8192 * 4));
  EXPECT_EQ(checksums.back(), hash_bytes(items.data() + (checksums.size() - 1) * 8192, items.size() % 8192 * 4));

  std::string content;
  const auto add = [&](auto value) { content.append(reinterpret_cast<const char*>(&value), sizeof value); };
  for (const auto& session : sessions) {
    add(uint64_t{session.id.size()});
    content += session.id;
    add(uint64_t{session.items.size()});
    for (uint32_t item : session.items) add(item);
    for (int64_t time : session.times) add(time);
    add(session.train_end);
    add(session.valid_end);
  }
  add(uint32_t{1});
  add(uint64_t{97});
  for (const std::string& name : testing::example_names(97)) {
    add(uint64_t{name.size()});
    content += name;
  }
  EXPECT_EQ(info.data_digest, hash_bytes(content.data(), content.size()));
}

TEST(StoreDocuments, InspectNamesWhatTheStoreHolds) {
  const TemporaryFolder folder;
  const StoreInfo info = write_example(folder / "store", example_sessions(307, 97), 2, 97);
  const std::string text = describe_store(Store(folder / "store"));
  EXPECT_THAT(text, HasSubstr("session store   example\n"));
  EXPECT_THAT(text, HasSubstr("next_item"));
  EXPECT_THAT(text, HasSubstr("sessions        307\n"));
  EXPECT_THAT(text, HasSubstr(hex_text(info.data_digest)));
  EXPECT_THAT(text, HasSubstr(info.shards[1].file));
  EXPECT_THAT(text, HasSubstr("\"statistics\""));
}

}  // namespace
}  // namespace gru4rec

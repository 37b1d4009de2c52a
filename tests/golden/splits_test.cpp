// The leave-one-out split of all users of ml-100k, exactly as RecBole makes it and as the exact order of times makes it.
// Fixtures: tests/golden/README.md. ml-100k may not be redistributed; launch/fetch-ml-100k.sh gets it.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "gru4rec/base/hash.h"
#include "gru4rec/data/ingest.h"
#include "support/folders.h"
#include "support/temporary_folder.h"

namespace gru4rec {
namespace {

namespace fs = std::filesystem;

fs::path data_file() {
  if (const char* path = std::getenv("GRU4REC_ML100K")) return path;
  return testing::source_folder() / ".deps/data/ml-100k/ml-100k.inter";
}

std::string hash_of(const std::vector<std::string>& names, std::span<const uint32_t> items) {
  std::string text;
  for (uint32_t item : items) {
    if (!text.empty()) text += ' ';
    text += names.at(item - 1);
  }
  return hex_text(hash_bytes(text.data(), text.size()));
}

// user → "n_train_events  train  valid  test", as in the fixtures.
std::map<std::string, std::string> fixture(const std::string& name) {
  std::ifstream in(testing::source_folder() / "tests/golden" / name);
  std::map<std::string, std::string> lines;
  for (std::string line; std::getline(in, line);) {
    const size_t tab = line.find('\t');
    lines[line.substr(0, tab)] = line.substr(tab + 1);
  }
  return lines;
}

std::map<std::string, std::string> splits_of(const fs::path& folder) {
  const Store store(folder);
  const uint64_t sessions = store.info().sessions;
  const std::vector<std::string> names = store.item_names(), users = store.session_ids(0, sessions);
  const auto shapes = store.shapes(0, sessions);
  std::map<std::string, std::string> lines;
  for (size_t i = 0; i < sessions; ++i) {
    std::vector<uint32_t> items(shapes[i].events);
    store.read_items(shapes[i].first_event, items);
    const std::span<const uint32_t> all(items);
    const uint32_t train = shapes[i].train_end, valid = shapes[i].valid_end;
    lines[users[i]] = fmt::format("{}\t{}\t{}\t{}", train, hash_of(names, all.first(train)),
                                  hash_of(names, all.subspan(train, valid - train)), hash_of(names, all.subspan(valid)));
  }
  return lines;
}

void expect_splits(TimeOrder order, const std::string& name) {
  const fs::path file = data_file();
  if (!fs::exists(file))
    GTEST_SKIP() << "ml-100k is not there: " << file << " (launch/fetch-ml-100k.sh gets it; GRU4REC_ML100K names it elsewhere)";
  const testing::TemporaryFolder folder;
  Options options;
  options.data_path = file.parent_path().parent_path().string();
  options.dataset = file.parent_path().filename().string();
  options.train_file = fs::relative(file, options.data_path).string();
  options.time_order = order;
  options.store = (folder / "store").string();
  ingest(options);
  const auto wanted = fixture(name);
  const auto got = splits_of(options.store);
  ASSERT_EQ(wanted.size(), 943u);
  ASSERT_EQ(got.size(), wanted.size());
  for (const auto& [user, line] : wanted) {
    ASSERT_TRUE(got.contains(user)) << "user " << user;
    EXPECT_EQ(got.at(user), line) << "user " << user;
  }
}

TEST(Splits, OfAllUsersAreRecBolesInItsOrderOfTimes) { expect_splits(TimeOrder::recbole, "splits_recbole.tsv"); }
TEST(Splits, OfAllUsersFollowTheTimesInTheExactOrder) { expect_splits(TimeOrder::exact, "splits_exact.tsv"); }

}  // namespace
}  // namespace gru4rec

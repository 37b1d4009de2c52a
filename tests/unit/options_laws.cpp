// Laws of the configuration: one table, five uses; refuse what is not known; say everything at once.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <set>
#include <sstream>

#include "gru4rec/base/config.h"
#include "gru4rec/base/error.h"
#include "gru4rec/base/nearest.h"
#include "gru4rec/base/option_table.h"
#include "support/temporary_folder.h"

namespace gru4rec {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
namespace fs = std::filesystem;

std::string read_file(const fs::path& path) {
  std::ifstream in(path);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

Configuration read_text(const std::string& yaml, const std::vector<Override>& overrides = {}) {
  testing::TemporaryFolder folder;
  std::ofstream(folder / "a.yaml") << yaml;
  return read_configuration({folder / "a.yaml"}, overrides);
}

std::string error_of(const std::string& yaml, const std::vector<Override>& overrides = {}) {
  try {
    read_text(yaml, overrides);
  } catch (const UserError& error) {
    return error.what();
  }
  return "accepted";
}

const fs::path kSource = GRU4REC_SOURCE_DIR;

TEST(Options, EveryConfigurationOfTheProjectIsAccepted) {
  int files = 0;
  for (const auto& entry : fs::directory_iterator(kSource / "configs")) {
    if (entry.path().extension() != ".yaml") continue;
    EXPECT_THAT(read_configuration({entry.path()}, {}).warnings, IsEmpty()) << entry.path();
    ++files;
  }
  EXPECT_GE(files, 4);
}

TEST(Options, AsYamlReadBackToTheSameOptions) {
  for (const auto& entry : fs::directory_iterator(kSource / "configs")) {
    if (entry.path().extension() != ".yaml") continue;
    const Options options = read_configuration({entry.path()}, {}).options;
    EXPECT_EQ(options_from_yaml(to_yaml(options), "copy"), options) << entry.path();
  }
  EXPECT_EQ(options_from_yaml(to_yaml(Options{}), "defaults"), Options{});
}

TEST(Options, EveryKeyStandsInHelpManualAndDefault) {
  const std::string manual = read_file(kSource / "docs/configuration.md");
  std::set<std::string> seen;
  for (const OptionRow& row : option_table()) {
    EXPECT_TRUE(seen.insert(row.key).second) << row.key << " stands twice";
    EXPECT_FALSE(row.help.empty()) << row.key;
    EXPECT_FALSE(row.codec.wanted.empty()) << row.key;
    EXPECT_THAT(manual, HasSubstr("| `" + row.key + "` |"));
    EXPECT_THAT(to_yaml({}), HasSubstr("\n" + row.key + ": ")) << "its default reads back";
  }
}

TEST(Options, TheManualIsTheOneTheTableWrites) {
  EXPECT_EQ(read_file(kSource / "docs/configuration.md"), configuration_markdown());
  EXPECT_THAT(read_file(kSource / "docs/from-recbole.md"), HasSubstr(recbole_markdown()));
}

TEST(Options, EveryKeyOfRecBoleIsHonouredIgnoredOrRefused) {
  std::ifstream keys(kSource / "tests/golden/recbole_keys.tsv");
  const std::string table = recbole_markdown();
  int count = 0;
  for (std::string line; std::getline(keys, line); ++count) {
    const std::string key = line.substr(0, line.find('\t'));
    EXPECT_TRUE(find_option(key) || find_recbole_key(key)) << key;
    EXPECT_THAT(table, HasSubstr("| `" + key + "` |"));
  }
  EXPECT_GT(count, 80);
}

TEST(Options, AMistypedKeyIsNamedWithItsLineAndTheNearestOne) {
  EXPECT_THAT(
      error_of("epochs: 3\n\nlerning_rate: 0.1\n"),
      AllOf(HasSubstr("unknown option 'lerning_rate'"), HasSubstr("a.yaml:3"), HasSubstr("did you mean 'learning_rate'?")));
  EXPECT_THAT(error_of("", {{"dropuot_prob", "0.1"}}), HasSubstr("(command line); did you mean 'dropout_prob'?"));
}

TEST(Options, AllErrorsAreListedTogether) {
  EXPECT_THAT(error_of("epochs: many\nlerning_rate: 1\ntopk: [0]\n", {{"dropout_prob", "1.5"}}),
              AllOf(HasSubstr("4 errors"), HasSubstr("option 'epochs'"), HasSubstr("got 'many', wanted an integer"),
                    HasSubstr("lerning_rate"), HasSubstr("topk"), HasSubstr("dropout_prob")));
}

TEST(Options, LaterFilesAndTheCommandLineWin) {
  testing::TemporaryFolder folder;
  std::ofstream(folder / "a.yaml") << "epochs: 3\nseed: 1\n";
  std::ofstream(folder / "b.yaml") << "epochs: 4\n";
  const Options options = read_configuration({folder / "a.yaml", folder / "b.yaml"}, {{"seed", "7"}}).options;
  EXPECT_EQ(options.epochs, 4);
  EXPECT_EQ(options.seed, 7u);
}

TEST(Options, PythonLiteralsAreRead) {
  const Options options =
      read_text(
          "rm_dup_inter: None\nscore_padding: True\nclip_grad_norm: \"{'max_norm': 5, 'norm_type': 2}\"\n"
          "val_interval: {'rating': \"[3,inf)\"}\neval_args: {'split': {'RS': [8, 1, 1]}, 'order': 'TO', 'mode': 'full'}\n")
          .options;
  EXPECT_EQ(options.clip_grad_norm, 5.0);
  EXPECT_TRUE(options.val_interval.at("rating").contains(3));
  EXPECT_FALSE(options.val_interval.at("rating").contains(2.9));
  EXPECT_EQ(options.split.kind, SplitKind::ratio);
  EXPECT_DOUBLE_EQ(options.split.ratio[0], 0.8);
}

TEST(Options, OfRecBoleWithoutMeaningHereWarnInOneLineEach) {
  const Configuration configuration = read_text("gpu_id: 0\nworker: 4\nshow_progress: False\n");
  EXPECT_EQ(configuration.warnings.size(), 2u);
  EXPECT_THAT(configuration.warnings[0], HasSubstr("gpu_id"));
}

TEST(Options, ThatAskForSomethingElseAreRefusedWithTheReason) {
  EXPECT_THAT(error_of("loss_type: BPR\n"), HasSubstr("not yet"));
  EXPECT_THAT(error_of("eval_args: {split: {LS: valid_and_test}, order: RO}\n"), HasSubstr("order 'TO'"));
  EXPECT_THAT(error_of("eval_args: {split: {LS: valid_and_test}, mode: uni100}\n"), HasSubstr("full"));
  EXPECT_THAT(error_of("train_neg_sample_args: {distribution: uniform, sample_num: 1}\n"), HasSubstr("train_neg_sample_args"));
  EXPECT_EQ(error_of("train_neg_sample_args: None\nneg_sampling: None\n"), "accepted");
  EXPECT_THAT(error_of("enable_amp: True\n"), HasSubstr("fp32"));
  EXPECT_EQ(error_of("enable_amp: False\n"), "accepted");
}

TEST(Options, ValidMetricMustBeAmongWhatIsReported) {
  EXPECT_THAT(error_of("valid_metric: MRR@5\n"), HasSubstr("valid_metric"));
  EXPECT_EQ(error_of("valid_metric: MRR@5\ntopk: [5]\n"), "accepted");
}

TEST(Options, BrokenYamlIsNamedWithItsLine) { EXPECT_THAT(error_of("epochs: [3\nseed: 4\n"), HasSubstr("not YAML")); }

TEST(Options, DifferencesNameOldAndNew) {
  Options a, b;
  b.learning_rate = 0.5;
  b.epochs = 7;
  EXPECT_THAT(differences(a, b, true), ::testing::ElementsAre("learning_rate: 0.001 → 0.5"));
  EXPECT_EQ(differences(a, b, false).size(), 2u);
}

TEST(Options, PathsFollowTheDataset) {
  const Options options = read_text("dataset: d\n").options;
  EXPECT_EQ(options.store, "store/d");
  EXPECT_EQ(options.run_dir, "runs/d");
  EXPECT_EQ(options.checkpoint_dir, "runs/d/checkpoints");
}

TEST(Nearest, IsFoundByEditsAndNotForcedOnStrangers) {
  EXPECT_EQ(nearest("itemid", {"user_id", "item_id"}), "item_id");
  EXPECT_EQ(nearest("zzzzzz", {"user_id", "item_id"}), "");
}

}  // namespace
}  // namespace gru4rec

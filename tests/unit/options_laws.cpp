// Laws of the configuration: one table, five uses; refuse what is not known; say everything at once.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include "gru4rec/base/config.h"
#include "gru4rec/base/error.h"
#include "gru4rec/base/nearest.h"
#include "gru4rec/base/option_table.h"
#include "support/folders.h"
#include "support/temporary_folder.h"

namespace gru4rec {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
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

const fs::path kSource = testing::source_folder();

// An option that acts together with another one only is named where that one has another value, and nowhere else.
TEST(Options, WhatHasNoEffectIsAWarning) {
  struct Case {
    const char *idle, *active, *option;
  };
  const std::string ranking = "loss_type: cosine_ranking\nscore: cosine\n";
  const Case cases[] = {
      {"num_layers: 1", "num_layers: 2", "hidden_dropout_prob: 0.1"},
      {"loss_type: BPR", "loss_type: BPR-max", "n_sample: 5"},
      {"loss_type: CE", ranking.c_str(), "n_sample: 5"},
      {"loss_type: CE", "loss_type: sampled_softmax", "sample_alpha: 0.1"},
      {"loss_type: BPR-max", "loss_type: sampled_softmax", "logq_correction: False"},
      {"loss_type: sampled_softmax", "loss_type: BPR-max", "bpreg: 2"},
      {"loss_type: BPR-max", ranking.c_str(), "ranking_margin: 0.1"},
      {"loss_type: BPR", "loss_type: CE", "score_padding: False"},
      {"score: dot", "score: cosine", "score_scale: 3"},
      {"learning_rate_schedule: cosine", "learning_rate_schedule: plateau", "plateau_factor: 0.1"},
      {"learning_rate_schedule: constant", "learning_rate_schedule: plateau", "plateau_patience: 3"},
      {"teacher: ''", "teacher: auto", "distill_lambda: 0.1"},
      {"teacher: ''", "teacher: auto", "distill_temperature: 2"},
      {"teacher: ''", "teacher: auto", "distill_t_squared: True"},
      {"adapt_fraction: 0", "adapt_fraction: 1/4", "adapt_epochs: 3"},
      {"adapt_fraction: 0", "adapt_fraction: 1/4", "adapt_learning_rate: 0.1"},
  };
  for (const auto& [idle, active, option] : cases) {
    const std::string key = std::string(option).substr(0, std::string(option).find(':'));
    EXPECT_THAT(read_text(fmt::format("{}\n{}\n", idle, option)).warnings,
                ElementsAre(HasSubstr("option '" + key + "' has no effect")))
        << idle;
    EXPECT_THAT(read_text(fmt::format("{}\n{}\n", active, option)).warnings, IsEmpty()) << active << " " << option;
  }
}

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
  EXPECT_TRUE(contained(3, options.val_interval.at("rating")));
  EXPECT_FALSE(contained(2.9, options.val_interval.at("rating")));
  EXPECT_EQ(options.split.kind, SplitKind::ratio);
  EXPECT_DOUBLE_EQ(options.split.ratio[0], 0.8);
}

TEST(Options, OfRecBoleWithoutMeaningHereWarnInOneLineEach) {
  const Configuration configuration = read_text("gpu_id: 0\nworker: 4\nshow_progress: False\n");
  EXPECT_EQ(configuration.warnings.size(), 2u);
  EXPECT_THAT(configuration.warnings[0], HasSubstr("gpu_id"));
}

TEST(Options, ThatAskForSomethingElseAreRefusedWithTheReason) {
  EXPECT_THAT(error_of("eval_args: {split: {LS: valid_and_test}, order: RO}\n"), HasSubstr("order 'TO'"));
  EXPECT_THAT(error_of("eval_args: {split: {LS: valid_and_test}, mode: uni100}\n"), HasSubstr("full"));
  EXPECT_THAT(error_of("train_neg_sample_args: {distribution: uniform, sample_num: 1}\n"), HasSubstr("train_neg_sample_args"));
  EXPECT_EQ(error_of("train_neg_sample_args: None\nneg_sampling: None\n"), "accepted");
  EXPECT_THAT(error_of("learn_score_scale: True\n"), HasSubstr("score to cosine"));
  EXPECT_THAT(error_of("dense_layer: False\n"), HasSubstr("got False with embedding_size 64 and hidden_size 128"));
  EXPECT_EQ(error_of("dense_layer: False\nhidden_size: 64\n"), "accepted");
  EXPECT_THAT(error_of("recent_fraction: 0\n"), HasSubstr("above 0 and at most 1"));
  EXPECT_THAT(error_of("learning_rate_schedule: plateau\neval_step: 0\n"),
              AllOf(HasSubstr("got plateau with eval_step 0, wanted evaluations"), HasSubstr("Set eval_step to 1 or more")));
  EXPECT_EQ(error_of("learning_rate_schedule: plateau\neval_step: 2\n"), "accepted");
  EXPECT_THAT(error_of("gpu_sum: nccl\n"), HasSubstr("got nccl with device cpu, wanted device cuda"));
  EXPECT_EQ(error_of("gpu_sum: nccl\ndevice: cuda\n"), "accepted");
  EXPECT_THAT(error_of("teacher: t.h5\nloss_type: BPR\n"), HasSubstr("loss_type CE"));
  EXPECT_THAT(error_of("teacher: t.h5\ndirection: backward\n"), HasSubstr("contradict"));
  EXPECT_THAT(error_of("teacher: t.h5\naugmentation: prefixes\n"), HasSubstr("one_pass"));
  EXPECT_THAT(error_of("teacher: auto\nloss_type: BPR\n"), HasSubstr("loss_type CE"));
  EXPECT_THAT(error_of("teacher: auto\nepochs: 0\n"), HasSubstr("epochs is 0"));
  EXPECT_THAT(error_of("adapt_fraction: 1/4\nepochs: 0\n"), HasSubstr("epochs is 0"));
  EXPECT_THAT(error_of("loss_type: BPR\ntrain_neg_sample_args: None\n"), HasSubstr("None draws none"));
  EXPECT_THAT(error_of("loss_type: sampled_softmax\nneg_sampling: {uniform: 1}\n"), HasSubstr("n_sample"));
  EXPECT_THAT(error_of("loss_type: BPR\ntrain_neg_sample_args: {distribution: uniform, dynamic: True}\n"),
              HasSubstr("dynamic"));
  EXPECT_THAT(error_of("enable_amp: True\n"), HasSubstr("bf16"));
  EXPECT_EQ(error_of("enable_amp: False\n"), "accepted");
}

TEST(Options, LossesOfPredictedEmbeddingsWantCosinesAndOneOfThemAConstantTable) {
  const std::string embedding = "loss_type: cosine_embedding\nscore: cosine\n", ranking = "loss_type: cosine_ranking\n";
  EXPECT_THAT(error_of(embedding), AllOf(HasSubstr("'freeze_item_embeddings': got False"), HasSubstr("wants True"),
                                         HasSubstr("all alike"), HasSubstr("item_embeddings_from")));
  EXPECT_EQ(error_of(embedding + "freeze_item_embeddings: True\n"), "accepted");
  EXPECT_THAT(error_of(embedding + "freeze_item_embeddings: True\nlearn_score_scale: True\n"), HasSubstr("without a scale"));
  EXPECT_THAT(error_of(embedding + "freeze_item_embeddings: True\nteacher: t.h5\n"), HasSubstr("loss_type CE"));
  EXPECT_THAT(error_of("loss_type: cosine_embedding\n"), AllOf(HasSubstr("2 errors"), HasSubstr("Set score to cosine")));
  EXPECT_THAT(error_of(ranking), AllOf(HasSubstr("got dot"), HasSubstr("cosine_ranking wants cosine")));
  EXPECT_EQ(error_of(ranking + "score: cosine\n"), "accepted");
  EXPECT_EQ(error_of(ranking + "score: cosine\nfreeze_item_embeddings: True\n"), "accepted");
  EXPECT_THAT(error_of(ranking + "score: cosine\nneg_sampling: {uniform: 1}\n"), HasSubstr("n_sample"));
  EXPECT_THAT(error_of("init_from: a\nitem_embeddings_from: b\n"), HasSubstr("Leave one out"));
}

TEST(Options, NegativesAreWhatTheLossNeedsUnlessTheyAreGiven) {
  EXPECT_EQ(read_text("loss_type: CE\n").options.train_neg_sample_args, NegativeSampling{});
  const NegativeSampling uniform{NegativeDistribution::uniform, 1, 1.0};
  EXPECT_EQ(read_text("loss_type: BPR\n").options.train_neg_sample_args, uniform);
  EXPECT_EQ(read_text("loss_type: BPR\nneg_sampling: {'uniform': 1}\n").options.train_neg_sample_args, uniform);
  EXPECT_EQ(read_text("loss_type: BPR\ntrain_neg_sample_args: {distribution: popularity, alpha: 0.5}\n")
                .options.train_neg_sample_args,
            (NegativeSampling{NegativeDistribution::popularity, 1, 0.5}));
}

TEST(Options, ValidMetricMustBeAmongWhatIsReported) {
  EXPECT_THAT(error_of("valid_metric: MRR@5\n"), HasSubstr("valid_metric"));
  EXPECT_EQ(error_of("valid_metric: MRR@5\ntopk: [5]\n"), "accepted");
}

TEST(Options, BrokenYamlIsNamedWithItsLine) { EXPECT_THAT(error_of("epochs: [3\nseed: 4\n"), HasSubstr("not YAML")); }

// A value other than the default for each option: what a user could write.
const std::map<std::string, std::string> kOtherValues = {
    {"dataset", "\"a: #b\""},
    {"data_path", "../there"},
    {"train_file", "x.tsv.gz"},
    {"valid_file", "None"},
    {"test_file", "\"None\""},
    {"benchmark_filename", "[a, \"b c\", d]"},
    {"store", "\"tab\\tquote\\\"back\\\\slash\""},
    {"field_separator", "\",\""},
    {"USER_ID_FIELD", "Ünique"},
    {"SESSION_ID_FIELD", "\"true\""},
    {"ITEM_ID_FIELD", "\"12\""},
    {"TIME_FIELD", "t"},
    {"user_inter_num_interval", "\"(5, inf)\""},
    {"item_inter_num_interval", "\"[2, 7];(9,inf)\""},
    {"val_interval", "{'rating': \"[3,inf)\", b: \"(-1.5,2e3]\"}"},
    {"rm_dup_inter", "last"},
    {"min_session_length", "2"},
    {"min_item_support", "5"},
    {"merge_repeats", "True"},
    {"session_gap", "0.1"},
    {"time_order", "recbole"},
    {"eval_args", "{'split': {'RS': [7, 2, 2]}, 'order': 'TO', 'group_by': 'user', 'mode': {'valid': 'full', 'test': 'full'}}"},
    {"drop_unseen", "yes"},
    {"shards", "7"},
    {"embedding_size", "65536"},
    {"hidden_size", "65536"},
    {"num_layers", "64"},
    {"dropout_prob", "0.30000000000000004"},
    {"hidden_dropout_prob", "0.25"},
    {"output_dropout_prob", "0.5"},
    {"dense_layer", "False"},
    {"embedding_init", "unit"},
    {"score_padding", "False"},
    {"score", "COSINE"},
    {"score_scale", "20.5"},
    {"learn_score_scale", "True"},
    {"direction", "backward"},
    {"teacher", "runs/teacher"},
    {"distill_lambda", "0.25"},
    {"distill_temperature", "2"},
    {"distill_t_squared", "True"},
    {"item_dropout_prob", "0.25"},
    {"augmentation", "prefixes"},
    {"MAX_ITEM_LIST_LENGTH", "3"},
    {"recent_fraction", "1/256"},
    {"init_from", "runs/other"},
    {"item_embeddings_from", "runs/another"},
    {"freeze_item_embeddings", "True"},
    {"ranking_margin", "0.25"},
    {"loss_type", "bpr"},
    {"train_neg_sample_args",
     "{'distribution': 'popularity', 'sample_num': 3, 'alpha': 0.75, 'dynamic': False, 'candidate_num': 0}"},
    {"n_sample", "512"},
    {"sample_alpha", "0"},
    {"logq_correction", "False"},
    {"bpreg", "0.5"},
    {"learner", "AdamW"},
    {"learning_rate", "1e-300"},
    {"learning_rate_schedule", "Cosine"},
    {"plateau_factor", "0.25"},
    {"plateau_patience", "3"},
    {"warmup_steps", "100"},
    {"ema_decay", "0.999"},
    {"weight_decay", "1e-3"},
    {"clip_grad_norm", "{'max_norm': 0.7, 'norm_type': 3}"},
    {"precision", "bf16"},
    {"train_batch_size", "2147483647"},
    {"epochs", "0"},
    {"adapt_fraction", "1/64"},
    {"adapt_epochs", "3"},
    {"adapt_learning_rate", "0.5"},
    {"eval_step", "0"},
    {"stopping_step", "0"},
    {"seed", "18446744073709551615"},
    {"replicas", "3"},
    {"reduction", "native"},
    {"num_threads", "2"},
    {"eval_batch_size", "1"},
    {"topk", "5"},
    {"metrics", "[mrr, 'hit']"},
    {"valid_metric", "mrr@5"},
    {"metric_decimal_place", "17"},
    {"run_dir", "/r"},
    {"checkpoint_dir", "/c"},
    {"checkpoint_steps", "1"},
    {"checkpoint_in_background", "on"},
    {"keep_checkpoints", "1"},
    {"resume", "on"},
    {"debug", "1"},
    {"device", "CUDA"},
    {"overlap", "yes"},
    {"gpu_sum", "host"},
    {"batches_ahead", "never"},
    {"comm_timeout", "0.5"},
    {"stop_timeout", "1.25"},
    {"deterministic", "relaxed"},
    {"log_level", "DEBUG"},
    {"show_progress", "no"},
};

TEST(Options, EachWithAnotherValueReadsBackFromYamlAndFromTheCommandLine) {
  Options all;
  for (const OptionRow& row : option_table()) {
    ASSERT_TRUE(kOtherValues.contains(row.key)) << "give " << row.key << " a value to try";
    const std::string& value = kOtherValues.at(row.key);
    Options base;
    if (row.key == "dense_layer") base.hidden_size = base.embedding_size;  // which False wants
    Options changed = options_from_yaml(row.key + ": " + value + "\n", "test", base);
    EXPECT_EQ(changed == base, row.key == "valid_file") << row.key;
    EXPECT_EQ(options_from_yaml(to_yaml(changed), "copy"), changed) << row.key << ": " << row.codec.write(changed);
    EXPECT_EQ(options_from_yaml(numbers_to_yaml(changed), "copy", base) == changed, row.affects_numbers || changed == base)
        << row.key;
    EXPECT_EQ(differences(base, changed, true).size(), row.affects_numbers ? 1 : 0) << row.key;
    all = options_from_yaml(row.key + ": " + value + "\n", "test", all);
  }
  EXPECT_EQ(options_from_yaml(to_yaml(all), "copy"), all);
  EXPECT_EQ(differences({}, all, false).size(), option_table().size() - 1);  // valid_file stays empty
}

TEST(Options, EachRefusesAListOfListsAndNamesItselfAndWhatItWants) {
  for (const OptionRow& row : option_table()) {
    const std::string error = error_of(row.key + ": [[a, b], {c: d}]\n");
    EXPECT_THAT(error, HasSubstr("option '" + row.key + "' (")) << row.key;
    EXPECT_THAT(error, HasSubstr("a.yaml:1): got [[a, b], {c: d}], wanted ")) << row.key;
  }
}

TEST(Options, RefuseValuesJustOutsideTheirRange) {
  for (const auto& [key, value] :
       std::vector<std::pair<std::string, std::string>>{{"dropout_prob", "1"},
                                                        {"dropout_prob", "-1e-9"},
                                                        {"dropout_prob", "nan"},
                                                        {"learning_rate", "0"},
                                                        {"learning_rate", "inf"},
                                                        {"learning_rate", "1e999"},
                                                        {"plateau_factor", "0"},
                                                        {"plateau_factor", "1"},
                                                        {"plateau_patience", "-1"},
                                                        {"ema_decay", "1"},
                                                        {"ema_decay", "-1e-9"},
                                                        {"epochs", "-1"},
                                                        {"epochs", "3.0"},
                                                        {"epochs", "9223372036854775808"},
                                                        {"epochs", ""},
                                                        {"seed", "-1"},
                                                        {"seed", "18446744073709551616"},
                                                        {"topk", "[]"},
                                                        {"topk", "[10, 10]"},
                                                        {"topk", "[0]"},
                                                        {"topk", "[5],[10]"},
                                                        {"metrics", "[AUC]"},
                                                        {"valid_metric", "MRR"},
                                                        {"valid_metric", "MRR@0"},
                                                        {"valid_metric", "MRR@10x"},
                                                        {"field_separator", "ab"},
                                                        {"user_inter_num_interval", "[5,inf"},
                                                        {"user_inter_num_interval", "[7,5]"},
                                                        {"user_inter_num_interval", "[1,2];[5,6"},
                                                        {"val_interval", "{rating: [a, b]}"},
                                                        {"ranking_margin", "-0.1"},
                                                        {"ranking_margin", "2.1"},
                                                        {"recent_fraction", "0"},
                                                        {"recent_fraction", "3/2"},
                                                        {"recent_fraction", "1/0"},
                                                        {"recent_fraction", "1/x"},
                                                        {"adapt_fraction", "-1/4"},
                                                        {"adapt_epochs", "0"},
                                                        {"adapt_learning_rate", "0"},
                                                        {"clip_grad_norm", "-1"},
                                                        {"clip_grad_norm", "{norm_type: 2}"},
                                                        {"clip_grad_norm", "{max_norm: 5, norm: 2}"},
                                                        {"merge_repeats", "maybe"},
                                                        {"dataset", ""},
                                                        {"benchmark_filename", "[a, b]"},
                                                        {"eval_args", "{split: {LS: valid_only}}"},
                                                        {"eval_args", "{split: {RS: [0, 1, 0]}}"},
                                                        {"eval_args", "{split: {RS: [1, 1]}}"},
                                                        {"eval_args", "{split: {XS: 1}}"},
                                                        {"eval_args", "{split: {TS: {test: 1.0}}}"},
                                                        {"eval_args", "{split: {TS: {valid_days: 1}}}"},
                                                        {"eval_args", "{split: {TS: {test_days: 1, valid: 0.1}}}"},
                                                        {"eval_args", "{splt: {LS: valid_and_test}}"},
                                                        {"eval_args", "{split: {RS: [8, 1, 1]}, group_by: none}"},
                                                        {"eval_args", "{mode: {valid: full, test: pop100}}"}})
    EXPECT_THAT(error_of("", {{key, value}}), HasSubstr("option '" + key + "' (command line): got ")) << key << " " << value;
}

TEST(Options, SeparateFilesAreTheSplitAndContradictAnother) {
  const Options files = read_text("train_file: a\ntest_file: b\n").options;
  EXPECT_EQ(files.split.kind, SplitKind::files);
  EXPECT_EQ(read_text(to_yaml(files)).options, files) << "a resolved configuration does not contradict itself";
  EXPECT_EQ(read_text("train_file: a\n").options.split.kind, SplitKind::leave_one_out);
  EXPECT_EQ(read_text("benchmark_filename: [a, b, c]\n").options.split.kind, SplitKind::files);
  EXPECT_THAT(error_of("train_file: a\ntest_file: b\neval_args: {split: {LS: valid_and_test}}\n"),
              HasSubstr("option 'eval_args' splits the data"));
  EXPECT_THAT(error_of("test_file: b\n"), HasSubstr("'train_file'"));
}

TEST(Options, RefuseAKeyGivenTwiceAndAFolderOrNothingInPlaceOfAFile) {
  EXPECT_THAT(error_of("epochs: 3\nseed: 1\nepochs: 4\n"), AllOf(HasSubstr("option 'epochs'"), HasSubstr("a.yaml:3")));
  EXPECT_THAT(error_of("- epochs\n"), HasSubstr("key: value"));
  EXPECT_THAT(error_of("user_inter_num_interval: [5,inf)\n"), HasSubstr("needs quotes"));
  testing::TemporaryFolder folder;
  EXPECT_THROW(read_configuration({folder / "none.yaml"}, {}), UserError);
  EXPECT_THROW(read_configuration({folder / "."}, {}), UserError);
  EXPECT_EQ(error_of(""), "accepted") << "an empty file changes nothing";
}

TEST(Options, OfRecBoleUnderOtherNamesAreTranslated) {
  EXPECT_EQ(read_text("state: DEBUG\n").options.log_level, "debug");
  EXPECT_EQ(read_text("reproducibility: False\n").options.deterministic, "relaxed");
  EXPECT_EQ(error_of("model: GRU4Rec\ntraining_neg_sample_num: 0\nshuffle: true\ntransform: ~\n"), "accepted");
  EXPECT_THAT(error_of("model: SASRec\n"), HasSubstr("the one model"));
}

TEST(Options, DifferencesNameOldAndNew) {
  Options a, b;
  b.learning_rate = 0.5;
  b.epochs = 7;
  EXPECT_THAT(differences(a, b, true), ::testing::ElementsAre("learning_rate: 0.001 → 0.5"));
  EXPECT_EQ(differences(a, b, false).size(), 2u);
}

TEST(Options, EpochsChangeNumbersOnlyWhereHalfACosineIsStretchedOverThem) {
  for (const auto& [schedule, changes] :
       {std::pair{Schedule::constant, 0}, std::pair{Schedule::cosine, 1}, std::pair{Schedule::plateau, 0}}) {
    Options few, many;
    few.learning_rate_schedule = many.learning_rate_schedule = schedule;
    many.epochs = 7 + few.epochs;
    EXPECT_EQ(differences(few, many, true).size(), static_cast<size_t>(changes)) << static_cast<int>(schedule);
  }
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

// Laws of the command line: every option of the table, RecBole's keys, and the commands.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "../../src/commands/command_line.h"
#include "gru4rec/base/error.h"
#include "gru4rec/base/option_table.h"
#include "support/temporary_folder.h"

namespace gru4rec {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

CommandLine parse(std::vector<std::string> words, bool read_files = true) {
  std::vector<const char*> argv = {"gru4rec"};
  for (const std::string& word : words) argv.push_back(word.c_str());
  return parse_command_line(static_cast<int>(argv.size()), argv.data(), read_files);
}

std::string error_of(const std::vector<std::string>& words) {
  try {
    parse(words);
  } catch (const UserError& error) {
    return error.what();
  }
  return "accepted";
}

TEST(CommandLine, HelpOfTheCommandsNamesEveryOption) {
  for (const char* command : {"ingest", "train", "doctor", "options"}) {
    const CommandLine help = parse({command, "--help"});
    EXPECT_TRUE(help.command.empty());
    EXPECT_THAT(help.text, HasSubstr("Examples:"));
    for (const OptionRow& row : option_table())
      EXPECT_THAT(help.text, ::testing::ContainsRegex("\n  --" + row.key + "[ \n]")) << command;
  }
}

TEST(CommandLine, EveryOptionOfTheTableIsRead) {
  for (const OptionRow& row : option_table()) {
    const std::string error = error_of({"train", "--" + row.key, "{nothing: of the kind}"});
    const bool any_text_will_do =
        row.codec.is_text && row.key != "field_separator" && row.key != "valid_file" && row.key != "test_file";
    EXPECT_THAT(error, any_text_will_do ? HasSubstr("accepted") : HasSubstr("'" + row.key + "'")) << row.key;
  }
}

TEST(CommandLine, ValuesFollowAsAWordOrAfterAnEqualsSign) {
  const CommandLine line = parse({"train", "--epochs", "3", "--seed=7", "--topk", "[5,20]", "--valid_metric=MRR@5",
                                  "--user_inter_num_interval", "[5,inf)", "--clip_grad_norm", "{'max_norm': 5}"});
  EXPECT_EQ(line.command, "train");
  EXPECT_EQ(line.options.epochs, 3);
  EXPECT_EQ(line.options.seed, 7u);
  EXPECT_EQ(line.options.topk, (std::vector<int64_t>{5, 20}));
  EXPECT_EQ(line.options.user_inter_num_interval.front().low, 5.0);
  EXPECT_EQ(line.options.clip_grad_norm, 5.0);
}

TEST(CommandLine, FlagsStandAloneOrTakeAValue) {
  const CommandLine line = parse({"train", "--debug", "--replicas", "4", "--resume", "--show_progress", "false"});
  EXPECT_TRUE(line.options.debug);
  EXPECT_TRUE(line.options.resume);
  EXPECT_FALSE(line.options.show_progress);
  EXPECT_EQ(line.options.replicas, 4);
  EXPECT_FALSE(parse({"train", "--resume=False"}).options.resume);
}

TEST(CommandLine, FilesAreReadInOrderAndOverriddenByOptionsAnywhere) {
  testing::TemporaryFolder folder;
  std::ofstream(folder / "a.yaml") << "epochs: 3\nseed: 1\n";
  std::ofstream(folder / "b.yaml") << "epochs: 4\nhidden_size: 9\n";
  const CommandLine line = parse({"train", "--seed", "5", "--config", (folder / "a.yaml").string(), "--config",
                                  (folder / "b.yaml").string(), "--hidden_size", "8"});
  EXPECT_EQ(line.options.epochs, 4);
  EXPECT_EQ(line.options.seed, 5u);
  EXPECT_EQ(line.options.hidden_size, 8);
}

TEST(CommandLine, FilesAreLeftAloneWhereRankZeroSendsTheOptions) {
  EXPECT_EQ(parse({"train", "--config", "/nowhere.yaml"}, false).command, "train");
  EXPECT_THAT(error_of({"train", "--config", "/nowhere.yaml"}), HasSubstr("/nowhere.yaml"));
}

TEST(CommandLine, RecBolesKeysAreKnown) {
  EXPECT_THAT(parse({"train", "--worker", "4"}).warnings, ::testing::ElementsAre(HasSubstr("worker")));
  EXPECT_THAT(error_of({"train", "--enable_amp=True"}), HasSubstr("enable_amp"));
}

TEST(CommandLine, MistakesAreNamedWithWhatWasMeant) {
  EXPECT_THAT(error_of({"trian", "--epochs", "3"}), HasSubstr("unknown command 'trian'; did you mean 'train'?"));
  EXPECT_THAT(error_of({"xyzzy"}), HasSubstr("the commands are"));
  EXPECT_THAT(error_of({"train", "--lerning_rate=3", "--epochs", "x"}),
              AllOf(HasSubstr("2 errors"), HasSubstr("'lerning_rate' (command line); did you mean 'learning_rate'?"),
                    HasSubstr("option 'epochs' (command line): got 'x'")));
  EXPECT_THAT(error_of({"train", "stray"}), HasSubstr("'stray'"));
  EXPECT_THAT(error_of({"evaluate"}), HasSubstr("--checkpoint"));
  EXPECT_THAT(error_of({"evaluate", "--checkpoint", "c", "--split", "train"}), HasSubstr("--split"));
  EXPECT_THAT(error_of({"evaluate", "--checkpoint", "c", "--topk", "no"}), HasSubstr("option 'topk'"));
  for (const char* of_the_run : {"--learning_rate", "--config", "--lerning_rate"})
    EXPECT_THAT(error_of({"evaluate", "--checkpoint", "c", of_the_run, "1"}), HasSubstr(of_the_run));
  EXPECT_THAT(error_of({"inspect"}), HasSubstr("path"));
}

TEST(CommandLine, EvaluateInspectAndReportHaveArgumentsOfTheirOwn) {
  const CommandLine evaluate = parse({"evaluate", "--checkpoint", "c.h5", "--split=valid", "--topk", "[10,5]"});
  EXPECT_EQ(evaluate.command, "evaluate");
  EXPECT_EQ(evaluate.evaluate.checkpoint, "c.h5");
  EXPECT_EQ(evaluate.evaluate.split, "valid");
  ASSERT_EQ(evaluate.evaluate.overrides.size(), 1u);
  EXPECT_EQ(evaluate.evaluate.overrides[0].key, "topk");
  const CommandLine inspect = parse({"inspect", "store/x", "--verify"});
  EXPECT_EQ(inspect.inspect.path, "store/x");
  EXPECT_TRUE(inspect.inspect.verify);
  EXPECT_FALSE(inspect.inspect.digest);
  EXPECT_EQ(parse({"report", "runs/x"}).report.run, "runs/x");
  EXPECT_THAT(error_of({"report"}), HasSubstr("run is required"));
}

TEST(CommandLine, RecommendAndExportHaveArgumentsOfTheirOwn) {
  const CommandLine recommend = parse({"recommend", "--checkpoint", "c.h5", "--session", "a b", "--session=c", "--exclude",
                                       "d e", "--exclude_seen", "true", "--k=7", "--eval_batch_size", "3"});
  EXPECT_EQ(recommend.command, "recommend");
  EXPECT_EQ(recommend.recommend.checkpoint, "c.h5");
  EXPECT_EQ(recommend.recommend.sessions, (std::vector<std::string>{"a b", "c"}));
  EXPECT_EQ(recommend.recommend.exclude, std::vector<std::string>{"d e"});
  EXPECT_TRUE(recommend.recommend.exclude_seen);
  EXPECT_EQ(recommend.recommend.k, 7);
  ASSERT_EQ(recommend.recommend.overrides.size(), 1u);
  EXPECT_EQ(recommend.recommend.overrides[0].key, "eval_batch_size");
  const CommandLine plain = parse({"recommend", "--checkpoint", "c.h5"});
  EXPECT_EQ(plain.recommend.k, 20);
  EXPECT_FALSE(plain.recommend.exclude_seen);
  const CommandLine exported = parse(
      {"export", "--checkpoint", "c.h5", "--format", "recbole", "--output", "m.pth", "--item_order", "i.json", "--store", "s"});
  EXPECT_EQ(exported.command, "export");
  EXPECT_EQ(exported.exported.format, "recbole");
  EXPECT_EQ(exported.exported.output, "m.pth");
  EXPECT_EQ(exported.exported.item_order, "i.json");
  ASSERT_EQ(exported.exported.overrides.size(), 1u);
  EXPECT_EQ(exported.exported.overrides[0].key, "store");
}

TEST(CommandLine, RecommendAndExportSayWhatTheyCannotTake) {
  EXPECT_THAT(error_of({"recommend"}), HasSubstr("--checkpoint"));
  for (const char* k : {"0", "-1", "1.5", "many"})
    EXPECT_THAT(error_of({"recommend", "--checkpoint", "c", "--k", k}), HasSubstr("--k"));
  EXPECT_THAT(error_of({"recommend", "--checkpoint", "c", "--exclude_seen", "perhaps"}), HasSubstr("--exclude_seen"));
  EXPECT_THAT(error_of({"recommend", "--checkpoint", "c", "--topk", "[5]"}), HasSubstr("recommend has no option '--topk'"));
  EXPECT_THAT(error_of({"recommend", "--checkpoint", "c", "--eval_batch_size", "0"}), HasSubstr("option 'eval_batch_size'"));
  EXPECT_THAT(error_of({"export", "--checkpoint", "c", "--output", "o.pt"}), HasSubstr("--format"));
  EXPECT_THAT(error_of({"export", "--checkpoint", "c", "--format", "onnx", "--output", "o"}), HasSubstr("--format"));
  EXPECT_THAT(error_of({"export", "--checkpoint", "c", "--format", "numpy"}), HasSubstr("--output"));
  EXPECT_THAT(error_of({"export", "--checkpoint", "c", "--format", "numpy", "--output", "o.npy", "--device", "cuda"}),
              HasSubstr("export has no option '--device'"));
  for (const char* command : {"recommend", "export"}) EXPECT_THAT(parse({command, "--help"}).text, HasSubstr("Examples:"));
}

TEST(CommandLine, HelpAndVersionNeedNoCommand) {
  EXPECT_THAT(parse({}).text, HasSubstr("ingest"));
  EXPECT_THAT(parse({"--version"}).text, ::testing::StartsWith("gru4rec "));
  EXPECT_EQ(parse({"help", "--configuration"}).text, configuration_markdown());
  EXPECT_EQ(parse({"help", "--recbole"}).text, recbole_markdown());
}

}  // namespace
}  // namespace gru4rec

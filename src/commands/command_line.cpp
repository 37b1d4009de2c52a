#include "command_line.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <functional>
#include <set>

#include "gru4rec/base/config.h"
#include "gru4rec/base/error.h"
#include "gru4rec/base/nearest.h"
#include "gru4rec/base/option_table.h"
#include "gru4rec/base/version.h"

namespace gru4rec {
namespace {

const CLI::Range at_least_one(1, std::numeric_limits<int>::max());

// What the parser collects before the configuration is read.
struct Collected {
  std::vector<std::string> config_files;
  std::vector<Override> overrides;
  bool quiet = false;

  // Those of --quiet first, so that the ones that were spelt out win.
  std::vector<Override> all_overrides() const {
    std::vector<Override> all;
    if (quiet) all = {{"log_level", "warning"}, {"show_progress", "false"}};
    all.insert(all.end(), overrides.begin(), overrides.end());
    return all;
  }
};

// The option table as --key, in the groups of the table.
void add_options(CLI::App& command, Collected& collected, const std::function<bool(const OptionRow&)>& belongs) {
  for (const OptionRow& row : option_table()) {
    if (!belongs(row)) continue;
    const std::string help = fmt::format("{} Default: {}.", row.help, row.default_text());
    const auto keep = [&collected, key = row.key, is_flag = row.codec.is_flag](const std::string& value) {
      collected.overrides.push_back({key, is_flag && value.empty() ? "true" : value});
    };
    CLI::Option* option = command.add_option_function<std::string>("--" + row.key, keep, help);
    option->type_name("")->group(std::string(title_of(row.section)))->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
    if (row.codec.is_flag) option->expected(0, 1);
  }
  command.allow_extras();  // RecBole's other keys, and mistyped ones: the configuration knows both
}

void add_quiet(CLI::App& command, Collected& collected) {
  command.add_flag_callback(
      "--quiet", [&collected] { collected.quiet = true; },
      "Print results, warnings and errors only: --log_level warning --show_progress false, where the command line does not "
      "give those");
}

// All options, from files as well.
void add_table(CLI::App& command, Collected& collected) {
  add_quiet(command, collected);
  command.add_option("--config", collected.config_files, "Configuration file (YAML). May be repeated: a later one wins.")
      ->type_name("FILE")
      ->take_all()
      ->allow_extra_args(false);
  add_options(command, collected, [](const OptionRow&) { return true; });
}

// What may differ from the run that wrote the checkpoint; model and data are that run's.
bool concerns_evaluation(const OptionRow& row) {
  static const std::set<std::string> keys = {
      "store",       "eval_batch_size", "topk",         "metrics", "metric_decimal_place",
      "num_threads", "deterministic",   "comm_timeout", "device",  "log_level"};
  return keys.contains(row.key);
}

// The same of recommendations, which are made by one process, on the processor.
bool concerns_recommendation(const OptionRow& row) {
  static const std::set<std::string> keys = {"store", "eval_batch_size", "num_threads", "deterministic", "log_level"};
  return keys.contains(row.key);
}

bool concerns_export(const OptionRow& row) { return row.key == "store" || row.key == "log_level"; }

// Of the commands that begin with a checkpoint.
void add_checkpoint(CLI::App& command, std::filesystem::path& checkpoint, Collected& collected) {
  add_quiet(command, collected);
  command
      .add_option("--checkpoint", checkpoint, "A checkpoint; of a run's folder its best, of a folder of checkpoints the newest")
      ->required();
}

// `--key value` and `--key=value` that the table does not have; the rest of the command line is a mistake.
void collect_extras(const std::vector<std::string>& extras, Collected& collected) {
  for (size_t i = 0; i < extras.size(); ++i) {
    if (!extras[i].starts_with("--"))
      throw UserError("the command line has '{}', which belongs to no option. Options are written --key value or --key=value.",
                      extras[i]);
    const std::string text = extras[i].substr(2);
    if (const size_t equals = text.find('='); equals != std::string::npos) {
      collected.overrides.push_back({text.substr(0, equals), text.substr(equals + 1)});
    } else if (i + 1 < extras.size() && !extras[i + 1].starts_with("--")) {
      collected.overrides.push_back({text, extras[++i]});
    } else {
      collected.overrides.push_back({text, "true"});
    }
  }
}

// The first word of a command line must be one of the commands.
void check_command(const CLI::App& app, int argc, const char* const* argv) {
  if (argc < 2 || std::string(argv[1]).starts_with('-')) return;
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; }))
    names.push_back(command->get_name());
  if (std::ranges::find(names, argv[1]) != names.end()) return;
  const std::string near = nearest(argv[1], names);
  throw UserError(
      "unknown command '{}'; {}", argv[1],
      near.empty() ? fmt::format("the commands are {}.", fmt::join(names, ", ")) : fmt::format("did you mean '{}'?", near));
}

constexpr const char* kFooter =
    "Exit codes: 0 done, 2 you can fix it, 3 the surroundings failed, 4 a bug, 128+signal stopped after saving.";

struct Parser {
  CLI::App app{"Distributed trainer for GRU4Rec, the recurrent model for session-based recommendation.", "gru4rec"};
  Collected collected;
  CommandLine result;
  bool version = false, configuration_page = false, recbole_table = false;

  Parser() {
    app.require_subcommand(0, 1);
    app.footer(std::string("gru4rec COMMAND --help shows a command's options and examples.\n") + kFooter);
    app.add_flag("--version", version, "Print the version and leave");
    CLI::App* help = app.add_subcommand("help", "Print this, or a page of the documentation, and leave");
    help->add_flag("--configuration", configuration_page, "Print docs/configuration.md");
    help->add_flag("--recbole", recbole_table, "Print the table of docs/from-recbole.md");

    CLI::App* ingest = app.add_subcommand("ingest", "Raw events → session store");
    ingest->add_flag("--append", result.append,
                     "The files hold new events, which join the store that is there: known items keep their numbers. Columns, "
                     "filters and split are those of the store.");
    add_table(*ingest, collected);
    ingest->footer(
        "Examples:\n  gru4rec ingest --config configs/ml-100k.yaml --data_path .deps/data\n"
        "  gru4rec ingest --config configs/yoochoose.yaml --data_path DATA --shards 4\n"
        "  gru4rec ingest --config my.yaml --append --train_file today.tsv\n");

    CLI::App* train = app.add_subcommand("train", "Session store → checkpoints, metrics, result");
    train->add_flag("--dry_run", result.train.dry_run,
                    "Take a few steps, say what time, memory and disk the run would take, and write nothing");
    add_table(*train, collected);
    train->footer(
        "Examples:\n  mpirun -np 4 gru4rec train --config configs/ml-100k.yaml\n"
        "  gru4rec train --config configs/ml-100k.yaml --resume\n"
        "  gru4rec train --config configs/ml-100k.yaml --dry_run\n"
        "  gru4rec train --config configs/ml-100k.yaml --debug --replicas 4\n");

    CLI::App* both = app.add_subcommand("run", "ingest where there is no store yet, then train");
    add_table(*both, collected);
    both->footer(
        "Examples:\n  gru4rec run --config configs/ml-100k.yaml\n"
        "  gru4rec run --model GRU4Rec --dataset ml-100k --data_path .deps/data --neg_sampling None\n");

    CLI::App* tune = app.add_subcommand("tune", "Session store and a space of options → the best of them on valid");
    tune->add_option("--params_file", result.tune.params_file,
                     "The space, in the format of RecBole's hyper.test: a line an option, `KEY choice [..]`, `KEY uniform "
                     "LOW,HIGH`, `KEY quniform LOW,HIGH,STEP` or `KEY loguniform LOW,HIGH`")
        ->required();
    tune->add_option(
            "--algo", result.tune.algo,
            "exhaustive: every combination, where all options have a list to choose from. random: --max_evals of them, "
            "drawn by --seed. Default: exhaustive.")
        ->check(CLI::IsMember({"exhaustive", "random"}));
    tune->add_option("--max_evals", result.tune.max_evals, "Trials of random")->check(at_least_one);
    tune->add_option("--ranks_per_trial", result.tune.ranks_per_trial,
                     "Ranks that train one trial together; the number of ranks must be a multiple of it. Default: 1.")
        ->check(at_least_one);
    add_table(*tune, collected);
    tune->footer(
        "Trials are runs in RUN_DIR/tune; the same command goes on where it was stopped.\n\nExamples:\n"
        "  launch/mpirun.sh -np 2 -- tune --config configs/ml-100k.yaml --params_file configs/hyper.test\n"
        "  gru4rec tune --config configs/ml-100k.yaml --params_file space.txt --algo random --max_evals 20\n");

    CLI::App* evaluate = app.add_subcommand("evaluate", "Checkpoint and its store → metrics");
    add_checkpoint(*evaluate, result.evaluate.checkpoint, collected);
    evaluate->add_option("--split", result.evaluate.split, "test or valid")->check(CLI::IsMember({"test", "valid"}));
    evaluate->add_option("--ranks_file", result.evaluate.ranks_file, "Write the rank of every target there (TSV)");
    add_options(*evaluate, collected, concerns_evaluation);
    evaluate->footer(
        "All other options are those of the run.\n\nExamples:\n  gru4rec evaluate --checkpoint runs/ml-100k --topk [5,20]\n"
        "  mpirun -np 2 gru4rec evaluate --checkpoint runs/ml-100k/checkpoints/step-00000480.h5 --split valid\n");

    CLI::App* recommend = app.add_subcommand("recommend", "Checkpoint and sessions → the next items, as JSON lines");
    add_checkpoint(*recommend, result.recommend.checkpoint, collected);
    recommend
        ->add_option("--session", result.recommend.sessions,
                     "Item ids of a session in time order, with blanks between them. May be repeated. Without it sessions "
                     "are read from standard input, a JSON object a line")
        ->expected(1)
        ->take_all();
    recommend->add_option("--k", result.recommend.k, "Items to recommend; a line may say otherwise. Default: 20.")
        ->check(at_least_one);
    recommend
        ->add_option("--exclude_seen", result.recommend.exclude_seen,
                     "true: items of the session are not recommended again; a line may say otherwise. Default: false.")
        ->type_name("");
    recommend
        ->add_option("--exclude", result.recommend.exclude,
                     "Item ids that are not recommended, with blanks between them. May be repeated")
        ->expected(1)
        ->take_all();
    add_options(*recommend, collected, concerns_recommendation);
    recommend->footer(
        "The model and what it sees of a session are those of the run.\n\nExamples:\n"
        "  gru4rec recommend --checkpoint runs/ml-100k --session \"242 302 377\" --k 5\n"
        "  echo '{\"session\": [\"242\", \"302\"], \"exclude_seen\": true, \"id\": 7}' | gru4rec recommend --checkpoint "
        "runs/ml-100k\n");

    CLI::App* exporting = app.add_subcommand("export", "Checkpoint → TorchScript, RecBole's weights, or item vectors");
    add_checkpoint(*exporting, result.exported.checkpoint, collected);
    exporting
        ->add_option(
            "--format", result.exported.format,
            "torchscript: item ids in, the best items out. recbole: weights for RecBole's GRU4Rec, and the item ids of "
            "its rows beside. hdf5, numpy: item ids and vectors")
        ->required()
        ->check(CLI::IsMember({"torchscript", "recbole", "hdf5", "numpy"}));
    exporting->add_option("--output", result.exported.output, "File to write: .pt, .pth, .h5 or .npy")->required();
    exporting->add_option("--item_order", result.exported.item_order,
                          "Of recbole: a JSON list of item ids, [PAD] first, in whose order the rows are. RecBole has it as "
                          "dataset.field2id_token['item_id']. Default: the order of the store");
    add_options(*exporting, collected, concerns_export);
    exporting->footer(
        "Examples:\n  gru4rec export --checkpoint runs/ml-100k --format torchscript --output ml-100k.pt\n"
        "  gru4rec export --checkpoint runs/ml-100k --format recbole --item_order recbole-items.json --output ml-100k.pth\n"
        "  gru4rec export --checkpoint runs/ml-100k --format numpy --output items.npy\n");

    CLI::App* doctor = app.add_subcommand("doctor", "Compare the ranks and time what they say to each other");
    add_table(*doctor, collected);
    doctor->footer(
        "With a configuration the store is compared too; without one, hosts and network only.\n\nExamples:\n"
        "  launch/mpirun.sh -np 4 --hostfile hosts -- doctor --config configs/ml-100k.yaml\n  gru4rec doctor\n");

    CLI::App* options = app.add_subcommand("options", "Print the options that train would have, as YAML");
    add_table(*options, collected);
    options->footer("Examples:\n  gru4rec options --config configs/ml-100k.yaml --epochs 3 >my.yaml\n");

    CLI::App* report = app.add_subcommand("report", "Folder of a run or of a tuning → report.html, a page about it");
    report->add_option("run", result.report.run, "RUN_DIR of train or tune")->required();
    report->footer(
        "train and tune write it at their end; this makes it again, also while they go on or after they were killed.\n\n"
        "Examples:\n  gru4rec report runs/ml-100k\n");

    CLI::App* inspect = app.add_subcommand("inspect", "Show, verify or seal a store or a checkpoint");
    inspect->add_option("path", result.inspect.path, "A store's folder, a run's folder, or a checkpoint")->required();
    inspect->add_flag("--digest", result.inspect.digest, "Print the digest only");
    inspect->add_flag("--verify", result.inspect.verify, "Check every block");
    inspect->add_flag("--seal", result.inspect.seal, "Give the files of a store written by others their checksums and seals");
    inspect->footer("Examples:\n  gru4rec inspect store/ml-100k --verify\n  gru4rec inspect runs/ml-100k --digest\n");
  }
};

}  // namespace

CommandLine parse_command_line(int argc, const char* const* argv, bool read_files) {
  Parser parser;
  check_command(parser.app, argc, argv);
  try {
    parser.app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    const auto chosen = parser.app.get_subcommands();
    parser.result.text = chosen.empty() ? parser.app.help() : chosen.front()->help();
    return parser.result;
  } catch (const CLI::ParseError& error) {
    throw UserError("{}. gru4rec --help shows the commands, gru4rec COMMAND --help their options.", error.what());
  }
  const auto chosen = parser.app.get_subcommands();
  if (parser.version) {
    parser.result.text = fmt::format("gru4rec {}\n", kVersion);
    return parser.result;
  }
  if (chosen.empty() || chosen.front()->get_name() == "help") {
    parser.result.text = parser.configuration_page ? configuration_markdown()
                         : parser.recbole_table    ? recbole_markdown()
                                                   : parser.app.help();
    return parser.result;
  }
  parser.result.command = chosen.front()->get_name();
  if (parser.result.command == "inspect" || parser.result.command == "report" || !read_files) return parser.result;
  const std::vector<std::string> extras = chosen.front()->remaining();
  static const std::set<std::string> of_a_checkpoint = {"evaluate", "recommend", "export"};
  if (of_a_checkpoint.contains(parser.result.command)) {
    if (!extras.empty())
      throw UserError("{0} has no option '{1}': but for those of gru4rec {0} --help, options are the run's.",
                      parser.result.command, extras.front());
    const std::vector<Override> overrides = parser.collected.all_overrides();
    parser.result.options = with_overrides({}, overrides);
    parser.result.evaluate.overrides = overrides;
    parser.result.recommend.overrides = overrides;
    parser.result.exported.overrides = overrides;
    return parser.result;
  }
  collect_extras(extras, parser.collected);
  const Configuration configuration = read_configuration(
      {parser.collected.config_files.begin(), parser.collected.config_files.end()}, parser.collected.all_overrides());
  parser.result.options = configuration.options;
  parser.result.warnings = configuration.warnings;
  parser.result.names_data = !parser.collected.config_files.empty() || !parser.collected.overrides.empty();
  return parser.result;
}

}  // namespace gru4rec

// From YAML files and command-line overrides to Options, and back. Everything is Local: no MPI, GPU or data file is touched.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "gru4rec/base/options.h"

namespace gru4rec {

// `--key value` of the command line, or of a search space.
struct Override {
  std::string key;
  std::string value;                   // YAML or a Python literal
  std::string place = "command line";  // where it stands, for messages
};

struct Configuration {
  Options options;                    // resolved: every path is filled in
  std::vector<std::string> warnings;  // one line each, to be logged by rank 0
};

// Reads the files in order (a later one wins, as in RecBole's config_file_list), then the overrides, on top of `base`; checks
// every option and the options against each other. What has no effect is a warning. Throws one UserError that lists all that is
// wrong:
//
//   2 errors in the configuration:
//     unknown option 'lerning_rate' (configs/rsc15.yaml:12); did you mean 'learning_rate'?
//     option 'epochs' (command line): got 'many', wanted an integer of 0 or more.
//
// Example:
//   Configuration config = read_configuration({"configs/tiny.yaml"}, {{"epochs", "3"}});
Configuration read_configuration(const std::vector<std::filesystem::path>& files, const std::vector<Override>& overrides,
                                 const Options& base = {});

// `base` with overrides on top, each checked by itself only. Throws like read_configuration.
Options with_overrides(const Options& base, const std::vector<Override>& overrides);

// A line for each option that is not at its default and changes nothing, as another one has not the value that it needs.
std::vector<std::string> idle_options(const Options& options);

// Fills in the folders that are empty: store/DATASET, runs/DATASET, RUN_DIR/checkpoints.
Options resolve_paths(Options options);

// The options as YAML, sectioned and complete. Law: options_from_yaml(to_yaml(o)) == o for every o that was read.
std::string to_yaml(const Options& options);

// The subset that changes what a run computes from the same store, in the order of the table; part of a checkpoint's /state.
std::string numbers_to_yaml(const Options& options);

// Reads the text of to_yaml or numbers_to_yaml on top of `base`; `name` stands for the text in errors. Throws UserError.
Options options_from_yaml(const std::string& text, const std::string& name, const Options& base = {});

// "learning_rate: 0.001 → 0.01" for each option that differs; `numbers_only`: those of numbers_to_yaml only.
std::vector<std::string> differences(const Options& before, const Options& now, bool numbers_only);

// The same of the options that say what is made of events, wherever those lie; `only_set`: those that `now` has not at their
// default.
std::vector<std::string> data_differences(const Options& before, const Options& now, bool only_set = false);

// The resolved options as a text table, those that are not at their default marked.
std::string options_text(const Options& options);

}  // namespace gru4rec

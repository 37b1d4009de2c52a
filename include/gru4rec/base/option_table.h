// The table of options: one row an option, and from it come the parser, the defaults, the checks, the help and
// docs/configuration.md. A second table says what becomes of RecBole's keys that are no options here. Everything in this
// file is Local and safe for several threads: both tables are made once and never change.
#pragma once

#include <functional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "gru4rec/base/options.h"

namespace YAML {
class Node;
}

namespace gru4rec {

enum class Section { data, model, training, evaluation, runs, surroundings };
std::string_view title_of(Section section);

enum class Origin {
  recbole,           // RecBole's name, meaning and default
  recbole_extended,  // RecBole's name and meaning; the default or the accepted values differ (the help says how)
  ours,              // RecBole has nothing like it
};

// A value that cannot be taken; what() is the sentence "wanted …" without the key and its place. Thrown by Codec::read only.
struct BadValue : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// How one option is read from YAML and written back.
struct Codec {
  std::string wanted;                                         // "an integer of 1 or more"
  std::function<void(const YAML::Node&, Options&)> read;      // throws BadValue
  std::function<std::string(const Options&)> write;           // one line of YAML that read() takes back to the same value
  bool is_flag = false;                                       // --key alone means true
  bool is_text = false;                                       // on the command line taken as it is, not as YAML
};

struct OptionRow {
  std::string key;
  Section section;
  Origin origin;
  bool affects_numbers;  // changes what a run computes from the same store: kept in the checkpoint, must match on resume
  Codec codec;
  std::string help;      // effect, and what larger and smaller values do

  std::string default_text() const { return codec.write(Options{}); }
};

// All options, grouped by section.
const std::vector<OptionRow>& option_table();

// Its row, or null.
const OptionRow* find_option(std::string_view key);

// What becomes of a key of RecBole that is no option here.
struct RecBoleKey {
  enum class Treatment {
    translated,  // sets an option of another name, or is checked and has nothing to set
    ignored,     // one warning line
    refused,     // an error, unless its value is one of `harmless`
  };
  std::string key;
  std::string source;                  // the file of RecBole that has it
  Treatment treatment;
  std::vector<std::string> harmless;   // refused keys: values that ask for what happens anyway
  std::string reason;                  // why, or what to use instead; a clause that follows "because" or a colon
  std::function<void(const YAML::Node&, Options&)> translate = {};  // translated keys; throws BadValue
};
const std::vector<RecBoleKey>& recbole_keys();
const RecBoleKey* find_recbole_key(std::string_view key);

// The option or RecBole key nearest to a mistyped one, or "" if none is near (Damerau-Levenshtein distance, case ignored).
std::string nearest_key(std::string_view mistyped, const std::vector<std::string>& more = {});

// docs/configuration.md in full.
std::string configuration_markdown();

// The table of docs/from-recbole.md: every key of RecBole's overall.yaml, sample.yaml and GRU4Rec.yaml.
std::string recbole_markdown();

}  // namespace gru4rec

// How each kind of option is read from YAML and written back: the building blocks of the table in option_table.cpp. Values may
// be YAML or the Python literals RecBole's users write: None, True, {'uniform': 1}, also as a quoted string. Local.
#pragma once

#include <yaml-cpp/yaml.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gru4rec/base/option_table.h"

namespace gru4rec::codecs {

// None, null, ~ or nothing. A quoted "None" counts too, as RecBole evaluates strings.
bool is_none(const YAML::Node& node);
// The value on one line, for messages.
std::string shown(const YAML::Node& node);
// A quoted YAML scalar, or the text itself where that is the same.
std::string quoted(const std::string& text);
// YAML or a Python literal; text that is neither, such as [0,inf), becomes a scalar, and so does text that goes on after its
// closing bracket, of which yaml-cpp would read the beginning only.
YAML::Node parsed(const std::string& text);
// A list or a map that was written as a string is parsed; everything else is returned as it is.
YAML::Node unwrapped(const YAML::Node& node);
bool read_bool(const YAML::Node& node);  // these three throw BadValue
double read_real(const YAML::Node& node);
int64_t read_integer(const YAML::Node& node);
std::string real_text(double value);  // shortest text that reads back to the same bits

struct Range {
  double low;
  double high;
  bool low_open = false;
  bool high_open = false;
  bool contains(double value) const;
  std::string text() const;  // "of 1 or more", "above 0", "from 0 to below 1"
};
Range at_least(double low);
Range above(double low);
Range between(double low, double high);  // both included
Range below(double low, double high);    // the upper end left out

Codec integer(int64_t Options::*member, Range range);
Codec seed(uint64_t Options::*member);
Codec real(double Options::*member, Range range);
Codec fraction(double Options::*member, Range range);  // a number, or 1/64
Codec flag(bool Options::*member);
Codec text(std::string Options::*member, bool may_be_empty);
Codec one_character(std::string Options::*member);
Codec integers(std::vector<int64_t> Options::*member);
Codec intervals(Intervals Options::*member);
Codec intervals_by_column(std::map<std::string, Intervals> Options::*member);
Codec metric_list(std::vector<std::string> Options::*member);
Codec metric_at(std::string Options::*member);  // MRR@10
Codec clip_norm();                              // clip_grad_norm and its type
Codec negatives();                              // train_neg_sample_args
Codec split();                                  // eval_args
Codec file_suffixes(std::vector<std::string> Options::*member);

// RecBole's train_neg_sample_args, or the neg_sampling of its older versions, {'uniform': 1}. Throws BadValue.
NegativeSampling read_negatives(const YAML::Node& node);

// A word that is known but refused.
struct Refusal {
  std::string word;
  std::string reason;
};
// One of the given words, case ignored; stored as given here.
Codec word(std::string Options::*member, std::vector<std::string> words, std::vector<Refusal> refused = {});
// The one of `words` that the node names; "none" stands for None. Throws BadValue.
std::string one_of(const std::vector<std::string>& words, const YAML::Node& node, const std::vector<Refusal>& refused);

// An enumerator by its name, case ignored.
template <typename Enum>
using Names = std::vector<std::pair<std::string, Enum>>;
template <typename Enum>
Codec choice(Enum Options::*member, Names<Enum> names, std::vector<Refusal> refused = {}) {
  std::vector<std::string> words;
  for (const auto& [name, value] : names) words.push_back(name);
  Codec codec;
  for (const std::string& each : words) codec.wanted += (codec.wanted.empty() ? "" : " or ") + each;
  codec.read = [=](const YAML::Node& node, Options& options) {
    const std::string found = one_of(words, node, refused);
    for (const auto& [name, value] : names)
      if (name == found) options.*member = value;
  };
  codec.write = [=](const Options& options) {
    for (const auto& [name, value] : names)
      if (value == options.*member) return name;
    return std::string();
  };
  return codec;
}

}  // namespace gru4rec::codecs

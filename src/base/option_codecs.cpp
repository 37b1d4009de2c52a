#include "option_codecs.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <limits>
#include <set>
#include <sstream>

#include "gru4rec/base/text.h"

namespace gru4rec {

bool Interval::contains(double value) const {
  return (low_closed ? value >= low : value > low) && (high_closed ? value <= high : value < high);
}

bool contained(double value, const Intervals& intervals) {
  return std::ranges::any_of(intervals, [=](const Interval& each) { return each.contains(value); });
}

}  // namespace gru4rec

namespace gru4rec::codecs {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

std::string scalar_of(const YAML::Node& node) {
  if (!node.IsScalar()) throw BadValue("");
  return trimmed(node.Scalar());
}

// 12, -3.5, 1e-3, inf; the whole text must be the number. NaN is none.
bool parse_real(const std::string& text, double& value) {
  const char* first = text.data() + (text.starts_with('+') ? 1 : 0);
  const char* last = text.data() + text.size();
  const auto [end, error] = std::from_chars(first, last, value);
  return error == std::errc() && end == last && first != last && !std::isnan(value);
}

Interval in_order(const Interval& interval) {
  if (interval.low > interval.high) throw BadValue("an interval whose lower end comes first");
  return interval;
}

// "[5,inf)"
Interval read_interval(const std::string& text) {
  Interval interval;
  const size_t comma = text.find(',');
  if (text.size() < 5 || comma == std::string::npos) throw BadValue("");
  const char left = text.front(), right = text.back();
  if ((left != '[' && left != '(') || (right != ']' && right != ')')) throw BadValue("");
  interval.low_closed = left == '[';
  interval.high_closed = right == ']';
  if (!parse_real(trimmed(text.substr(1, comma - 1)), interval.low) ||
      !parse_real(trimmed(text.substr(comma + 1, text.size() - comma - 2)), interval.high))
    throw BadValue("");
  return in_order(interval);
}

// Intervals joined by ';', or a list of two numbers: both ends belong to it. None is no interval.
Intervals read_intervals(const YAML::Node& node) {
  if (is_none(node)) return {};
  if (node.IsSequence() && node.size() == 2) return {in_order({read_real(node[0]), read_real(node[1]), true, true})};
  Intervals intervals;
  std::istringstream text(scalar_of(node));
  for (std::string each; std::getline(text, each, ';');) intervals.push_back(read_interval(trimmed(each)));
  if (intervals.empty()) throw BadValue("");
  return intervals;
}

std::string intervals_text(const Intervals& intervals) {
  if (intervals.empty()) return "None";
  std::string text;
  for (const Interval& each : intervals)
    text += fmt::format("{}{}{},{}{}", text.empty() ? "" : ";", each.low_closed ? '[' : '(', real_text(each.low),
                        real_text(each.high), each.high_closed ? ']' : ')');
  return '"' + text + '"';
}

// The canonical name of a metric, or BadValue.
std::string read_metric(const std::string& name) {
  for (const char* known : {"Recall", "MRR", "NDCG", "Hit", "Precision"})
    if (lower(known) == lower(name)) return known;
  throw BadValue("Recall, MRR, NDCG, Hit or Precision");
}

// A list, or a single value as a list of one; None is the empty list.
std::vector<YAML::Node> elements(const YAML::Node& given) {
  const YAML::Node node = unwrapped(given);
  if (is_none(node)) return {};
  if (!node.IsSequence()) return {node};
  return {node.begin(), node.end()};
}

template <typename T>
void refuse_repeats(const std::vector<T>& values) {
  if (std::set<T>(values.begin(), values.end()).size() != values.size()) throw BadValue("each value once");
}

YAML::Node map_of(const YAML::Node& given) {
  const YAML::Node node = unwrapped(given);
  if (!node.IsMap()) throw BadValue("");
  return node;
}

}  // namespace

bool is_none(const YAML::Node& node) {
  if (!node.IsDefined() || node.IsNull()) return true;
  if (!node.IsScalar()) return false;
  const std::string text = trimmed(node.Scalar());
  return text == "None" || text == "null" || text == "~" || text == "Null" || text == "NULL";
}

std::string shown(const YAML::Node& node) {
  if (!node.IsDefined() || node.IsNull()) return "None";
  if (node.IsScalar()) return fmt::format("'{}'", node.Scalar());
  YAML::Emitter out;
  out << YAML::Flow << node;
  std::string text = out.c_str();
  std::ranges::replace(text, '\n', ' ');
  return text.size() > 120 ? text.substr(0, 117) + "..." : text;
}

std::string quoted(const std::string& text) {
  static constexpr std::string_view kPlain = "_-./";
  const bool plain =
      !text.empty() && std::isalpha(static_cast<unsigned char>(text.front())) && std::ranges::all_of(text, [](unsigned char c) {
        return c < 0x80 && (std::isalnum(c) || kPlain.find(static_cast<char>(c)) != std::string_view::npos);
      });
  static const std::set<std::string> words = {"none", "null", "true", "false", "yes", "no", "on", "off", "y", "n"};
  if (plain && !words.contains(lower(text))) return text;
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\t') {
      out += "\\t";
    } else if (c == '\n') {
      out += "\\n";
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    } else {
      out += c;
    }
  }
  return out + '"';
}

namespace {

// Whether the bracket that opens the text is closed at its very end, quoted brackets aside.
bool is_one_bracketed(const std::string& text) {
  int depth = 0;
  char quote = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quote != 0) {
      if (c == quote) quote = 0;
    } else if (c == '"' || c == '\'') {
      quote = c;
    } else if (c == '[' || c == '{') {
      ++depth;
    } else if ((c == ']' || c == '}') && --depth == 0) {
      return i + 1 == text.size();
    }
  }
  return false;
}

}  // namespace

YAML::Node parsed(const std::string& given) {
  const std::string text = trimmed(given);
  const bool bracketed = text.starts_with('[') || text.starts_with('{');
  if (bracketed && !is_one_bracketed(text)) return YAML::Node(given);
  try {
    return YAML::Load(text);
  } catch (const YAML::Exception&) {
    return YAML::Node(given);
  }
}

YAML::Node unwrapped(const YAML::Node& node) {
  if (!node.IsScalar()) return node;
  const std::string text = trimmed(node.Scalar());
  return text.starts_with('[') || text.starts_with('{') ? parsed(text) : node;
}

bool read_bool(const YAML::Node& node) {
  const std::string text = lower(scalar_of(node));
  if (text == "true" || text == "yes" || text == "on" || text == "1") return true;
  if (text == "false" || text == "no" || text == "off" || text == "0") return false;
  throw BadValue("");
}

double read_real(const YAML::Node& node) {
  double value = 0.0;
  if (!parse_real(scalar_of(node), value)) throw BadValue("");
  return value;
}

int64_t read_integer(const YAML::Node& node) {
  const std::string text = scalar_of(node);
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) throw BadValue("");
  return value;
}

std::string real_text(double value) { return fmt::format("{}", value); }

bool Range::contains(double value) const {
  return (low_open ? value > low : value >= low) && (high_open ? value < high : value <= high);
}

std::string Range::text() const {
  if (high == kInfinity) return low_open ? fmt::format("above {}", low) : fmt::format("of {} or more", low);
  if (low_open) return fmt::format("above {} and {} {}", low, high_open ? "below" : "at most", high);
  return fmt::format("from {} to {}{}", low, high_open ? "below " : "", high);
}

Range at_least(double low) { return {low, kInfinity, false, true}; }
Range above(double low) { return {low, kInfinity, true, true}; }
Range between(double low, double high) { return {low, high, false, false}; }
Range below(double low, double high) { return {low, high, false, true}; }

Codec integer(int64_t Options::*member, Range range) {
  return {"an integer " + range.text(),
          [=](const YAML::Node& node, Options& options) {
            const int64_t value = read_integer(node);
            if (!range.contains(static_cast<double>(value))) throw BadValue("");
            options.*member = value;
          },
          [=](const Options& options) { return std::to_string(options.*member); }};
}

Codec seed(uint64_t Options::*member) {
  return {"an integer of 0 or more",
          [=](const YAML::Node& node, Options& options) {
            const std::string text = scalar_of(node);
            const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), options.*member);
            if (error != std::errc() || end != text.data() + text.size()) throw BadValue("");
          },
          [=](const Options& options) { return std::to_string(options.*member); }};
}

Codec real(double Options::*member, Range range) {
  return {"a number " + range.text(),
          [=](const YAML::Node& node, Options& options) {
            const double value = read_real(node);
            if (!range.contains(value)) throw BadValue("");
            options.*member = value;
          },
          [=](const Options& options) { return real_text(options.*member); }};
}

Codec fraction(double Options::*member, Range range) {
  return {fmt::format("a fraction {}, such as 0.25 or 1/64", range.text()),
          [=](const YAML::Node& node, Options& options) {
            const std::string text = scalar_of(node);
            const size_t slash = text.find('/');
            double value = 0, divisor = 1;
            if (!parse_real(trimmed(text.substr(0, slash)), value)) throw BadValue("");
            if (slash != std::string::npos && !parse_real(trimmed(text.substr(slash + 1)), divisor)) throw BadValue("");
            if (!range.contains(value / divisor)) throw BadValue("");
            options.*member = value / divisor;
          },
          [=](const Options& options) { return real_text(options.*member); }};
}

Codec flag(bool Options::*member) {
  return {.wanted = "True or False",
          .read = [=](const YAML::Node& node, Options& options) { options.*member = read_bool(node); },
          .write = [=](const Options& options) { return std::string(options.*member ? "true" : "false"); },
          .is_flag = true};
}

Codec text(std::string Options::*member, bool may_be_empty) {
  return {
      .wanted = may_be_empty ? "text or None" : "text that is not empty",
      .read =
          [=](const YAML::Node& node, Options& options) {
            const bool is_quoted = node.IsScalar() && node.Tag() == "!";  // "None" in quotes is a name like any other
            const std::string value = is_none(node) && !is_quoted ? "" : node.IsScalar() ? node.Scalar() : throw BadValue("");
            if (value.empty() && !may_be_empty) throw BadValue("");
            options.*member = value;
          },
      .write = [=](const Options& options) { return quoted(options.*member); },
      .is_text = true};
}

Codec one_character(std::string Options::*member) {
  return {.wanted = "one character, such as \"\\t\" or \",\"",
          .read =
              [=](const YAML::Node& node, Options& options) {
                if (!node.IsScalar()) throw BadValue("");
                const std::string value = node.Scalar() == "\\t" ? "\t" : node.Scalar();
                if (value.size() != 1 || value == "\n" || value == "\"") throw BadValue("");
                options.*member = value;
              },
          .write = [=](const Options& options) { return quoted(options.*member); },
          .is_text = true};
}

Codec word(std::string Options::*member, std::vector<std::string> words, std::vector<Refusal> refused) {
  return {.wanted = fmt::format("{}", fmt::join(words, " or ")),
          .read = [=](const YAML::Node& node, Options& options) { options.*member = one_of(words, node, refused); },
          .write = [=](const Options& options) { return quoted(options.*member); }};
}

std::string one_of(const std::vector<std::string>& words, const YAML::Node& node, const std::vector<Refusal>& refused) {
  const std::string text = is_none(node) ? "none" : lower(scalar_of(node));
  for (const Refusal& each : refused)
    if (text == lower(each.word)) throw BadValue(fmt::format("{} ({})", fmt::join(words, " or "), each.reason));
  for (const std::string& each : words)
    if (text == lower(each)) return each;
  throw BadValue("");
}

Codec integers(std::vector<int64_t> Options::*member) {
  return {"a list of integers of 1 or more, each once",
          [=](const YAML::Node& node, Options& options) {
            std::vector<int64_t> values;
            for (const YAML::Node& each : elements(node)) values.push_back(read_integer(each));
            if (values.empty() || std::ranges::min(values) < 1) throw BadValue("");
            refuse_repeats(values);
            options.*member = values;
          },
          [=](const Options& options) { return fmt::format("[{}]", fmt::join(options.*member, ", ")); }};
}

Codec intervals(Intervals Options::*member) {
  return {"an interval such as \"[5,inf)\", several joined by ';', or None",
          [=](const YAML::Node& node, Options& options) { options.*member = read_intervals(node); },
          [=](const Options& options) { return intervals_text(options.*member); }};
}

Codec intervals_by_column(std::map<std::string, Intervals> Options::*member) {
  return {"a map from columns to intervals, such as {'rating': \"[3,inf)\"}, or None",
          [=](const YAML::Node& given, Options& options) {
            std::map<std::string, Intervals> by_column;
            if (!is_none(given))
              for (const auto& column : map_of(given))
                if (!is_none(column.second)) by_column[scalar_of(column.first)] = read_intervals(column.second);
            options.*member = by_column;
          },
          [=](const Options& options) {
            std::vector<std::string> entries;
            for (const auto& [column, each] : options.*member)
              entries.push_back(fmt::format("{}: {}", quoted(column), intervals_text(each)));
            return entries.empty() ? "None" : fmt::format("{{{}}}", fmt::join(entries, ", "));
          }};
}

Codec metric_list(std::vector<std::string> Options::*member) {
  return {"a list out of Recall, MRR, NDCG, Hit and Precision, each once",
          [=](const YAML::Node& node, Options& options) {
            std::vector<std::string> names;
            for (const YAML::Node& each : elements(node)) names.push_back(read_metric(scalar_of(each)));
            if (names.empty()) throw BadValue("");
            refuse_repeats(names);
            options.*member = names;
          },
          [=](const Options& options) { return fmt::format("[{}]", fmt::join(options.*member, ", ")); }};
}

Codec metric_at(std::string Options::*member) {
  return {"a metric at a k, such as MRR@10",
          [=](const YAML::Node& node, Options& options) {
            const std::string text = scalar_of(node);
            const size_t at = text.find('@');
            if (at == std::string::npos) throw BadValue("");
            const int64_t k = read_integer(YAML::Node(text.substr(at + 1)));
            if (k < 1) throw BadValue("");
            options.*member = fmt::format("{}@{}", read_metric(text.substr(0, at)), k);
          },
          [=](const Options& options) { return quoted(options.*member); }};
}

Codec clip_norm() {
  return {"a number of 0 or more, a map {max_norm: 5, norm_type: 2}, or None",
          [](const YAML::Node& given, Options& options) {
            double norm = 0.0, type = Options{}.clip_grad_norm_type;
            const YAML::Node node = unwrapped(given);
            if (node.IsMap()) {
              if (!node["max_norm"]) throw BadValue("a map with max_norm");
              for (const auto& each : node) {
                const std::string name = scalar_of(each.first);
                if (name == "max_norm")
                  norm = read_real(each.second);
                else if (name == "norm_type")
                  type = read_real(each.second);
                else if (name != "error_if_nonfinite")  // a gradient that is not finite always stops the run
                  throw BadValue("a map of max_norm and norm_type");
              }
            } else if (!is_none(node)) {
              norm = read_real(node);
            }
            if (!(norm >= 0.0 && norm < kInfinity && type > 0.0)) throw BadValue("");
            options.clip_grad_norm = norm;
            options.clip_grad_norm_type = norm > 0.0 ? type : Options{}.clip_grad_norm_type;
          },
          [](const Options& options) {
            if (options.clip_grad_norm == 0.0) return std::string("None");
            return fmt::format("{{max_norm: {}, norm_type: {}}}", real_text(options.clip_grad_norm),
                               real_text(options.clip_grad_norm_type));
          }};
}

NegativeSampling read_negatives(const YAML::Node& given) {
  NegativeSampling negatives;
  const YAML::Node node = unwrapped(given);
  if (is_none(node)) return negatives;
  if (!node.IsMap()) throw BadValue("");
  const auto distribution_of = [](const std::string& name) {
    if (name == "none" || name == "None") return NegativeDistribution::none;
    if (name == "uniform") return NegativeDistribution::uniform;
    if (name == "popularity") return NegativeDistribution::popularity;
    throw BadValue("distribution none, uniform or popularity");
  };
  for (const auto& each : node) {
    const std::string name = scalar_of(each.first);
    if (name == "distribution") {
      negatives.distribution = distribution_of(is_none(each.second) ? "none" : scalar_of(each.second));
    } else if (name == "sample_num") {
      negatives.sample_num = read_integer(each.second);
    } else if (name == "alpha") {
      negatives.alpha = read_real(each.second);
    } else if (name == "dynamic") {
      if (read_bool(each.second)) throw BadValue("dynamic False: negatives chosen by the model are not implemented");
    } else if (name == "candidate_num") {
      if (read_integer(each.second) != 0) throw BadValue("candidate_num 0: negatives chosen by the model are not implemented");
    } else if (node.size() == 1) {  // of older versions
      negatives.distribution = distribution_of(name);
      negatives.sample_num = read_integer(each.second);
    } else {
      throw BadValue("a map of distribution, sample_num and alpha");
    }
  }
  if (negatives.sample_num < 1 || negatives.sample_num > 4096) throw BadValue("sample_num from 1 to 4096");
  if (!(negatives.alpha > 0 && negatives.alpha < kInfinity)) throw BadValue("alpha above 0");
  if (negatives.distribution == NegativeDistribution::none) return {};
  return negatives;
}

Codec negatives() {
  return {"None, or a map such as {'distribution': 'uniform', 'sample_num': 1, 'alpha': 1.0}",
          [](const YAML::Node& node, Options& options) { options.train_neg_sample_args = read_negatives(node); },
          [](const Options& options) {
            const NegativeSampling& negatives = options.train_neg_sample_args;
            if (negatives.distribution == NegativeDistribution::none) return std::string("None");
            return fmt::format("{{distribution: {}, sample_num: {}, alpha: {}}}",
                               negatives.distribution == NegativeDistribution::uniform ? "uniform" : "popularity",
                               negatives.sample_num, real_text(negatives.alpha));
          }};
}

Codec file_suffixes(std::vector<std::string> Options::*member) {
  return {"a list of three file suffixes for train, valid and test, or None",
          [=](const YAML::Node& node, Options& options) {
            std::vector<std::string> suffixes;
            for (const YAML::Node& each : elements(node)) suffixes.push_back(scalar_of(each));
            if (!suffixes.empty() && suffixes.size() != 3) throw BadValue("");
            if (std::ranges::any_of(suffixes, &std::string::empty)) throw BadValue("");
            options.*member = suffixes;
          },
          [=](const Options& options) {
            std::vector<std::string> names;
            for (const std::string& each : options.*member) names.push_back(quoted(each));
            return names.empty() ? "None" : fmt::format("[{}]", fmt::join(names, ", "));
          }};
}

namespace {

// Test and valid as fractions of the sessions, {test: 0.1, valid: 0.1}, or as the last days, {test_days: 1, valid_days: 1}.
void read_temporal(const YAML::Node& node, bool has_test, SplitOptions& split) {
  std::set<std::string> seen;
  for (const auto& each : node) {
    const std::string name = scalar_of(each.first);
    const bool days = name.ends_with("_days");
    const std::string part = days ? name.substr(0, name.size() - 5) : name;
    const double value = read_real(each.second);
    if ((part != "test" || !has_test) && part != "valid") throw BadValue("");
    if (!seen.empty() && days != split.temporal_days) throw BadValue("valid and test both in days or both as fractions");
    if (value < 0.0 || value == kInfinity) throw BadValue("days or fractions of 0 or more");
    seen.insert(part);
    split.temporal_days = days;
    (part == "test" ? split.temporal_test : split.temporal_valid) = value;
  }
  if (has_test && split.temporal_test == 0.0) throw BadValue("a test part above 0");
  if (!split.temporal_days && split.temporal_test + split.temporal_valid >= 1.0)
    throw BadValue("fractions of test and valid that leave something to train on");
}

// [0.8, 0.1, 0.1], scaled to a sum of 1 as in RecBole.
std::vector<double> read_ratio(const YAML::Node& node) {
  std::vector<double> ratio;
  for (const YAML::Node& each : elements(node)) ratio.push_back(read_real(each));
  if (ratio.size() != 3 || std::ranges::min(ratio) < 0.0 || ratio[0] == 0.0 || std::ranges::max(ratio) == kInfinity)
    throw BadValue("three ratios [train, valid, test] of 0 or more, train above 0");
  const double sum = ratio[0] + ratio[1] + ratio[2];
  if (std::abs(sum - 1.0) > 1e-9)
    for (double& each : ratio) each /= sum;
  return ratio;
}

SplitOptions read_split(const YAML::Node& given) {
  const YAML::Node node = map_of(given);
  if (node.size() != 1) throw BadValue("one way to split: LS, RS, TS or files");
  const std::string kind = scalar_of(node.begin()->first);
  const YAML::Node value = unwrapped(node.begin()->second);
  SplitOptions split;
  if (kind == "LS") {
    if (scalar_of(value) != "valid_and_test") throw BadValue("{'LS': 'valid_and_test'} (both parts are always made)");
  } else if (kind == "RS") {
    split.kind = SplitKind::ratio;
    split.ratio = read_ratio(value);
  } else if (kind == "TS") {
    split.kind = SplitKind::temporal;
    if (value.IsSequence()) {
      const std::vector<double> ratio = read_ratio(value);
      split.temporal_valid = ratio[1];
      split.temporal_test = ratio[2];
      if (split.temporal_test == 0.0) throw BadValue("a test part above 0");
    } else if (value.IsMap()) {
      read_temporal(value, true, split);
    } else {
      throw BadValue("TS with {test_days: 1, valid_days: 1}, {test: 0.1, valid: 0.1} or [0.8, 0.1, 0.1]");
    }
  } else if (kind == "files") {
    split.kind = SplitKind::files;
    if (value.IsMap())
      read_temporal(value, false, split);
    else if (scalar_of(value) != "given")
      throw BadValue("{'files': 'given'}, or {'files': {'valid_days': 1}} to cut valid off the end of train_file");
  } else {
    throw BadValue("one of LS, RS, TS and files as split");
  }
  return split;
}

void check_mode(const YAML::Node& mode) {
  if (mode.IsMap()) {
    for (const auto& part : mode) check_mode(part.second);
    return;
  }
  if (scalar_of(mode) != "full")
    throw BadValue("mode 'full' (sampled and labeled evaluation are refused: they give other rankings than the full one)");
}

std::string split_text(const SplitOptions& split) {
  const std::string suffix = split.temporal_days ? "_days" : "";
  switch (split.kind) {
    case SplitKind::leave_one_out:
      return "{LS: valid_and_test}";
    case SplitKind::ratio: {
      std::vector<std::string> parts;
      for (const double each : split.ratio) parts.push_back(real_text(each));
      return fmt::format("{{RS: [{}]}}", fmt::join(parts, ", "));
    }
    case SplitKind::temporal:
      return fmt::format("{{TS: {{test{0}: {1}, valid{0}: {2}}}}}", suffix, real_text(split.temporal_test),
                         real_text(split.temporal_valid));
    case SplitKind::files:
      if (split.temporal_valid == 0.0) return "{files: given}";
      return fmt::format("{{files: {{valid{}: {}}}}}", suffix, real_text(split.temporal_valid));
  }
  return {};
}

}  // namespace

Codec split() {
  return {
      "a map of split, order, mode and group_by, such as {'split': {'LS': 'valid_and_test'}, 'order': 'TO', 'mode': 'full'}",
      [](const YAML::Node& given, Options& options) {
        SplitOptions split;
        std::string group = "user";
        for (const auto& each : map_of(given)) {
          const std::string name = scalar_of(each.first);
          if (name == "split") {
            split = read_split(each.second);
          } else if (name == "order") {
            if (scalar_of(each.second) != "TO")
              throw BadValue("order 'TO' (a model of sequences has no use for the random order 'RO')");
          } else if (name == "mode") {
            check_mode(unwrapped(each.second));
          } else if (name == "group_by") {
            group = is_none(each.second) ? "none" : scalar_of(each.second);
            if (group != "user" && group != "none") throw BadValue("group_by 'user'");
          } else {
            throw BadValue(fmt::format("only split, order, mode and group_by, not '{}'", name));
          }
        }
        if (split.kind == SplitKind::ratio && group != "user")
          throw BadValue("group_by 'user' with RS (TS divides all sessions by time)");
        options.split = split;
      },
      [](const Options& options) {
        return fmt::format("{{split: {}, order: TO, mode: full, group_by: user}}", split_text(options.split));
      }};
}

}  // namespace gru4rec::codecs

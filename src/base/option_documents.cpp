#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "gru4rec/base/option_table.h"

namespace gru4rec {
namespace {

// A table cell: no bars, no line ends.
std::string cell(std::string text) {
  for (size_t at = 0; (at = text.find('|', at)) != std::string::npos; at += 2) text.insert(at, "\\");
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

std::string_view origin_text(Origin origin) {
  switch (origin) {
    case Origin::recbole:
      return "RecBole";
    case Origin::recbole_extended:
      return "RecBole, differs";
    case Origin::ours:
      return "ours";
  }
  return {};
}

std::string_view treatment_text(RecBoleKey::Treatment treatment) {
  switch (treatment) {
    case RecBoleKey::Treatment::translated:
      return "translated";
    case RecBoleKey::Treatment::ignored:
      return "ignored, with one warning line";
    case RecBoleKey::Treatment::refused:
      return "refused";
  }
  return {};
}

}  // namespace

std::string configuration_markdown() {
  std::string text =
      "# Configuration\n\n"
      "Written by `gru4rec help --configuration`; do not edit. Options stand in YAML files (`--config FILE`, a later one wins) "
      "or on "
      "the command line (`--key value`, `--key=value`), which wins over files. Python literals (`None`, `True`, `{'a': 1}`) "
      "are "
      "read. An option marked *numbers* changes what a run computes from the same store: it is kept in the checkpoint and must "
      "be "
      "the same when the run is resumed.\n";
  Section section{};
  bool first = true;
  for (const OptionRow& row : option_table()) {
    if (first || row.section != section)
      text += fmt::format("\n## {}\n\n| option | default | wanted | from | numbers | effect |\n|---|---|---|---|---|---|\n",
                          title_of(row.section));
    first = false;
    section = row.section;
    text += fmt::format("| `{}` | `{}` | {} | {} | {} | {} |\n", row.key, cell(row.default_text()), cell(row.codec.wanted),
                        origin_text(row.origin), row.affects_numbers ? "numbers" : "", cell(row.help));
  }
  return text;
}

std::string recbole_markdown() {
  std::string text = "| key | what becomes of it | why, or what to use |\n|---|---|---|\n";
  for (const OptionRow& row : option_table())
    if (row.origin != Origin::ours)
      text += fmt::format("| `{}` | honoured{} | {} |\n", row.key, row.origin == Origin::recbole ? "" : ", with differences",
                          cell(row.help));
  for (const RecBoleKey& key : recbole_keys())
    text +=
        fmt::format("| `{}` | {}{} | {} |\n", key.key, treatment_text(key.treatment),
                    key.harmless.empty() ? "" : fmt::format(" unless {}", fmt::join(key.harmless, " or ")), cell(key.reason));
  return text;
}

}  // namespace gru4rec

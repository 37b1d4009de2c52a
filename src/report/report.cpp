#include "gru4rec/report/report.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <iterator>
#include <map>
#include <optional>
#include <sstream>
#include <string_view>
#include <vector>

#include "gru4rec/base/atomic_file.h"
#include "gru4rec/base/config.h"
#include "gru4rec/base/error.h"
#include "gru4rec/base/option_table.h"
#include "gru4rec/base/text.h"
#include "gru4rec/base/version.h"
#include "page_parts.h"

namespace gru4rec {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// Empty, if there is no such file.
std::string text_of(const fs::path& file) {
  std::ifstream in(file);
  return {std::istreambuf_iterator<char>(in), {}};
}

// Null, if there is no such file or it is none.
json json_of(const fs::path& file) {
  json value = json::parse(text_of(file), nullptr, false);
  return value.is_discarded() ? json() : value;
}

// The records of metrics.jsonl, but for a line that is being written.
json epochs_of(const fs::path& run) {
  json epochs = json::array();
  std::istringstream lines(text_of(run / "metrics.jsonl"));
  for (std::string line; std::getline(lines, line);)
    if (json record = json::parse(line, nullptr, false); record.is_object()) epochs.push_back(std::move(record));
  return epochs;
}

json options_json(const Options& options) {
  json rows = json::array();
  for (const OptionRow& row : option_table())
    rows.push_back({{"section", title_of(row.section)},
                    {"key", row.key},
                    {"value", row.codec.write(options)},
                    {"default", row.default_text()}});
  return rows;
}

std::string now_text() {
  return fmt::format("{:%Y-%m-%d %H:%M} UTC",
                     fmt::gmtime(std::chrono::system_clock::to_time_t(std::chrono::system_clock::now())));
}

fs::path write_page(const fs::path& folder, const std::string& title, json data) {
  data["folder"] = folder.string();
  data["version"] = kVersion;
  data["made"] = now_text();
  const fs::path file = folder / "report.html";
  write_file_atomically(file, report_page(title, data));
  return file;
}

std::vector<std::string> fields_of(const std::string& line) {
  std::vector<std::string> fields;
  std::istringstream in(line);
  for (std::string field; std::getline(in, field, '\t');) fields.push_back(field);
  return fields;
}

// A row of trials.tsv, and what its run says besides: {"name", "values", "valid", "failure", "epochs", "seconds"}.
json trial_json(const fs::path& tune, const std::vector<std::string>& row) {
  const fs::path folder = tune / row.front();
  const json adapted = json_of(folder / "adapted/result.json");  // the last stage, where a run has several
  const json result = adapted.is_null() ? json_of(folder / "result.json") : adapted;
  json trial = {{"name", row.front()}, {"values", std::vector<std::string>(row.begin() + 1, row.end() - 1)}};
  if (result.is_null()) {
    trial["failure"] = text_of(folder / "failed.txt");
    return trial;
  }
  trial["valid"] = result.value("best_valid_score", 0.0);
  trial["epochs"] = result.value("epochs", 0);
  trial["seconds"] = result.value("train_seconds", 0.0);
  return trial;
}

std::string markup_escaped(const std::string& text) {
  std::string escaped;
  for (const char c : text) {
    if (c == '<')
      escaped += "&lt;";
    else if (c == '>')
      escaped += "&gt;";
    else if (c == '&')
      escaped += "&amp;";
    else
      escaped += c;
  }
  return escaped;
}

// JSON that may stand in a script element: ASCII, and without < > &, which JSON has in strings only.
std::string script_json(const json& data) {
  std::string escaped;
  for (const char c : data.dump(-1, ' ', /*ensure_ascii=*/true, json::error_handler_t::replace)) {
    if (c == '<' || c == '>' || c == '&')
      escaped += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
    else
      escaped += c;
  }
  return escaped;
}

}  // namespace

std::string report_page(const std::string& title, const json& data) {
  const std::map<std::string_view, std::string> parts = {
      {"@TITLE@", markup_escaped(title)}, {"@STYLE@", kPageCss}, {"@DATA@", script_json(data)}, {"@SCRIPT@", kPageScript}};
  std::string page;
  for (std::string_view rest = kPageHtml; !rest.empty();) {
    const size_t begin = std::min(rest.find('@'), rest.size());
    page += rest.substr(0, begin);
    rest.remove_prefix(begin);
    for (const auto& [mark, text] : parts) {
      if (!rest.starts_with(mark)) continue;
      page += text;
      rest.remove_prefix(mark.size());
      break;
    }
  }
  return page;
}

bool is_run(const fs::path& folder) { return fs::exists(folder / "config.yaml"); }
bool is_tuning(const fs::path& folder) { return fs::exists(folder / "trials.tsv"); }

fs::path write_run_report(const fs::path& run) {
  const fs::path config = run / "config.yaml";
  if (!is_run(run)) throw UserError("{} is no run: it has no config.yaml. Pass the run_dir of a training.", run.string());
  const Options options = options_from_yaml(text_of(config), config.string());
  json data = {{"kind", "run"},
               {"dataset", options.dataset},
               {"valid_metric", lower(options.valid_metric)},
               {"decimals", options.metric_decimal_place},
               {"run", json_of(run / "run.json")},
               {"epochs", epochs_of(run)},
               {"options", options_json(options)}};
  // A run that was made longer, and has not come to its new end, has the result of its former one.
  if (json result = json_of(run / "result.json");
      !result.is_null() && result.value("epochs", size_t{0}) >= data["epochs"].size())
    data["result"] = std::move(result);
  return write_page(run, fmt::format("{} – training report", options.dataset), std::move(data));
}

fs::path write_tune_report(const fs::path& tune) {
  std::istringstream table(text_of(tune / "trials.tsv"));
  std::string line;
  std::vector<std::string> head;
  if (std::getline(table, line)) head = fields_of(line);
  if (head.size() < 2)
    throw UserError("{} is no tuning: it has no trials.tsv with a head. Pass RUN_DIR/tune of a tuning.", tune.string());
  json trials = json::array();
  while (std::getline(table, line))
    if (const std::vector<std::string> row = fields_of(line); row.size() == head.size())
      trials.push_back(trial_json(tune, row));
  constexpr std::string_view kValid = "valid ";
  std::string metric = head.back();
  if (metric.starts_with(kValid)) metric.erase(0, kValid.size());
  json data = {{"kind", "tune"},
               {"metric", metric},
               {"keys", std::vector<std::string>(head.begin() + 1, head.end() - 1)},
               {"trials", std::move(trials)}};
  const std::string name = fs::weakly_canonical(tune).parent_path().filename().string();
  data["name"] = name;
  return write_page(tune, fmt::format("{} – tuning report", name), std::move(data));
}

}  // namespace gru4rec

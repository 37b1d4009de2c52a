// Pages that show a run or a tuning to people: one HTML file each, which needs no network. They are made of what the folder
// holds (docs/formats.md), so that they can be made at any time, also of a run that was killed. Local.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

namespace gru4rec {

// Write FOLDER/report.html and return its path; of a run's folder, and of RUN_DIR/tune. UserError if the folder is none of that
// kind, SurroundingsError if the file cannot be written.
std::filesystem::path write_run_report(const std::filesystem::path& run);
std::filesystem::path write_tune_report(const std::filesystem::path& tune);
bool is_run(const std::filesystem::path& folder);
bool is_tuning(const std::filesystem::path& folder);

// A whole page. `data` may hold any text: nothing in it ends the script it is in, or becomes markup.
std::string report_page(const std::string& title, const nlohmann::json& data);

}  // namespace gru4rec

// Weights as RecBole's GRU4Rec has them: a dictionary of tensors under its names, in a file that torch.save wrote or torch.load
// reads. Such a file has no place for item ids; they lie beside it, as a JSON list in the order of the rows. Local.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "gru4rec/model/gru4rec.h"

namespace gru4rec {

// Of the padding row, as RecBole calls it.
inline constexpr const char* kPaddingName = "[PAD]";

// model.pth → model.ids.json.
std::filesystem::path item_ids_beside(const std::filesystem::path& file);
// Atomically; throws SurroundingsError.
void write_item_ids(const std::filesystem::path& file, const std::vector<std::string>& ids);
// Throws UserError if it is no JSON list of texts.
std::vector<std::string> read_item_ids(const std::filesystem::path& file);

// Whether a path names such a file, by its suffix: .pth or .pt.
bool names_recbole_state(const std::filesystem::path& path);

// Writes `output` and the ids beside it. Rows of the item table are in the order of `order`, the padding row first; it must
// name every item once. Without a dense layer one that changes nothing stands in for it. Throws UserError for scores by cosine:
// RecBole's come from the very table that its inputs do, whose lengths would count.
void save_recbole_state(const std::filesystem::path& output, const Gru4Rec& model, const std::vector<std::string>& item_names,
                        const std::vector<std::string>& order);

// Fills the parameters of the model, or its item table only. Rows are matched by the ids beside the file, of which there may be
// more than the model has items; without such ids they are taken to be in the order of `item_names`, and a warning says so.
// What the file lacks and RecBole's class has not (score_scale) stays as it is. Returns an xxh3 of the file.
// Throws UserError if the file cannot be read, or has other tensors than the model.
uint64_t load_recbole_state(const std::filesystem::path& file, Gru4Rec& model, const std::vector<std::string>& item_names,
                            bool table_only);

}  // namespace gru4rec

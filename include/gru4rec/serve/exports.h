// A trained model in the formats of others (docs/recommend.md). Each function writes its files atomically. Local.
//
// Errors: SurroundingsError where a file cannot be written, UserError where the format cannot express the model.
#pragma once

#include <filesystem>

#include "gru4rec/serve/served_model.h"

namespace gru4rec {

// TorchScript, for torch.jit.load in Python and torch::jit::load in C++; needs nothing of this project. Scores are those of
// Recommender to the last bits, and equal ones are ordered by id as there. Methods:
//
//   forward(item_ids: Tensor, k: int = 20, exclude_seen: bool = False) -> Tuple[Tensor, Tensor]
//       item_ids [sessions, length] int64: ids 1…catalogue in time order; 0 anywhere is padding and passed over
//       → ids [sessions, k] int64 and scores [sessions, k] float32; places that no item is left for have id 0 and score -inf
//   recommend(sessions: List[List[str]], k: int = 20, exclude_seen: bool = False, exclude: List[str] = [])
//       -> List[Tuple[List[str], List[float]]]     original ids; unknown ones are passed over
//   encode(sessions: List[List[str]]) -> Tensor    the item_ids of forward
//   item_names: List[str]                          original id of each id; that of 0 is ""
void export_torchscript(const ServedModel& served, const std::filesystem::path& output);

// Original ids and item vectors. HDF5: /item_embeddings float32 [catalogue, E], /item_names and /item_name_offsets as in a
// store's manifest. NumPy: OUTPUT float32 [catalogue, E] and, beside it, OUTPUT without .npy plus .ids.json, a list of the ids
// in the order of the rows.
void export_hdf5(const ServedModel& served, const std::filesystem::path& output);
void export_numpy(const ServedModel& served, const std::filesystem::path& output);

}  // namespace gru4rec

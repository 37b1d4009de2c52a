#include "gru4rec/train/recbole_state.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <fmt/ranges.h>
#include <spdlog/spdlog.h>
#include <torch/csrc/jit/serialization/export.h>
#include <torch/csrc/jit/serialization/pickle.h>
#include <torch/csrc/jit/serialization/pickler.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "gru4rec/base/atomic_file.h"
#include "gru4rec/base/error.h"
#include "gru4rec/base/hash.h"
#include "gru4rec/base/text.h"

namespace gru4rec {
namespace {

namespace fs = std::filesystem;

constexpr const char* kDenseWeight = "dense.weight";
constexpr const char* kDenseBias = "dense.bias";

std::vector<char> read_whole(const fs::path& file) {
  std::ifstream stream(file, std::ios::binary);
  if (!stream || fs::is_directory(file)) throw UserError("cannot read {}. Check the path and its permissions.", file.string());
  return {std::istreambuf_iterator<char>(stream), {}};
}

// Row of each id.
std::unordered_map<std::string, int64_t> rows_by_id(const std::vector<std::string>& ids, const fs::path& file) {
  std::unordered_map<std::string, int64_t> rows;
  for (const std::string& id : ids)
    if (!rows.emplace(id, static_cast<int64_t>(rows.size())).second)
      throw UserError("{} names the item '{}' twice. Write it anew: one id a row of item_embedding.weight, the first {}.",
                      file.string(), id, kPaddingName);
  if (ids.empty() || ids.front() != kPaddingName)
    throw UserError("{} begins with {}, wanted {}, the padding row. RecBole's dataset.field2id_token[ITEM_ID] has it there.",
                    file.string(), ids.empty() ? "nothing" : "'" + ids.front() + "'", kPaddingName);
  return rows;
}

// The rows of `by_id` that belong to the padding row and each item, in order.
at::Tensor rows_of_items(const std::unordered_map<std::string, int64_t>& by_id, const std::vector<std::string>& item_names,
                         const fs::path& file) {
  at::Tensor rows = at::zeros({static_cast<int64_t>(item_names.size()) + 1}, at::kLong);
  int64_t* row = rows.data_ptr<int64_t>();
  for (const std::string& name : item_names) {
    const auto found = by_id.find(name);
    if (found == by_id.end())
      throw UserError("{} lacks the item '{}'; it has {} ids, wanted all {} of the catalogue. Make it of the same data.",
                      file.string(), name, by_id.size() - 1, item_names.size());
    *++row = found->second;
  }
  return rows;
}

using State = std::unordered_map<std::string, at::Tensor>;

State state_of(const c10::IValue& value) {
  if (!value.isGenericDict()) throw UserError("got {}", value.tagKind());
  const auto dictionary = value.toGenericDict();
  if (const auto inner = dictionary.find("state_dict"); inner != dictionary.end()) return state_of(inner->value());
  State state;
  for (const auto& entry : dictionary) state.emplace(entry.key().toStringRef(), entry.value().toTensor().detach());
  return state;
}

State read_state(const fs::path& file, const std::vector<char>& bytes) {
  try {
    return state_of(torch::jit::pickle_load(bytes));
  } catch (const std::exception& error) {
    const std::string all = error.what();
    throw UserError(
        "cannot read {0} as a plain dictionary of tensors: {1}\nWhat RecBole and torch.save(model.state_dict()) write has "
        "Python "
        "objects around it. Take the weights out:\n  python -c \"import torch; s = torch.load('{0}', map_location='cpu', "
        "weights_only=False); torch.save(dict(s.get('state_dict', s)), 'weights.pth')\"",
        file.string(), all.substr(0, all.find('\n')));
  }
}

// As torch.save does. torch::pickle_save would add the types of TorchScript, which torch.load takes for unsafe.
void write_state(const fs::path& output, const c10::Dict<std::string, at::Tensor>& state) {
  std::string pickled;
  torch::jit::Pickler pickler([&](const char* data, size_t bytes) { pickled.append(data, bytes); }, nullptr, nullptr, nullptr,
                              nullptr, /*tag_aggregates=*/false);
  pickler.protocol();
  pickler.pushIValue(state);
  pickler.stop();
  AtomicFile out(output);
  caffe2::serialize::PyTorchStreamWriter archive([&](const void* data, size_t bytes) {
    out.write(data, bytes);
    return bytes;
  });
  torch::jit::writeArchiveAndTensors("data", pickled.data(), pickled.size(), pickler.tensorData(), archive);
  archive.writeEndOfFile();
  out.commit();
}

std::string text_of(at::IntArrayRef shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

at::Tensor tensor_named(const State& state, const std::string& name, const fs::path& file) {
  const auto found = state.find(name);
  if (found == state.end()) {
    std::vector<std::string> names;
    for (const auto& [other, tensor] : state) names.push_back(other);
    std::sort(names.begin(), names.end());
    throw UserError("{} has no {}; it has {}. Wanted the weights of a GRU4Rec with the num_layers and dense_layer of this run.",
                    file.string(), name, fmt::join(names, ", "));
  }
  return found->second.to(at::kFloat);
}

void require_shape(const at::Tensor& tensor, at::IntArrayRef wanted, const std::string& name, const fs::path& file) {
  if (tensor.sizes() == wanted) return;
  throw UserError(
      "{} has {} of shape {}, wanted {}. Set embedding_size and hidden_size to those of the file, and pass the store of its "
      "data.",
      file.string(), name, text_of(tensor.sizes()), text_of(wanted));
}

// The item table of a file, its rows in the order of the model.
at::Tensor table_in(const State& state, const fs::path& file, const ParameterInfo& info,
                    const std::vector<std::string>& item_names) {
  const at::Tensor table = tensor_named(state, info.name, file);
  const fs::path ids_file = item_ids_beside(file);
  if (!fs::exists(ids_file)) {
    require_shape(table, info.shape, info.name, file);
    spdlog::warn(
        "there is no {}: the rows of {} are taken to be the items in the order of the store, which RecBole's are not unless "
        "they were exported so",
        ids_file.string(), file.string());
    return table;
  }
  const std::vector<std::string> ids = read_item_ids(ids_file);
  require_shape(table, {static_cast<int64_t>(ids.size()), info.shape[1]}, info.name, file);
  const at::Tensor rows = rows_of_items(rows_by_id(ids, ids_file), item_names, ids_file);
  if (ids.size() > item_names.size() + 1)
    spdlog::warn("{} rows of {} are of items that the store lacks, and left out", ids.size() - item_names.size() - 1,
                 file.string());
  return table.index_select(0, rows);
}

}  // namespace

fs::path item_ids_beside(const fs::path& file) { return fs::path(file).replace_extension(".ids.json"); }

void write_item_ids(const fs::path& file, const std::vector<std::string>& ids) {
  write_file_atomically(file, nlohmann::json(ids).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
}

std::vector<std::string> read_item_ids(const fs::path& file) {
  const std::vector<char> text = read_whole(file);
  try {
    return nlohmann::json::parse(text.begin(), text.end()).get<std::vector<std::string>>();
  } catch (const nlohmann::json::exception& error) {
    throw UserError("{} is no JSON list of item ids: {}. Wanted [\"{}\", \"ID\", …], one id a row.", file.string(),
                    error.what(), kPaddingName);
  }
}

bool names_recbole_state(const fs::path& path) {
  const std::string suffix = lower(path.extension().string());
  return suffix == ".pth" || suffix == ".pt";
}

void save_recbole_state(const fs::path& output, const Gru4Rec& model, const std::vector<std::string>& item_names,
                        const std::vector<std::string>& order) {
  const ModelShape& shape = model.shape();
  if (shape.cosine)
    throw UserError(
        "RecBole's GRU4Rec cannot express this model: its scores are cosines, wanted dot products with the table that the "
        "inputs "
        "come from. Export it as torchscript, or train with score dot.");
  if (order.size() != item_names.size() + 1)
    throw UserError("the order of items has {} ids, wanted {} and {}: those of the catalogue. Make it of the same data.",
                    order.size(), item_names.size(), kPaddingName);
  const std::string& table = model.layout().table().name;
  const at::Tensor rows = rows_of_items(rows_by_id(order, "the order of items"), item_names, "the order of items");
  c10::Dict<std::string, at::Tensor> state;
  for (const ParameterInfo& info : model.layout().parameters()) {
    const at::Tensor values = model.parameter(info.name).clone();  // of its own, not a view of all parameters
    state.insert(info.name, info.name == table ? at::zeros_like(values).index_copy_(0, rows, values) : values);
  }
  if (!shape.dense_layer) {
    state.insert(kDenseWeight, at::eye(shape.hidden_size, at::kFloat));
    state.insert(kDenseBias, at::zeros({shape.hidden_size}, at::kFloat));
  }
  write_item_ids(item_ids_beside(output), order);
  write_state(output, state);
}

uint64_t load_recbole_state(const fs::path& file, Gru4Rec& model, const std::vector<std::string>& item_names, bool table_only) {
  const std::vector<char> bytes = read_whole(file);
  const State state = read_state(file, bytes);
  const ParameterInfo& table = model.layout().table();
  std::unordered_map<std::string, at::Tensor> values = {{table.name, table_in(state, file, table, item_names)}};
  for (const ParameterInfo& info : model.layout().parameters()) {
    if (table_only || info.name == table.name || info.name == "score_scale") continue;
    const at::Tensor tensor = tensor_named(state, info.name, file);
    require_shape(tensor, info.shape, info.name, file);
    values.emplace(info.name, tensor);
  }
  const size_t wanted = values.size();
  if (!table_only && state.size() != wanted)
    throw UserError(
        "{} has {} tensors, this run {}: it has more layers than num_layers, or a dense layer where dense_layer is False. Set "
        "both "
        "to those of the file.",
        file.string(), state.size(), wanted);
  for (const auto& [name, tensor] : values) model.parameter(name).copy_(tensor);
  return hash_bytes(bytes.data(), bytes.size());
}

}  // namespace gru4rec

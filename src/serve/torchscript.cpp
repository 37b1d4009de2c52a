#include <ATen/ops/full.h>
#include <fmt/format.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/serialization/export.h>

#include <algorithm>
#include <cstring>

#include "gru4rec/base/atomic_file.h"
#include "gru4rec/serve/exports.h"

namespace gru4rec {
namespace {

// What is in {braces} depends on the model; the rest is TorchScript.
constexpr const char* kSource = R"(
def encode(self, sessions: List[List[str]]) -> Tensor:
    longest = 1
    for session in sessions:
        longest = max(longest, len(session))
    item_ids = torch.zeros([len(sessions), longest], dtype=4)  # int64
    for row, session in enumerate(sessions):
        for place, name in enumerate(session):
            if name in self.item_ids:
                item_ids[row, place] = self.item_ids[name]
    return item_ids

def _left(self, item_ids: Tensor) -> Tensor:
    # Padding behind the items, whose order stays.
    order = torch.sort(torch.where(item_ids == 0, 1, 0), stable=True, dim=1)[1]
    return torch.gather(item_ids, 1, order)

def _last(self, item_ids: Tensor) -> Tensor:
    # The last items, as many as the model was evaluated with; padding before them.
    order = torch.sort(torch.where(item_ids == 0, 0, 1), stable=True, dim=1)[1]
    ordered = torch.gather(item_ids, 1, order)
    if self.max_inputs > 0 and ordered.size(1) > self.max_inputs:
        ordered = ordered[:, ordered.size(1) - self.max_inputs:]
    return ordered

def _layer(self, inputs: Tensor, weight_ih: Tensor, weight_hh: Tensor) -> Tensor:
    size = weight_hh.size(1)
    gates = torch.matmul(inputs, weight_ih.t())
    state = torch.zeros([inputs.size(0), size], dtype=inputs.dtype, device=inputs.device)
    states: List[Tensor] = []
    for step in range(inputs.size(1)):
        given = gates[:, step]
        recurrent = torch.matmul(state, weight_hh.t())
        reset_update = torch.sigmoid(given[:, :2 * size] + recurrent[:, :2 * size])
        new = torch.tanh(given[:, 2 * size:] + reset_update[:, :size] * recurrent[:, 2 * size:])
        update = reset_update[:, size:]
        state = (1 - update) * new + update * state
        states.append(state)
    return torch.stack(states, 1)

def _queries(self, item_ids: Tensor) -> Tensor:
    inputs = self._left(self._last(item_ids))
    lengths = (inputs != 0).sum(1)
    inputs = inputs[:, :max(int(lengths.max().item()), 1)]
    states = self.item_embedding[inputs]
{layers}    last = (lengths - 1).clamp(min=0).view(-1, 1, 1).expand(-1, 1, states.size(2))
    query = torch.gather(states, 1, last).squeeze(1)
{dense}{cosine}    return query

def _best(self, scores: Tensor, k: int) -> Tuple[Tensor, Tensor]:
    # topk leaves open which of equal scores it takes: those that equal the last one are taken anew, lowest ids first.
    k = min(k, scores.size(1))
    values, ids = torch.topk(scores, k, dim=1)
    floor = values[:, k - 1:]
    beyond = scores.size(1)
    places = torch.arange(beyond, device=scores.device).unsqueeze(0)
    equal = torch.where(scores == floor, places, beyond)
    equal_ids = torch.topk(equal, k, dim=1, largest=False)[0]
    ids = torch.cat([torch.where(values > floor, ids, beyond), equal_ids], 1)
    ids = torch.sort(ids, dim=1)[0]
    padded = torch.cat([scores, torch.full([scores.size(0), 1], -float('inf'), device=scores.device)], 1)
    values, order = torch.sort(torch.gather(padded, 1, ids), stable=True, dim=1, descending=True)
    values = values[:, :k]
    ids = torch.gather(ids, 1, order)[:, :k]
    return torch.where(values == -float('inf'), 0, ids), values

def _recommend(self, item_ids: Tensor, excluded: Tensor, k: int) -> Tuple[Tensor, Tensor]:
    scores = torch.matmul(self._queries(item_ids), self.{table}.t())
    scores.scatter_(1, excluded, -float('inf'))
    scores[:, 0] = -float('inf')
    scores.masked_fill_((item_ids == 0).all(1).unsqueeze(1), -float('inf'))
    return self._best(scores, k)

def forward(self, item_ids: Tensor, k: int = 20, exclude_seen: bool = False) -> Tuple[Tensor, Tensor]:
    item_ids = item_ids.to(self.item_embedding.device)
    return self._recommend(item_ids, item_ids if exclude_seen else item_ids[:, :0], k)

def recommend(self, sessions: List[List[str]], k: int = 20, exclude_seen: bool = False,
              exclude: List[str] = []) -> List[Tuple[List[str], List[float]]]:
    item_ids = self.encode(sessions).to(self.item_embedding.device)
    excluded = self.encode([exclude]).to(self.item_embedding.device).expand(len(sessions), -1)
    if exclude_seen:
        excluded = torch.cat([excluded, item_ids], 1)
    seen: List[List[str]] = []
    for session in sessions:
        first = len(session) - self.max_inputs if self.max_inputs > 0 and len(session) > self.max_inputs else 0
        seen.append(session[first:])
    ids, scores = self._recommend(self.encode(seen).to(self.item_embedding.device), excluded, k)
    lists: List[Tuple[List[str], List[float]]] = []
    for row in range(len(sessions)):
        names: List[str] = []
        values: List[float] = []
        for place in range(ids.size(1)):
            item = int(ids[row, place].item())
            if item > 0:
                names.append(self.item_names[item])
                values.append(float(scores[row, place].item()))
        lists.append((names, values))
    return lists
)";

std::string source_of(const ModelShape& shape) {
  std::string layers, source = kSource;
  for (int64_t layer = 0; layer < shape.num_layers; ++layer)
    layers += fmt::format("    states = self._layer(states, self.weight_ih_l{0}, self.weight_hh_l{0})\n", layer);
  const auto put = [&source](const std::string& place, const std::string& text) {
    source.replace(source.find(place), place.size(), text);
  };
  put("{layers}", layers);
  put("{dense}", shape.dense_layer ? "    query = torch.addmm(self.dense_bias, query, self.dense_weight.t())\n" : "");
  put("{cosine}",
      shape.cosine ? "    query = query / torch.norm(query, 2, [1], True).clamp(min=1e-12) * self.score_scale\n" : "");
  put("{table}", shape.cosine ? "unit_items" : "item_embedding");
  return source;
}

// A parameter by its name in TorchScript, which has no dots. Cloned, as it is a view of all parameters.
void add_parameters(torch::jit::Module& module, const Gru4Rec& model) {
  for (const ParameterInfo& info : model.layout().parameters()) {
    std::string name = info.name;
    if (const size_t gru = name.find("gru_layers."); gru == 0) name.erase(0, std::strlen("gru_layers."));
    if (name == model.layout().table().name) name = "item_embedding";
    std::replace(name.begin(), name.end(), '.', '_');
    module.register_buffer(name, model.parameter(info.name).clone());
  }
  if (!model.shape().cosine) return;
  module.register_buffer("unit_items", model.score_table().clone());
  if (!model.shape().learn_score_scale)
    module.register_buffer("score_scale", at::full({1}, model.shape().score_scale, at::kFloat));
}

void add_names(torch::jit::Module& module, const Catalogue& catalogue) {
  c10::List<std::string> names;
  c10::Dict<std::string, int64_t> ids;
  names.reserve(catalogue.item_names.size() + 1);
  names.push_back("");
  for (const std::string& name : catalogue.item_names) {
    ids.insert(name, static_cast<int64_t>(names.size()));
    names.push_back(name);
  }
  module.register_attribute("item_names", c10::ListType::ofStrings(), names);
  module.register_attribute("item_ids", c10::DictType::create(c10::StringType::get(), c10::IntType::get()), ids);
  module.register_attribute("max_inputs", c10::IntType::get(), catalogue.max_inputs);
}

}  // namespace

void export_torchscript(const ServedModel& served, const std::filesystem::path& output) {
  require_forward(served, "be exported as TorchScript");
  torch::jit::Module module("__torch__.Gru4Rec");
  add_parameters(module, *served.model);
  add_names(module, served.catalogue());
  module.define(source_of(served.model->shape()));
  module.eval();
  AtomicFile out(output);
  torch::jit::ExportModule(module, [&out](const void* data, size_t bytes) {
    out.write(data, bytes);
    return bytes;
  });
  out.commit();
}

}  // namespace gru4rec

#include "gru4rec/serve/served_model.h"

#include "gru4rec/base/error.h"
#include "gru4rec/base/hash.h"
#include "gru4rec/train/determinism.h"

namespace gru4rec {
namespace {

// The catalogue of a checkpoint that has none of its own.
Catalogue catalogue_in(const std::string& folder, const std::filesystem::path& checkpoint, const CheckpointInfo& info,
                       const Options& options) {
  try {
    const Store store(folder);
    if (store.info().data_digest == info.data_digest) return catalogue_of(store, options);
    throw UserError("{} has the digest {}, wanted {}, that of the store the checkpoint was trained on", folder,
                    hex_text(store.info().data_digest), hex_text(info.data_digest));
  } catch (const UserError& error) {
    throw UserError(
        "the checkpoint {} was written by an earlier version and holds no item ids, and the store has none to offer: {} Pass "
        "the store of that run as --store FOLDER.",
        checkpoint.string(), error.what());
  }
}

}  // namespace

ServedModel open_model(const std::filesystem::path& checkpoint, const std::vector<Override>& overrides) {
  ServedModel served;
  served.file = best_checkpoint_at(checkpoint);
  served.info = read_checkpoint_info(served.file);
  served.options = with_overrides(options_from_yaml(served.info.options, served.file.string()), overrides);
  pin_kernels(processor_capability(), served.options.num_threads, served.options.deterministic == "strict");
  served.model = std::make_unique<Gru4Rec>(served.info.shape);
  load_weights(served.file, *served.model);
  if (!served.info.catalogue) {
    const std::string named = with_overrides({}, overrides).store;
    served.info.catalogue = std::make_shared<Catalogue>(
        catalogue_in(named.empty() ? served.info.store : named, served.file, served.info, served.options));
  }
  return served;
}

void require_forward(const ServedModel& model, std::string_view what) {
  if (model.options.direction == Direction::forward) return;
  throw UserError(
      "{} was trained with direction backward, as a teacher: it predicts an item from those after it, wanted a model that "
      "reads "
      "forward to {}. Pass the run of its student.",
      model.file.string(), what);
}

ItemIndex::ItemIndex(const std::vector<std::string>& names) {
  by_name_.reserve(names.size());
  for (size_t i = 0; i < names.size(); ++i) by_name_.emplace(names[i], static_cast<int64_t>(i) + 1);
}

int64_t ItemIndex::find(std::string_view name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? 0 : found->second;
}

}  // namespace gru4rec

#include "gru4rec/train/checkpoint.h"

#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <unordered_map>

#include "gru4rec/base/atomic_file.h"
#include "gru4rec/base/error.h"
#include "gru4rec/base/hash.h"
#include "gru4rec/base/hdf5.h"
#include "gru4rec/base/hdf5_texts.h"
#include "gru4rec/base/sealed_file.h"
#include "gru4rec/data/store.h"
#include "gru4rec/train/run_folder.h"

namespace gru4rec {
namespace {

namespace fs = std::filesystem;

constexpr uint32_t kFormatVersion = 2;

// Calls visit(name, value) for every number of /state that each checkpoint has, in the order of the digest. One list for
// writing, reading and hashing.
template <typename Info, typename Visitor>
void visit_numbers(Info& info, Visitor&& visit) {
  visit("epoch", info.state.epoch);
  visit("batch", info.state.batch);
  visit("step", info.state.step);
  visit("epoch_loss", info.state.epoch_loss);
  visit("epoch_targets", info.state.epoch_targets);
  visit("best_value", info.state.best.value);
  visit("best_stalled", info.state.best.stalled);
  visit("best_epoch", info.state.best.epoch);
  visit("best_step", info.state.best.step);
  visit("best_targets", info.state.best_histogram.targets);
  visit("replicas", info.replicas);
  visit("data_digest", info.data_digest);
  visit("teacher_digest", info.teacher_digest);
  visit("catalogue", info.shape.catalogue);
  visit("embedding_size", info.shape.embedding_size);
  visit("hidden_size", info.shape.hidden_size);
  visit("num_layers", info.shape.num_layers);
  visit("dropout_prob", info.shape.dropout_prob);
  visit("hidden_dropout_prob", info.shape.hidden_dropout_prob);
  visit("output_dropout_prob", info.shape.output_dropout_prob);
  visit("score_padding", info.shape.score_padding);
  visit("cosine", info.shape.cosine);
  visit("score_scale", info.shape.score_scale);
  visit("learn_score_scale", info.shape.learn_score_scale);
}

// Calls visit(name, value, usual) for every number that is in the file and the digest only where it is not the usual one.
template <typename Info, typename Visitor>
void visit_unusual_numbers(Info& info, Visitor&& visit) {
  visit("plateau_rate", info.state.plateau_rate, 1.0);
  visit("dense_layer", info.shape.dense_layer, true);
}

// Their names in /state.
constexpr std::array<const char*, 4> kBuffers = {"parameters", "first_moment", "second_moment", "average"};
constexpr size_t kAverage = 3;
using Buffers = StateTensors::Buffers;

// By tensor: name in /state, its part of a flat buffer.
template <typename Visitor>
void visit_tensors(const ParameterLayout& layout, bool with_average, Visitor&& visit) {
  for (const ParameterInfo& info : layout.parameters())
    for (size_t which = 0; which < kBuffers.size(); ++which)
      if (which != kAverage || with_average) visit(fmt::format("/state/{}/{}", kBuffers[which], info.name), which, info);
}

bool averaged(const Buffers& buffers) { return !buffers[kAverage].empty(); }

std::span<const float> part_of(const Buffers& buffers, size_t which, const ParameterInfo& info) {
  return buffers[which].subspan(info.offset, info.size());
}

uint64_t state_digest(const CheckpointInfo& info, const ParameterLayout& layout, const Buffers& buffers) {
  Digest digest;
  digest.update<uint32_t>(kFormatVersion);
  visit_numbers(info, [&](const char* name, const auto& value) { digest.update(std::string_view(name)).update(value); });
  visit_unusual_numbers(info, [&](const char* name, const auto& value, const auto& usual) {
    if (value != usual) digest.update(std::string_view(name)).update(value);
  });
  digest.update(std::string_view(info.number_options));
  digest.update(std::span<const int64_t>(info.state.best_histogram.at));
  visit_tensors(layout, averaged(buffers), [&](const std::string& name, size_t which, const ParameterInfo& parameter) {
    digest.update(std::string_view(name)).update(part_of(buffers, which, parameter));
  });
  return digest.value();
}

std::vector<uint64_t> dims_of(const ParameterInfo& info) { return {info.shape.begin(), info.shape.end()}; }

// A bool is stored as int64: HDF5 has no type of its own for it.
template <typename T>
using Stored = std::conditional_t<std::is_same_v<T, bool>, int64_t, T>;

void write_provenance(Hdf5File& file, const CheckpointInfo& info) {
  file.make_group("/provenance");
  file.write_text("/provenance/options", info.options);
  file.write_attribute("/provenance", "version", info.version);
  file.write_attribute("/provenance", "capability", info.capability);
  file.write_attribute("/provenance", "store", info.store);
  file.write_attribute("/provenance", "world_size", info.world_size);
  file.write_attribute("/provenance", "threads", info.threads);
  file.write_attribute("/provenance", "train_seconds", info.train_seconds);
  file.write_attribute("/provenance", "start_digest", info.start_digest);
}

void read_provenance(const Hdf5File& file, CheckpointInfo& info) {
  info.options = file.read_text("/provenance/options");
  info.version = file.read_attribute<std::string>("/provenance", "version");
  info.capability = file.read_attribute<std::string>("/provenance", "capability");
  info.store = file.read_attribute<std::string>("/provenance", "store");
  info.world_size = file.read_attribute<int64_t>("/provenance", "world_size");
  info.threads = file.read_attribute<int64_t>("/provenance", "threads");
  info.train_seconds = file.read_attribute<double>("/provenance", "train_seconds");
  if (file.has_attribute("/provenance", "start_digest"))  // earlier versions did not write it
    info.start_digest = file.read_attribute<uint64_t>("/provenance", "start_digest");
}

constexpr const char* kItemNames = "/catalogue/item_names";
constexpr const char* kItemNameOffsets = "/catalogue/item_name_offsets";

uint64_t digest_of(const Catalogue& catalogue) {
  Digest digest;
  digest.update(catalogue.max_inputs);
  for (const std::string& name : catalogue.item_names) digest.update(std::string_view(name));
  return digest.value();
}

void write_catalogue(Hdf5File& file, const Catalogue& catalogue) {
  file.make_group("/catalogue");
  file.write_attribute("/catalogue", "max_inputs", catalogue.max_inputs);
  file.write_attribute("/catalogue", "digest", digest_of(catalogue));
  FlatTexts names;
  for (const std::string& name : catalogue.item_names) names.add(name);
  write_texts(file, kItemNames, kItemNameOffsets, names);
}

// Null where the file has none: earlier versions did not write it.
std::shared_ptr<const Catalogue> read_catalogue(const Hdf5File& file, int64_t items) {
  if (!file.has("/catalogue")) return nullptr;
  auto catalogue = std::make_shared<Catalogue>();
  catalogue->max_inputs = file.read_attribute<int64_t>("/catalogue", "max_inputs");
  catalogue->item_names = read_texts(file, kItemNames, kItemNameOffsets);
  const bool holds = file.read_attribute<uint64_t>("/catalogue", "digest") == digest_of(*catalogue);
  if (!holds || catalogue->max_inputs < 0 || catalogue->item_names.size() != static_cast<size_t>(items))
    throw UserError(
        "checkpoint {} has {} item ids for {} items, or other ids than its digest says. It is damaged: take an earlier one.",
        file.path().string(), catalogue->item_names.size(), items);
  return catalogue;
}

// Sizes that a file may claim before memory is taken for them: the tensors must be in the file, three times at least.
void check_shape(const fs::path& path, const ModelShape& shape) {
  constexpr int64_t kLargest = int64_t{1} << 31;
  const bool plausible = shape.catalogue > 0 && shape.catalogue < kLargest && shape.embedding_size > 0 &&
                         shape.embedding_size < (1 << 20) && shape.hidden_size > 0 && shape.hidden_size < (1 << 20) &&
                         shape.num_layers > 0 && shape.num_layers < 1024 &&
                         (shape.dense_layer || shape.embedding_size == shape.hidden_size);
  if (plausible) {
    const auto floats = static_cast<uint64_t>(ParameterLayout(shape).parameter_floats());
    if (3 * floats * sizeof(float) / 2 <= fs::file_size(path)) return;
  }
  throw UserError(
      "checkpoint {} claims a model of {} items, embedding {}, hidden {}, {} layers, which its {} bytes cannot hold. It is "
      "damaged: take an earlier one.",
      path.string(), shape.catalogue, shape.embedding_size, shape.hidden_size, shape.num_layers, fs::file_size(path));
}

// A verified checkpoint in memory.
struct Loaded {
  CheckpointInfo info;
  std::array<std::vector<float>, kBuffers.size()> flat;
};

Loaded load_verified(const fs::path& path) {
  check_seal(path, FileKind::checkpoint);
  const Hdf5File file = Hdf5File::open(path);
  const auto version = file.read_attribute<uint32_t>("/", "format_version");
  if (version != kFormatVersion)
    throw UserError("checkpoint {} has format {}, this program reads {}. Use the release that wrote it.", path.string(),
                    version, kFormatVersion);
  Loaded loaded;
  CheckpointInfo& info = loaded.info;
  const auto read = [&]<typename T>(const char* name, T& value) {
    const auto stored = file.read_attribute<Stored<T>>("/state", name);
    value = static_cast<T>(stored);
    if constexpr (std::is_same_v<T, bool>) {
      if (stored != static_cast<int64_t>(value))
        throw UserError("checkpoint {} has {} = {}, it has to be 0 or 1. It is damaged: take an earlier one.", path.string(),
                        name, stored);
    }
  };
  visit_numbers(info, read);
  visit_unusual_numbers(info, [&](const char* name, auto& value, const auto&) {
    if (file.has_attribute("/state", name)) read(name, value);
  });
  info.number_options = file.read_text("/state/options");
  info.state.best_histogram.at = file.read<int64_t>("/state/best_histogram");
  check_shape(path, info.shape);
  const ParameterLayout layout(info.shape);
  const bool with_average = file.has("/state/average");
  for (size_t which = 0; which < kBuffers.size(); ++which)
    if (which != kAverage || with_average) loaded.flat[which].resize(layout.parameter_floats());
  visit_tensors(layout, with_average, [&](const std::string& name, size_t which, const ParameterInfo& parameter) {
    file.read(name, std::span<float>(loaded.flat[which]).subspan(parameter.offset, parameter.size()), dims_of(parameter));
  });
  info.digest = file.read_attribute<uint64_t>("/", "digest");
  Buffers buffers;
  std::copy(loaded.flat.begin(), loaded.flat.end(), buffers.begin());
  const uint64_t digest = state_digest(info, layout, buffers);
  if (digest != info.digest)
    throw UserError("checkpoint {} says its state has the digest {}, its content has {}. It is damaged: take an earlier one.",
                    path.string(), hex_text(info.digest), hex_text(digest));
  read_provenance(file, info);
  info.catalogue = read_catalogue(file, info.shape.catalogue);
  return loaded;
}

// Copies a flat buffer of `from` into one of `to`, which may have more items: the table is the last parameter, and its first
// rows are the same items.
void fill(const fs::path& path, const std::vector<float>& flat, const ParameterLayout& from, std::span<float> out,
          const ParameterLayout& to) {
  if (from.dense_floats() != to.dense_floats() || from.table().size() > to.table().size())
    throw BugError("checkpoint {} has {} parameters, the model {}", path.string(), flat.size(), out.size());
  std::copy_n(flat.begin(), from.table().offset + from.table().size(), out.begin());
}

}  // namespace

Catalogue catalogue_of(const Store& store, const Options& options) {
  return {store.item_names(), store.info().protocol == Protocol::leave_one_out ? options.MAX_ITEM_LIST_LENGTH : 0};
}

std::vector<uint32_t> numbers_in(const Catalogue& catalogue, const std::vector<std::string>& names) {
  std::unordered_map<std::string_view, uint32_t> known;
  known.reserve(catalogue.item_names.size());
  for (const std::string& name : catalogue.item_names) known.emplace(name, static_cast<uint32_t>(known.size()) + 1);
  std::vector<uint32_t> numbers = {0};
  numbers.reserve(names.size() + 1);
  for (const std::string& name : names) {
    const auto found = known.find(name);
    numbers.push_back(found == known.end() ? 0 : found->second);
  }
  return numbers;
}

StateTensors state_of(const Gru4Rec& model, const Optimizer& optimizer, const Gru4Rec* average) {
  StateTensors state{model.layout(), {model.parameters(), optimizer.first_moment(), optimizer.second_moment()}};
  if (average) state.buffers[kAverage] = average->parameters();
  return state;
}

uint64_t save_checkpoint(const fs::path& path, const CheckpointInfo& info, const StateTensors& state) {
  fs::create_directories(path.parent_path());
  const uint64_t digest = state_digest(info, state.layout, state.buffers);
  AtomicFile out(path);
  Hdf5File file = Hdf5File::create(out.path());
  file.write_attribute("/", "format_version", kFormatVersion);
  file.write_attribute("/", "digest", digest);
  file.make_group("/state");
  const auto write = [&]<typename T>(const char* name, const T& value) {
    file.write_attribute("/state", name, static_cast<Stored<T>>(value));
  };
  visit_numbers(info, write);
  visit_unusual_numbers(info, [&](const char* name, const auto& value, const auto& usual) {
    if (value != usual) write(name, value);
  });
  file.write_text("/state/options", info.number_options);
  file.write("/state/best_histogram", info.state.best_histogram.at);
  // The digest of the state covers the tables, the most of it, so the seal leaves them out.
  std::vector<Extent> tables;
  visit_tensors(state.layout, averaged(state.buffers),
                [&](const std::string& name, size_t which, const ParameterInfo& parameter) {
                  const Extent place = file.write(name, part_of(state.buffers, which, parameter), dims_of(parameter));
                  if (parameter.name == state.layout.table().name) tables.push_back(place);
                });
  write_provenance(file, info);
  if (info.catalogue) write_catalogue(file, *info.catalogue);
  file.close();
  seal_file(out.path(), FileKind::checkpoint, tables);
  out.commit();
  return digest;
}

CheckpointInfo read_checkpoint_info(const fs::path& path) { return load_verified(path).info; }

CheckpointInfo load_checkpoint(const fs::path& path, Gru4Rec& model, Optimizer& optimizer, Gru4Rec* average) {
  const Loaded loaded = load_verified(path);
  if (loaded.flat[kAverage].empty() == (average != nullptr))
    throw BugError("checkpoint {} has {} average of the weights, the run {}", path.string(), average ? "no" : "an",
                   average ? "has one" : "has none");
  const ParameterLayout from(loaded.info.shape);
  const ParameterLayout& to = model.layout();
  fill(path, loaded.flat[0], from, model.parameters(), to);
  fill(path, loaded.flat[1], from, optimizer.first_moment(), to);
  fill(path, loaded.flat[2], from, optimizer.second_moment(), to);
  if (average) fill(path, loaded.flat[kAverage], from, average->parameters(), to);
  return loaded.info;
}

CheckpointInfo load_weights(const fs::path& path, Gru4Rec& model) {
  const Loaded loaded = load_verified(path);
  const std::vector<float>& flat = loaded.flat[kAverage].empty() ? loaded.flat[0] : loaded.flat[kAverage];
  if (flat.size() != model.parameters().size())
    throw BugError("checkpoint {} has {} parameters, the model {}", path.string(), flat.size(), model.parameters().size());
  fill(path, flat, ParameterLayout(loaded.info.shape), model.parameters(), model.layout());
  return loaded.info;
}

CheckpointFolder::CheckpointFolder(fs::path folder, int64_t keep) : folder_(std::move(folder)), keep_(keep) {}

fs::path CheckpointFolder::file_of(int64_t step) const { return folder_ / fmt::format("step-{:08}.h5", step); }

std::vector<int64_t> CheckpointFolder::steps() const {
  std::vector<int64_t> steps;
  if (!fs::is_directory(folder_)) return steps;
  for (const auto& entry : fs::directory_iterator(folder_)) {
    const std::string name = entry.path().filename().string();
    int64_t step = 0;
    if (!name.starts_with("step-") || !name.ends_with(".h5")) continue;
    const auto parsed = std::from_chars(name.data() + 5, name.data() + name.size() - 3, step);
    if (parsed.ec == std::errc() && parsed.ptr == name.data() + name.size() - 3) steps.push_back(step);
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

std::optional<CheckpointFolder::Found> CheckpointFolder::newest_good() const {
  Found found;
  found.step = -1;
  std::vector<int64_t> all = steps();
  for (auto step = all.rbegin(); step != all.rend(); ++step) {
    try {
      found.info = read_checkpoint_info(file_of(*step));
      found.step = *step;
      return found;
    } catch (const Error& error) {
      found.skipped.push_back(error.what());
    }
  }
  if (!found.skipped.empty())
    throw UserError(
        "none of the {} checkpoints in {} can be read:\n  {}\nStart anew in another run_dir, or bring back a good file.",
        all.size(), folder_.string(), fmt::join(found.skipped, "\n  "));
  return std::nullopt;
}

void CheckpointFolder::prune(int64_t best_step) const {
  const std::vector<int64_t> all = steps();
  const size_t newest = all.size() - std::min<size_t>(all.size(), static_cast<size_t>(keep_));
  for (size_t i = 0; i < newest; ++i)
    if (all[i] != best_step) fs::remove(file_of(all[i]));
}

namespace {

// Where the checkpoints of a run's folder are: where it says, or in it, as in a copy; nothing for another folder.
std::optional<fs::path> checkpoints_of_run(const fs::path& path) {
  const std::optional<Options> options = options_of_run(path);
  if (options && fs::is_directory(options->checkpoint_dir)) return options->checkpoint_dir;
  return fs::is_directory(path / "checkpoints") ? std::optional(path / "checkpoints") : std::nullopt;
}

}  // namespace

fs::path newest_checkpoint_at(const fs::path& path) {
  if (!fs::is_directory(path)) return path;
  const CheckpointFolder checkpoints(checkpoints_of_run(path).value_or(path), 1);
  if (!checkpoints.steps().empty()) return checkpoints.file_of(checkpoints.steps().back());
  if (is_store(path))
    throw UserError("{} is a session store, wanted a model. Pass a run's folder, or a checkpoint (step-*.h5).", path.string());
  throw UserError(
      "{} holds no checkpoint (step-*.h5), and is no session store (manifest.h5) either. Pass a run's folder, or a checkpoint.",
      path.string());
}

fs::path best_checkpoint_at(const fs::path& path) {
  const std::optional<fs::path> folder = checkpoints_of_run(path);
  if (!folder) return newest_checkpoint_at(path);
  const CheckpointFolder checkpoints(*folder, 1);
  const auto newest = checkpoints.newest_good();
  if (!newest) return newest_checkpoint_at(path);
  for (const std::string& line : newest->skipped) spdlog::warn("checkpoint skipped: {}", line);
  const int64_t best = newest->info.state.best.step;
  return checkpoints.file_of(best < 0 ? newest->step : best);
}

std::string describe_checkpoint(const fs::path& path) {
  const CheckpointInfo info = read_checkpoint_info(path);
  std::string text = fmt::format(
      "checkpoint   {}\n"
      "digest       {}\n"
      "step         {} (epoch {}, batch {} next)\n"
      "model        {} items, embedding {}, hidden {}, {} layer(s), {}dropout {}\n"
      "replicas     {}\n"
      "data digest  {}\n"
      "item ids     {}\n"
      "written by   version {}, {} rank(s), {} thread(s), {}, store {}\n",
      path.string(), hex_text(info.digest), info.state.step, info.state.epoch, info.state.batch, info.shape.catalogue,
      info.shape.embedding_size, info.shape.hidden_size, info.shape.num_layers,
      info.shape.dense_layer ? "" : "no dense layer, ", info.shape.dropout_prob, info.replicas, hex_text(info.data_digest),
      info.catalogue ? "in the file" : "not in the file, but in its store", info.version, info.world_size, info.threads,
      info.capability, info.store);
  if (info.state.best.step >= 0)
    text += fmt::format("best         {} at step {} (epoch {}), {} evaluation(s) since\n", info.state.best.value,
                        info.state.best.step, info.state.best.epoch, info.state.best.stalled);
  if (info.state.plateau_rate != 1) text += fmt::format("plateau      learning_rate times {}\n", info.state.plateau_rate);
  return text + "options that change numbers:\n" + info.number_options;
}

}  // namespace gru4rec

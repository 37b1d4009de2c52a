#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "commands.h"
#include "gru4rec/base/atomic_file.h"
#include "gru4rec/base/config.h"
#include "gru4rec/base/error.h"
#include "gru4rec/comm/watchdog.h"
#include "gru4rec/eval/evaluator.h"
#include "gru4rec/model/device.h"
#include "gru4rec/train/checkpoint.h"
#include "program.h"
#include "results.h"
#include "world.h"

namespace gru4rec {
namespace {

// A line a target: the session's original id, the rank of the target (0: not in the catalogue).
void write_ranks(const std::filesystem::path& path, const Store& store, const std::vector<TargetRank>& ranks) {
  const std::vector<std::string> ids = store.session_ids(0, store.info().sessions);
  std::string text = "session\trank\n";
  for (const TargetRank& target : ranks) text += fmt::format("{}\t{}\n", ids[target.session], target.rank);
  write_file_atomically(path, text);
}

// What a model of another catalogue calls the items of the store, by their original ids; empty where the data is its own.
std::vector<uint32_t> numbers_for(const CheckpointInfo& info, const Store& store, const std::string& checkpoint) {
  const StoreInfo& data = store.info();
  if (info.data_digest == data.data_digest) return {};
  if (!info.catalogue) {
    if (info.shape.catalogue == static_cast<int64_t>(data.catalogue)) return {};
    throw UserError(
        "cannot evaluate: {} was trained on a catalogue of {} items and does not hold their ids, this store has {}. Pass the "
        "store of that run ({}).",
        checkpoint, info.shape.catalogue, data.catalogue, info.store);
  }
  std::vector<uint32_t> numbers = numbers_in(*info.catalogue, store.item_names());
  const auto unknown = static_cast<uint64_t>(std::ranges::count(numbers, 0u)) - 1;
  if (unknown == data.catalogue)
    throw UserError(
        "cannot evaluate: {} knows none of the {} items of the store {}, wanted data it was trained on, or that has "
        "grown from it. Pass the store of that run ({}).",
        checkpoint, data.catalogue, data.dataset, info.store);
  spdlog::warn("{} was trained on other data: items are matched by their ids{}", checkpoint,
               unknown == 0
                   ? ""
                   : fmt::format(", and the {} of {} that it does not know are missed as targets and passed over before them",
                                 unknown, data.catalogue));
  return numbers;
}

}  // namespace

int run_evaluate(EvaluateRequest request, MpiEnvironment& environment) {
  CheckpointInfo info;
  Options options;
  if (launched_rank() <= 0) {
    request.checkpoint = best_checkpoint_at(request.checkpoint);
    info = read_checkpoint_info(request.checkpoint);
    options = with_overrides(options_from_yaml(info.options, request.checkpoint.string()), request.overrides);
    options.debug = false;  // how the run was made, not how it is evaluated
  }
  const std::unique_ptr<Communicator> comm = enter_world(environment, options);
  const Watchdog watchdog(*comm);
  const Store store = open_store(options, *comm);
  std::vector<uint32_t> numbers;
  if (comm->rank() == 0) numbers = numbers_for(info, store, request.checkpoint.string());
  auto count = static_cast<uint64_t>(numbers.size());
  comm->broadcast(0, std::span<uint64_t>(&count, 1));
  numbers.resize(count);
  comm->broadcast(0, std::span<uint32_t>(numbers));
  comm->broadcast(0, std::span<ModelShape>(&info.shape, 1));
  Gru4Rec model(info.shape, compute_device(options.device, comm->local_rank()));
  if (comm->rank() == 0) load_weights(request.checkpoint, model);
  comm->broadcast(0, model.parameters());

  const Split split = request.split == "valid" ? Split::valid : Split::test;
  const Evaluator evaluator(store, split,
                            {.max_length = static_cast<uint32_t>(options.MAX_ITEM_LIST_LENGTH),
                             .max_k = largest_k(options.topk, options.valid_metric),
                             .direction = options.direction,
                             .batch_targets = options.eval_batch_size,
                             .numbers = std::move(numbers)});
  if (evaluator.targets() == 0)
    throw UserError("the store {} has no {} targets. Ingest it with another split, or pass --split.", options.store,
                    request.split);
  const auto start = std::chrono::steady_clock::now();
  const RankHistogram histogram = evaluator.run(model, *comm);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  if (comm->rank() == 0) spdlog::info("evaluated {} targets in {:.3f} s", histogram.targets, seconds.count());
  if (!request.ranks_file.empty()) {
    const std::vector<TargetRank> ranks = evaluator.ranks(model, *comm);
    if (comm->rank() == 0) write_ranks(request.ranks_file, store, ranks);
  }
  if (comm->rank() == 0) fmt::print("{}\n", split_text(request.split, histogram, options));
  environment.finalize(*comm);
  return kExitDone;
}

}  // namespace gru4rec

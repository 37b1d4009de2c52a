#include "startup.h"

#include <fmt/chrono.h>
#include <spdlog/spdlog.h>

#include <chrono>

#include "gru4rec/base/config.h"
#include "gru4rec/base/hash.h"
#include "gru4rec/base/progress.h"
#include "gru4rec/base/version.h"
#include "gru4rec/comm/ordered_sum.h"
#include "gru4rec/model/device.h"
#include "gru4rec/model/full_softmax.h"
#include "gru4rec/model/products.h"
#include "gru4rec/model/sampled_losses.h"
#include "gru4rec/train/determinism.h"

namespace gru4rec {
namespace {

constexpr uint64_t kFloat = sizeof(float);
constexpr uint64_t kWindowEvents = PlanOptions{}.block_events * PlanOptions{}.window_blocks;
constexpr uint64_t kPackedBytes = 64;                                       // of an input and its target in a batch
constexpr uint64_t kSegmentBytes = sizeof(Segment) + 2 * sizeof(uint32_t);  // with its place in the order and its batch

// Of a gradient, at most. `targets`: of a step.
int64_t gradient_length(const Options& options, const ParameterLayout& layout, int64_t targets) {
  const ByRows parts = by_rows(options, layout);
  if (!parts.input) return layout.gradient_floats(options.freeze_item_embeddings);
  int64_t rows = targets;
  if (parts.output)  // the targets themselves and the negatives
    rows +=
        targets + (options.loss_type == LossType::bpr ? targets * options.train_neg_sample_args.sample_num : options.n_sample);
  const int64_t part = layout.floats_of_rows(std::min(rows, layout.table().shape[0]));
  return layout.dense_floats() + part + (parts.output ? part : layout.table_floats());
}

std::string mebibytes(uint64_t bytes) { return fmt::format("{:.1f} MiB", static_cast<double>(bytes) / (1 << 20)); }

}  // namespace

MemoryEstimate estimate_memory(const Options& options, const RunStart& start, const StoreInfo& store, int rank, int world) {
  const ModelShape shape = shape_of(options, store);
  const ParameterLayout layout(shape);
  const ReplicaLayout replicas(static_cast<int>(start.replicas), world);
  const auto own = replicas.replicas_of(rank);
  const uint64_t share = (options.train_batch_size + start.replicas - 1) / start.replicas + options.MAX_ITEM_LIST_LENGTH;
  const auto length = static_cast<uint64_t>(gradient_length(options, layout, static_cast<int64_t>(share) * start.replicas));
  uint64_t partials = 0;
  for (int other = 0; other < world; ++other) {
    const auto block = replicas.replicas_of(other);
    if (other != rank) partials += maximal_subtrees(static_cast<int>(start.replicas), block.first, block.last).size();
  }
  MemoryEstimate estimate{};
  estimate.parameters = (options.ema_decay > 0 ? 4 : 3) * static_cast<uint64_t>(layout.parameter_floats()) * kFloat;
  // A slice of the gradient, or that of a slice of the parameters, which in the table has both parts.
  const auto parameters = static_cast<uint64_t>(layout.parameter_floats()),
             dense = static_cast<uint64_t>(layout.dense_floats());
  const FloatRange updated =
      slices_of_update(layout, options.freeze_item_embeddings, by_rows(options, layout).input, world).of(rank);
  const uint64_t of_table = updated.last - std::min(updated.last, std::max(updated.first, dense));
  const uint64_t slice =
      std::max(length / world, updated.size() + (length > parameters ? std::min(length - parameters, of_table) : 0));
  estimate.gradients =
      (sum_buffers(static_cast<int>(start.replicas), own.first, own.last) * length + partials * slice) * kFloat;
  // Embedded inputs, mask and their gradient, queries and their gradient; per layer gates, the recurrent part of n, and states,
  // their mask, what it leaves, and the gradients of both. Of one layer the two gradients of gates
  // (in bf16 these, rounded, as the products take them), and the state before.
  estimate.activations = share * kFloat * (4 * options.embedding_size + (9 * options.num_layers + 7) * options.hidden_size);
  if (rank == 0 && options.checkpoint_in_background) estimate.copy = estimate.parameters;
  // Of a step, and of an evaluation.
  const SoftmaxSchedule schedule = softmax_schedule(shape.table_rows(), start.precision);
  const int64_t chunks = options.overlap && world > 1 ? chunks_together(schedule, static_cast<int64_t>(share)) : 1;
  estimate.scores =
      static_cast<uint64_t>(softmax_buffer_bytes(shape.table_rows(), shape.embedding_size, start.precision, chunks)) +
      static_cast<uint64_t>(score_rows_at_once(shape.table_rows()) * shape.table_rows()) * kFloat;
  const bool makes_cosines = options.loss_type == LossType::cosine_embedding || options.loss_type == LossType::cosine_ranking;
  if (options.loss_type != LossType::ce && options.loss_type != LossType::cosine_embedding) {
    // Evaluation scores the whole catalogue all the same.
    const bool bpr = options.loss_type == LossType::bpr;
    const auto negatives = static_cast<uint64_t>(bpr ? options.train_neg_sample_args.sample_num : options.n_sample);
    const uint64_t scores = std::max(static_cast<uint64_t>(kScoresAtOnce), 16 * negatives);
    estimate.scores = std::max(estimate.scores, bpr ? share * negatives * sizeof(int64_t)
                                                    : (6 * scores + 2 * negatives * shape.embedding_size) * kFloat);
  }
  // Cosine scores: the table at unit length, its gradient, and two intermediate results; of the table only in evaluation.
  if (shape.cosine) estimate.activations += (makes_cosines ? 1 : 4) * static_cast<uint64_t>(layout.table_floats()) * kFloat;
  // The shares of a step, packed and with their negatives, and those of the next one.
  uint64_t drawn = 0;  // of all shares of this rank
  const auto shares = static_cast<uint64_t>(own.last - own.first);
  if (options.loss_type == LossType::bpr)
    drawn = shares * share * static_cast<uint64_t>(options.train_neg_sample_args.sample_num);
  else if (moves_few_rows(options.loss_type))
    drawn = shares * static_cast<uint64_t>(options.n_sample);
  const uint64_t packed = shares * share * kPackedBytes * (options.teacher.empty() ? 1 : 2) + drawn * sizeof(int64_t);
  estimate.data = std::min(store.events, kWindowEvents) * kSegmentBytes +
                  std::min(store.events * sizeof(uint32_t), ItemReader::kCacheBytes) +
                  packed * (options.batches_ahead == BatchesAhead::never ? 1 : 2);
  return estimate;
}

void print_estimate(const Options& options, const RunStart& start, const Store& store, Communicator& comm, uint64_t epochs,
                    const Pace& pace) {
  const StoreInfo& info = store.info();
  const MemoryEstimate memory = estimate_memory(options, start, info, comm.rank(), comm.size());
  const std::vector<uint64_t> memories = comm.all_gather(memory.total());
  if (comm.rank() != 0) return;
  const double steps = static_cast<double>(pace.targets) / pace.targets_per_second;
  const double evaluation =
      pace.evaluated_per_second > 0 ? static_cast<double>(pace.valid_targets) / pace.evaluated_per_second : 0;
  const uint64_t evaluations = options.eval_step > 0 ? epochs / static_cast<uint64_t>(options.eval_step) : 0;
  const double all = static_cast<double>(epochs) * steps + static_cast<double>(evaluations) * evaluation;
  const auto line = [](std::string_view name, const std::string& text) { fmt::print("  {:<18} {}\n", name, text); };
  const auto time = [](double seconds) { return seconds < 59.5 ? fmt::format("{:.2g} s", seconds) : duration_text(seconds); };
  line("epoch", fmt::format("{} steps, {} targets at {:.0f} a second: {}", pace.steps, pace.targets, pace.targets_per_second,
                            time(steps)));
  if (evaluation > 0)
    line("evaluation",
         fmt::format("{} targets at {:.0f} a second: {}", pace.valid_targets, pace.evaluated_per_second, time(evaluation)));
  line("training",
       fmt::format(
           "{} epoch(s) to go at most: {}{}", epochs, time(all),
           evaluations > 0 ? fmt::format(", less if {} evaluations bring nothing better", options.stopping_step + 1) : ""));
  line("memory of a rank", fmt::format("{}, and about 200 MiB for the program and its libraries",
                                       mebibytes(*std::max_element(memories.begin(), memories.end()))));
  line("disk", fmt::format("{} checkpoints of about {}", options.keep_checkpoints + 2, mebibytes(memory.parameters)));
}

nlohmann::json run_json(const Options& options, const RunStart& start, const StoreInfo& store, const Communicator& comm) {
  const auto now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  nlohmann::json run = {
      {"version", kVersion},
      {"started", fmt::format("{:%Y-%m-%d %H:%M:%S} UTC", fmt::gmtime(now))},
      {"world_size", comm.size()},
      {"replicas", start.replicas},
      {"precision", start.precision == Precision::bf16 ? "bf16" : "fp32"},
      {"device", options.device == DeviceKind::cpu ? "cpu" : "cuda"},
      {"parameters", ParameterLayout(shape_of(options, store)).trained_parameters(options.freeze_item_embeddings)},
      {"store",
       {{"folder", options.store},
        {"dataset", store.dataset},
        {"digest", hex_text(store.data_digest)},
        {"protocol", store.protocol == Protocol::leave_one_out ? "leave one out" : "next item"},
        {"sessions", store.sessions},
        {"events", store.events},
        {"items", store.catalogue},
        {"train_targets", store.train_targets},
        {"valid_targets", store.valid_targets},
        {"test_targets", store.test_targets}}}};
  for (int rank = 0; rank < comm.size(); ++rank) run["ranks"].push_back(comm.describe(rank));
  return run;
}

void print_startup(const Options& options, const RunStart& start, const Store& store, Communicator& comm) {
  const MemoryEstimate memory = estimate_memory(options, start, store.info(), comm.rank(), comm.size());
  const at::Device device = compute_device(options.device, comm.local_rank());
  struct Line {
    int32_t capability;
    int32_t threads;
    int32_t gpu;  // -1: the processor
    uint64_t memory;
  };
  const std::vector<Line> lines =
      comm.all_gather(Line{static_cast<int32_t>(processor_capability()), static_cast<int32_t>(options.num_threads),
                           device.is_cpu() ? -1 : static_cast<int32_t>(device.index()), memory.total()});
  if (comm.rank() != 0) return;
  const StoreInfo& info = store.info();
  const ReplicaLayout layout(static_cast<int>(start.replicas), comm.size());
  const auto train_targets = static_cast<uint64_t>(options.recent_fraction * static_cast<double>(info.train_targets));
  const bool bf16 = start.precision == Precision::bf16;
  spdlog::info("gru4rec {}: {} rank(s) over {}, {} replica(s), products in {}", kVersion, comm.size(), comm.name(),
               start.replicas, bf16 ? "bf16" : "fp32");
  if (bf16 && device.is_cpu() && !bf16_in_hardware())
    spdlog::warn(
        "precision bf16: this processor does not multiply bf16, which is done in fp32 on rounded numbers, slower than fp32");
  spdlog::info("store {} (digest {}): {} sessions, {} events, {} items; targets: {} train, {} valid, {} test", options.store,
               hex_text(info.data_digest), info.sessions, info.events, info.catalogue, info.train_targets, info.valid_targets,
               info.test_targets);
  for (int rank = 0; rank < comm.size(); ++rank) {
    const auto own = layout.replicas_of(rank);
    const std::string gpu = lines[rank].gpu < 0 ? "" : fmt::format(" and GPU {}", lines[rank].gpu);
    spdlog::info("{}: replicas {}…{}, about {} targets an epoch, {} thread(s), {}{}, memory about {}", comm.describe(rank),
                 own.first, own.last - 1, train_targets * own.size() / start.replicas, lines[rank].threads,
                 capability_name(static_cast<Capability>(lines[rank].capability)), gpu, mebibytes(lines[rank].memory));
  }
  const ParameterLayout parameters(shape_of(options, info));
  spdlog::info("parameters: {} trained{}", parameters.trained_parameters(options.freeze_item_embeddings),
               options.freeze_item_embeddings ? fmt::format(", {} of the item table constant", parameters.table().size()) : "");
  spdlog::info("memory of a rank: {} parameters and moments, {} gradients, {} activations, {} scores, {} data{}",
               mebibytes(memory.parameters), mebibytes(memory.gradients), mebibytes(memory.activations),
               mebibytes(memory.scores), mebibytes(memory.data),
               memory.copy > 0 ? fmt::format(", {} a copy for checkpoints", mebibytes(memory.copy)) : "");
  Options settled = options;
  settled.replicas = start.replicas;
  settled.precision = start.precision;
  spdlog::info("options:\n{}", options_text(settled));
}

}  // namespace gru4rec

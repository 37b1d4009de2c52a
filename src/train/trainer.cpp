#include "gru4rec/train/trainer.h"

#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <cmath>
#include <numeric>

#include "gru4rec/base/config.h"
#include "gru4rec/base/error.h"
#include "gru4rec/base/hash.h"
#include "gru4rec/base/out_of_memory.h"
#include "gru4rec/base/version.h"
#include "gru4rec/data/negatives.h"
#include "gru4rec/model/device.h"
#include "gru4rec/model/products.h"
#include "gru4rec/model/table_blocks.h"
#include "gru4rec/train/checkpoint_broadcast.h"
#include "gru4rec/train/core_to_spare.h"
#include "gru4rec/train/debug_checks.h"
#include "gru4rec/train/determinism.h"
#include "gru4rec/train/recbole_state.h"
#include "gru4rec/train/schedule.h"

namespace gru4rec {
namespace {

namespace fs = std::filesystem;

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

OptimizerOptions optimizer_options(const Options& options) {
  return {.learner = options.learner,
          .learning_rate = options.learning_rate,
          .weight_decay = options.weight_decay,
          .clip_norm = options.clip_grad_norm,
          .clip_norm_type = options.clip_grad_norm_type,
          .freeze_table = options.freeze_item_embeddings,
          .ema_decay = options.ema_decay};
}

PlanOptions plan_options(const Options& options) {
  return {.seed = options.seed,
          .batch_targets = static_cast<uint64_t>(options.train_batch_size),
          .max_length = static_cast<uint32_t>(options.MAX_ITEM_LIST_LENGTH),
          .augmentation = options.augmentation,
          .replicas = static_cast<uint32_t>(options.replicas),
          .recent_fraction = options.recent_fraction};
}

EvaluatorOptions evaluator_options(const Options& options) {
  return {.max_length = static_cast<uint32_t>(options.MAX_ITEM_LIST_LENGTH),
          .max_k = largest_k(options.topk, options.valid_metric),
          .direction = options.direction,
          .batch_targets = options.eval_batch_size};
}

LossOptions loss_options(const Options& options) {
  return {.type = options.loss_type,
          .score_padding = options.score_padding,
          .negatives = options.train_neg_sample_args,
          .n_sample = options.n_sample,
          .sample_alpha = options.sample_alpha,
          .logq_correction = options.logq_correction,
          .bpreg = options.bpreg,
          .ranking_margin = options.ranking_margin,
          .precision = options.precision};
}

std::shared_ptr<const OutputLoss> loss_for(const Options& options, const Store& store) {
  const LossOptions loss = loss_options(options);
  return make_loss(loss,
                   loss.needs_popularity() ? training_popularity(store) : std::vector<uint64_t>(store.info().catalogue + 1));
}

// What a start has settled takes the place of what was left open.
Options settled(Options options, const RunStart& start) {
  options.replicas = start.replicas;
  options.precision = start.precision;
  return options;
}

bool all_finite(const at::Tensor& tensor) {
  if (!tensor.is_cpu()) return tensor.isfinite().all().item<bool>();
  const std::span<const float> values(tensor.const_data_ptr<float>(), static_cast<size_t>(tensor.numel()));
  constexpr uint32_t kExponent = 0x7f800000;
  uint32_t non_finite = 0;
  for (float value : values) non_finite |= (std::bit_cast<uint32_t>(value) & kExponent) == kExponent;
  return non_finite == 0;
}

// "12, 17, 40 and 211 more"
std::string some_sessions(const Batch& batch) {
  constexpr size_t kShown = 8;
  std::vector<uint64_t> sessions = batch.sessions;
  std::sort(sessions.begin(), sessions.end());
  sessions.erase(std::unique(sessions.begin(), sessions.end()), sessions.end());
  std::string text;
  for (size_t i = 0; i < std::min(kShown, sessions.size()); ++i) text += fmt::format("{}{}", i ? ", " : "", sessions[i]);
  return sessions.size() > kShown ? text + fmt::format(" and {} more", sessions.size() - kShown) : text;
}

// Those that its numbers depend on. A checkpoint from before there was a choice of precision is of fp32.
Options options_of(const CheckpointInfo& checkpoint, const std::string& name) {
  Options options = options_from_yaml(checkpoint.number_options, name);
  if (options.precision == Precision::automatic) options.precision = Precision::fp32;
  return options;
}

// Why a checkpoint cannot go on with this store and these options; empty if it can.
std::string why_not(const CheckpointInfo& checkpoint, const std::string& name, const Options& options, const StoreInfo& store) {
  if (!store.extends(checkpoint.data_digest) && checkpoint.shape.catalogue != static_cast<int64_t>(store.catalogue))
    return fmt::format(
        "cannot resume: {} was trained on a catalogue of {} items, this store has {} and did not grow from it. Pass the store "
        "of "
        "that run, or --init_from with another run_dir to start from its weights.",
        name, checkpoint.shape.catalogue, store.catalogue);
  if (!store.extends(checkpoint.data_digest))
    return fmt::format(
        "cannot resume: {} was trained on data with the digest {}, this store has {} and did not grow from it. Pass the store "
        "of "
        "that run ({}), or --init_from with another run_dir to start from its weights.",
        name, hex_text(checkpoint.data_digest), hex_text(store.data_digest), checkpoint.store);
  const Options before = options_of(checkpoint, name);
  Options now = options;
  now.replicas = checkpoint.replicas;  // checked by itself
  if (now.precision == Precision::automatic) now.precision = before.precision;
  const std::vector<std::string> changed = differences(before, now, /*numbers_only=*/true);
  if (!changed.empty())
    return fmt::format(
        "cannot resume: {} was trained with other options ({}). Pass the options of that run, or start a new run with "
        "another run_dir.",
        name, fmt::join(changed, "; "));
  return {};
}

// The claim of equal bits holds for one program, one instruction set and one number of threads.
void warn_of_other_kernels(const CheckpointInfo& before, const CheckpointInfo& now) {
  std::vector<std::string> changed;
  if (before.version != now.version) changed.push_back(fmt::format("gru4rec {} → {}", before.version, now.version));
  if (before.capability != now.capability)
    changed.push_back(fmt::format("instructions {} → {}", before.capability, now.capability));
  if (before.threads != now.threads) changed.push_back(fmt::format("num_threads {} → {}", before.threads, now.threads));
  if (!changed.empty())
    spdlog::warn("resumed under other circumstances ({}): the last bits may differ from those of a run that was never stopped",
                 fmt::join(changed, ", "));
}

std::string table_text(const ModelShape& shape) { return fmt::format("embedding_size {}", shape.embedding_size); }
std::string shape_text(const ModelShape& shape) {
  return fmt::format("{}, hidden_size {}, num_layers {}, {}{}{}", table_text(shape), shape.hidden_size, shape.num_layers,
                     shape.dense_layer ? "" : "no dense layer, ", shape.cosine ? "cosine scores" : "dot scores",
                     shape.cosine && shape.learn_score_scale ? " of a learned scale" : "");
}

// What a new run begins with instead of random weights.
struct WeightSource {
  std::string path;  // empty: nothing
  const char* option;
  const char* what;
  bool table_only;
};
WeightSource weight_source(const Options& options) {
  if (!options.init_from.empty()) return {options.init_from, "init_from", "weights", false};
  return {options.item_embeddings_from, "item_embeddings_from", "item embeddings", true};
}

// Item embeddings that are held constant should have been learned somewhere.
void check_random_table(const Options& options) {
  if (!options.freeze_item_embeddings) return;
  constexpr const char* kRemedy = "Pass a trained run as item_embeddings_from, or as init_from.";
  if (options.loss_type == LossType::cosine_embedding)
    throw UserError("loss_type cosine_embedding learns to predict item embeddings: got random ones, wanted trained ones. {}",
                    kRemedy);
  spdlog::warn("freeze_item_embeddings holds random item embeddings constant. {}", kRemedy);
}

// The checkpoint that an option names, verified.
struct NamedCheckpoint {
  fs::path file;
  CheckpointInfo info;
};
NamedCheckpoint checkpoint_named(const char* option, const std::string& path) {
  try {
    const fs::path file = best_checkpoint_at(path);
    return {file, read_checkpoint_info(file)};
  } catch (const UserError& error) {
    throw UserError("option '{}': {}", option, error.what());
  }
}

// A run that begins writes over what run_dir holds: not over a run whose checkpoints are in another folder.
void require_no_other_run(const Options& options) {
  const std::optional<Options> there = options_of_run(options.run_dir);
  if (!there || fs::weakly_canonical(there->checkpoint_dir) == fs::weakly_canonical(options.checkpoint_dir)) return;
  const std::vector<int64_t> steps = CheckpointFolder(there->checkpoint_dir, 1).steps();
  if (!steps.empty())
    throw UserError(
        "{} already holds a run, up to step {}, with its checkpoints in {}. "
        "Pass --checkpoint_dir {} --resume to go on with it, or another run_dir to start a new one.",
        options.run_dir, steps.back(), there->checkpoint_dir, there->checkpoint_dir);
}

RunStart look_for_start(const Options& options, const StoreInfo& store) {
  RunStart start{options.replicas, -1, options.precision};
  if (start.precision == Precision::automatic) {
    const bool fast_bf16 = options.device == DeviceKind::cpu && bf16_in_hardware();  // of GPUs nothing has been measured
    start.precision = fast_bf16 ? Precision::bf16 : Precision::fp32;
  }
  const CheckpointFolder checkpoints(options.checkpoint_dir, options.keep_checkpoints);
  if (!options.resume) {
    if (!checkpoints.steps().empty())
      throw UserError(
          "{} already holds a run, up to step {}. Pass --resume to go on with it, or another run_dir to start a new one.",
          checkpoints.path().string(), checkpoints.steps().back());
    require_no_other_run(options);
    return start;
  }
  const auto found = checkpoints.newest_good();
  if (!found) {
    require_no_other_run(options);
    return start;
  }
  for (const std::string& line : found->skipped) spdlog::warn("checkpoint skipped: {}", line);
  const fs::path file = checkpoints.file_of(found->step);
  const CheckpointInfo& info = found->info;
  if (const std::string refusal = why_not(info, file.string(), options, store); !refusal.empty()) throw UserError(refusal);
  if (options.replicas != 0 && options.replicas != info.replicas)
    throw UserError("cannot resume: {} belongs to a run of {} replicas, replicas is {}. Leave replicas out, or pass {}.",
                    file.string(), info.replicas, options.replicas, info.replicas);
  return {info.replicas, found->step, options_of(info, file.string()).precision, info.data_digest != store.data_digest};
}

// Of the gradient's memory; where that of the table is by rows, it grows to what they want.
int64_t first_length(const ParameterLayout& layout, const Options& options, const ByRows& parts) {
  return parts.input ? layout.dense_floats() : layout.gradient_floats(options.freeze_item_embeddings);
}

}  // namespace

ByRows by_rows(const Options& options, const ParameterLayout& layout) {
  if (options.freeze_item_embeddings) return {};
  const bool output = moves_few_rows(options.loss_type) && options.teacher.empty();
  return {.input = output || layout.reads_few_rows(options.train_batch_size), .output = output};
}

ModelShape shape_of(const Options& options, const StoreInfo& store) {
  return {.catalogue = static_cast<int64_t>(store.catalogue),
          .embedding_size = options.embedding_size,
          .hidden_size = options.hidden_size,
          .num_layers = options.num_layers,
          .dropout_prob = options.dropout_prob,
          .hidden_dropout_prob = options.hidden_dropout_prob,
          .output_dropout_prob = options.output_dropout_prob,
          .dense_layer = options.dense_layer,
          .score_padding = options.score_padding,
          .cosine = options.score == ScoreKind::cosine,
          .score_scale = options.score_scale,
          .learn_score_scale = options.learn_score_scale};
}

RunStart find_start(const Options& options, const StoreInfo& store, Communicator& comm) {
  RunStart start;
  if (comm.rank() == 0) start = look_for_start(options, store);
  comm.broadcast(0, std::span<RunStart>(&start, 1));
  if (start.replicas == 0) start.replicas = comm.size();
  return start;
}

Trainer::Trainer(const Options& given, const RunStart& start, const Store& store, Communicator& comm, const StopFlag& stop,
                 RunFolder* folder, TrainListener* listener)
    : options_(settled(given, start)),
      store_(store),
      comm_(comm),
      stop_(stop),
      folder_(folder),
      listener_(listener),
      layout_(static_cast<int>(options_.replicas), comm.size()),
      model_(shape_of(options_, store.info()), compute_device(options_.device, comm.local_rank())),
      optimizer_(model_.layout(), optimizer_options(options_)),
      plan_(std::make_unique<EpochPlan>(store, plan_options(options_))),
      by_rows_(by_rows(options_, model_.layout())),
      rows_(model_.layout().table().shape[0]),
      sum_device_(comm.carries_device_memory() ? model_.device() : at::Device(at::kCPU)),
      sum_memory_(sum_device_.is_cpu() ? nullptr : std::make_unique<DeviceMemory>(sum_device_)),
      gradient_(layout_, comm.rank(), static_cast<size_t>(first_length(model_.layout(), options_, by_rows_)),
                sum_memory_ ? *sum_memory_ : host_memory()),
      slices_(slices_of_update(model_.layout(), options_.freeze_item_embeddings, by_rows_.input, comm.size())),
      valid_(store, Split::valid, evaluator_options(options_)),
      early_stopping_{options_.stopping_step, options_.metric_decimal_place},
      checkpoints_({options_.checkpoint_dir, options_.keep_checkpoints}, options_.checkpoint_in_background),
      started_at_(now()),
      epoch_started_at_(started_at_) {
  if (options_.direction == Direction::backward && store.info().protocol == Protocol::leave_one_out && options_.eval_step != 0)
    throw UserError(
        "direction backward cannot be evaluated on a store that was split leave one out: its targets have no future. Set "
        "eval_step to 0, or ingest with a split of whole sessions.");
  if (options_.learning_rate_schedule == Schedule::plateau && valid_.targets() == 0)
    throw UserError(
        "learning_rate_schedule plateau lowers the rate by evaluations on valid, and the store {} has no valid targets. Ingest "
        "it with a split that makes some (eval_args), or set learning_rate_schedule to constant or cosine.",
        options_.store);
  share_parameters();
  if (comm.rank() == 0) catalogue_ = std::make_shared<Catalogue>(catalogue_of(store, options_));
  loss_ = loss_for(options_, store);
  model_.set_loss(loss_);
  model_.set_precision(options_.precision);
  if (options_.ema_decay > 0) average_ = std::make_unique<Gru4Rec>(model_.shape(), model_.device());
  load_teacher();
  open_batches();
  state_.best_histogram = RankHistogram(evaluator_options(options_).max_k);
  if (start.resume_step >= 0)
    restore(start.resume_step, start.grown);
  else
    initialise();
  if (folder_) folder_->cut_metrics_after(state_.step);
  if (options_.debug) watch_.emplace(model_);
  require_equal_parameters();
  comm_.set_wait_hook([this] {
    if (stop_.seconds_since() > options_.stop_timeout)
      throw SurroundingsError(
          "told to stop by signal {}, but no step could be completed within {} s (stop_timeout): another rank does not answer. "
          "What was done since the last checkpoint is lost; resume from there.",
          stop_.received(), options_.stop_timeout);
  });
}

Trainer::~Trainer() { comm_.set_wait_hook({}); }

Outcome Trainer::run() {
  if (comm_.rank() == 0 && options_.resume && state_.step > 0 && early_stopping_.exhausted(state_.best))
    spdlog::info(
        "nothing is left to train: {} evaluations without a better one (stopping_step {}). Raise stopping_step to go on.",
        state_.best.stalled, options_.stopping_step);
  if (options_.checkpoint_in_background && comm_.rank() == 0) {
    spdlog::info("checkpoints are written in the background, each from a copy of the state");
    if (!finished()) checkpoints_.make_room(state_of(model_, optimizer_, average_.get()));
  }
  start_overlap();
  while (!finished()) {
    const int stop_signal = take_step();
    if (state_.batch == plan_->batches(state_.epoch)) record_epoch();
    if (checkpoint_due() || stop_signal != 0) save();
    if (stop_signal != 0 && !finished()) return finish(stop_signal);
  }
  return finish(0);
}

// Collective. Returns the signal that came to any rank, or 0.
int Trainer::take_step() {
  const double start = now();
  const StepReport report = run_replicas();
  clock_.enter(Phase::agreement);
  const Agreement all = agree(comm_, layout_, report);
  clock_.enter(Phase::other);
  if (all.failed()) {  // before any weight changes
    end_writing();
    throw all.error();
  }
  update(all);
  step_seconds_ += now() - start;
  report_step(all);
  epoch_own_targets_ += report.targets;
  return all.stop;
}

Pace Trainer::measure_pace(double seconds) {
  constexpr uint64_t kWarmUp = 2;        // steps, in which memory is asked for
  constexpr uint64_t kEvaluated = 1024;  // targets of a rank, about
  start_overlap();
  Pace pace{.targets = plan_->targets(),
            .steps = plan_->batches(state_.epoch),
            .targets_per_second = 0,
            .valid_targets = options_.eval_step == 0 ? 0 : valid_.targets(),
            .evaluated_per_second = 0};
  uint64_t steps = 0;
  double started = now();
  for (uint8_t goes_on = 1; goes_on != 0; comm_.broadcast(0, std::span<uint8_t>(&goes_on, 1))) {
    take_step();
    if (state_.batch == plan_->batches(state_.epoch)) {
      ++state_.epoch;
      state_.batch = 0;
    }
    if (++steps == kWarmUp) {
      started = now();
      step_targets_ = 0;
    }
    goes_on = steps <= kWarmUp || now() - started < seconds;
  }
  pace.targets_per_second = static_cast<double>(step_targets_) / (now() - started);
  if (pace.valid_targets > 0) {
    comm_.progress().report(state_.step, "evaluation");
    const auto ranks = static_cast<uint64_t>(comm_.size());
    const auto parts = static_cast<int>(std::max<uint64_t>(1, pace.valid_targets / (kEvaluated * ranks)));
    const double start = now();
    const RankHistogram part = valid_.run_part(evaluated(), comm_.rank(), comm_.size() * parts);
    struct Done {
      double targets, seconds;
    };
    Done all{0, 0};
    for (const Done& done : comm_.all_gather(Done{static_cast<double>(part.targets), now() - start}))
      all = {all.targets + done.targets, std::max(all.seconds, done.seconds)};
    pace.evaluated_per_second = all.targets / all.seconds;
  }
  return pace;
}

// Forward and backward of this rank's replicas, one after the other. An error is reported, not thrown: the others must learn of
// it.
StepReport Trainer::run_replicas() {
  comm_.progress().report(state_.step, "forward and backward");
  clock_.enter(Phase::batches);
  StepReport report;
  report.step = state_.step;
  report.stop_signal = stop_.received();
  sent_rows_ = 0;
  sent_finite_ = true;
  std::vector<Share> shares;
  bool failed = false;
  const StepKey key{options_.seed, state_.epoch, state_.step};
  try {
    checkpoints_.check();
    shares = batches_->take({state_.epoch, state_.batch, state_.step});
    if (by_rows_.input) name_rows(shares, key);
  } catch (const std::exception& error) {
    report.error = explain(error);
    report.error_code = exit_code_of(error);
    failed = true;
  }
  if (by_rows_.input) agree_on_rows();  // with an error too: the others wait for it
  if (failed) return report;
  clock_.enter(Phase::compute);
  try {
    for (const Share& share : shares) {
      const int replica = static_cast<int>(share.replica);
      const Batch& batch = share.batch;
      const std::unique_ptr<OutputLoss> other_loss = loss_of(share);
      const at::Tensor gradient = tensor_over(gradient_.begin(replica), sum_device_);
      RowsDone done;
      if (sums_ && &share == &shares.back()) done = [&](int64_t rows) { send_output(rows, gradient); };
      const LossSum loss = model_.forward_backward(batch, key, gradient, other_loss.get(), rows(), done);
      report.targets += loss.count;
      report.losses.push_back(loss.sum);
      if (!std::isfinite(loss.sum) || !is_finite(gradient)) {
        report.non_finite = true;
        report.error_code = kExitUser;
        report.error = fmt::format(
            "the loss ({}) or a gradient is not finite at step {}, replica {}, sessions {}. Nothing was updated: resume from "
            "the "
            "last checkpoint with a smaller learning_rate or with clip_grad_norm, or look at it with --debug.",
            loss.sum, state_.step, replica, some_sessions(batch));
        break;
      }
      gradient_.end(replica);
    }
    if (sums_ && !report.non_finite) send_rest();
  } catch (const std::exception& error) {
    report.error = explain(error);
    report.error_code = exit_code_of(error);
  }
  return report;
}

// Collective.
void Trainer::open_batches() {
  const int threads = static_cast<int>(options_.num_threads) + (overlaps() ? 1 : 0);
  const bool spare = options_.batches_ahead == BatchesAhead::automatic && core_to_spare(comm_, threads);
  const bool ahead = spare || options_.batches_ahead == BatchesAhead::always;
  const auto own = layout_.replicas_of(comm_.rank());
  const BatchOptions batches{.first_replica = static_cast<uint32_t>(own.first),
                             .last_replica = static_cast<uint32_t>(own.last),
                             .seed = options_.seed,
                             .epochs = static_cast<uint64_t>(options_.epochs),
                             .item_dropout_prob = options_.item_dropout_prob,
                             .direction = options_.direction,
                             .backward_too = teacher_.has_value(),
                             .draw = [loss = loss_, seed = options_.seed](const Batch& batch, const StepPlace& place) {
                               return loss->draw(batch, {seed, place.epoch, place.step});
                             }};
  batches_ = std::make_unique<BatchSource>(store_, *plan_, batches, ahead);
  if (comm_.rank() == 0 && batches_->makes_ahead())
    spdlog::info("batches_ahead: a second thread of rank 0 packs the next step's batch");
}

void Trainer::start_overlap() {
  if (!options_.overlap) return;
  const std::string why = why_no_overlap();
  if (why.empty()) sums_ = std::make_unique<SumThread>(gradient_, comm_);
  if (comm_.rank() != 0) return;
  if (why.empty())
    spdlog::info("overlap: a second thread of each rank sums gradients while backward runs");
  else
    spdlog::warn("overlap has no effect: {}", why);
}

std::string Trainer::why_no_overlap() const {
  if (comm_.size() == 1) return "one process has nothing to send";
  if (options_.reduction == Reduction::native) return "with reduction native gradients are added as a whole";
  if (!model_.device().is_cpu()) return "a GPU hands over its gradient as a whole";
  if (options_.freeze_item_embeddings) return "the item table is constant and has no gradient";
  return {};
}

// Where the first `rows` rows of the output layer's gradient of the table end in a gradient.
int64_t Trainer::end_of_output(int64_t rows) const {
  const ParameterLayout& layout = model_.layout();
  const bool all = rows == output_rows();
  return layout.table_output_gradient() + (all ? layout.floats_of_rows(rows) : rows * layout.table().shape[1]);
}

// Hands the whole blocks among the first `rows` rows to the second thread, so that all ranks send the same parts. `open`: the
// gradient of the last replica as far as it goes; undefined if that has ended.
void Trainer::send_output(int64_t rows, const at::Tensor& open) {
  while (sent_rows_ < rows) {
    const int64_t next = std::min(sent_rows_ + kTableBlockRows, output_rows());
    if (next > rows) return;
    const int64_t first = end_of_output(sent_rows_), last = end_of_output(next);
    if (open.defined()) {
      sent_finite_ = sent_finite_ && all_finite(open.narrow(0, first, last - first));
      gradient_.settle(static_cast<size_t>(first), static_cast<size_t>(last));
    }
    sums_->send(static_cast<size_t>(first), static_cast<size_t>(last));
    sent_rows_ = next;
  }
}

void Trainer::send_rest() {
  send_output(output_rows(), {});
  sums_->send(0, static_cast<size_t>(model_.layout().dense_floats()));
  sums_->send(static_cast<size_t>(end_of_output(output_rows())), gradient_.length());
}

// Of a replica's gradient; what was sent of it is a sum of several by now, and was looked at before.
bool Trainer::is_finite(const at::Tensor& gradient) const {
  if (sent_rows_ == 0) return all_finite(gradient);
  const int64_t dense = model_.layout().dense_floats(), sent = end_of_output(sent_rows_);
  return sent_finite_ && all_finite(gradient.narrow(0, 0, dense)) &&
         all_finite(gradient.narrow(0, sent, gradient.size(0) - sent));
}

// Collective. In the memory of the host, whatever memory they were added in. Where ranks update slices, of this rank's alone.
std::span<float> Trainer::sum_of_gradients() {
  if (updates_slices()) {
    gradient_.reduce_scatter(comm_, slices_of_gradient(), OrderedSum::Heard::yes);  // by agree()
    return gradient_.total();
  }
  if (sums_) {
    sums_->wait();
    return gradient_.total();
  }
  const bool native = options_.reduction == Reduction::native && comm_.adds_natively();
  const std::span<float> sum = native ? gradient_.reduce_natively(comm_) : gradient_.reduce(comm_);
  if (sum_device_.is_cpu()) return sum;
  sum_on_host_ = downloaded(tensor_over(sum, sum_device_));
  return {sum_on_host_.data_ptr<float>(), sum.size()};
}

// Whether each rank adds and updates its slice of the parameters, and gets the slices of the others when they are updated, as
// in ZeRO, stage 1 (Rajbhandari et al. 2020), but that each rank has memory for all moments. Not where something wants the
// whole gradient, and not with sampled losses, where there is far less of it than there are parameters.
bool Trainer::updates_slices() const {
  const bool by_library = options_.reduction == Reduction::native && comm_.adds_natively();
  const bool whole_gradient = by_library || overlaps() || !sum_device_.is_cpu() || options_.clip_grad_norm > 0;
  return comm_.size() > 1 && !whole_gradient && !by_rows_.output;
}

// [dense | table from the output layer], which lie as the parameters do, and the table from the inputs, which may have few
// rows.
std::vector<Slices> Trainer::slices_of_gradient() const {
  if (options_.freeze_item_embeddings) return {slices_};
  const ParameterLayout& layout = model_.layout();
  const auto dense = static_cast<size_t>(layout.dense_floats());
  const int64_t start = layout.table_input_gradient(rows()), size = layout.table().shape[1];
  Slices input;
  for (const size_t bound : slices_.bounds) {
    const int64_t row = bound > dense ? static_cast<int64_t>(bound - dense) / size : 0;
    const int64_t place = by_rows_.input ? rows_.first_place_from(row) : row;
    input.bounds.push_back(static_cast<size_t>(start + place * size));
  }
  return {slices_, input};
}

// Collective. So that ranks of this host read updated weights where they are; all exchange gradients before they change again.
void Trainer::share_parameters() {
  if (!updates_slices() || !model_.device().is_cpu()) return;
  shared_parameters_ = SharedFloats(model_.parameters().size());
  near_parameters_ = shared_parameters_.map_others(comm_);
  if (near_parameters_.ranks() == 0)
    shared_parameters_ = SharedFloats();
  else
    model_.move_parameters(shared_parameters_.data());
}

// Collective. Before moments are saved, or the average is looked at.
void Trainer::complete_state() {
  if (state_complete_) return;
  gather_slices(comm_, optimizer_.first_moment(), {&slices_, 1});
  gather_slices(comm_, optimizer_.second_moment(), {&slices_, 1});
  if (average_) gather_slices(comm_, average_->parameters(), {&slices_, 1});
  state_complete_ = true;
}

// The rows that shares of this rank can move.
void Trainer::name_rows(const std::vector<Share>& shares, const StepKey& key) {
  rows_.clear();
  for (const Share& share : shares) {
    if (share.batch.targets() == 0) continue;
    rows_.add(share.batch.items);
    if (by_rows_.output) loss_->name_rows(share.batch, key, rows_);
  }
}

// The union over the ranks, so that every replica's gradient has the same rows.
void Trainer::agree_on_rows() {
  comm_.progress().report(state_.step, "rows of the gradient");
  clock_.enter(Phase::agreement);
  if (comm_.size() > 1) add_rows_of_others();
  rows_.close();
  gradient_.set_length(static_cast<size_t>(model_.layout().gradient_floats_by_rows(rows())));
  comm_.progress().report(state_.step, "forward and backward");
}

// Collective. As a bit for each row of the table where that is short, else as ids.
void Trainer::add_rows_of_others() {
  constexpr size_t kMostWords = 512;  // 4 KiB: ranks of a host have a quick way for so much
  const std::span<const uint64_t> marks = rows_.marks();
  if (marks.size() <= kMostWords) {
    all_marks_.resize(marks.size() * static_cast<size_t>(comm_.size()));
    comm_.all_gather("rows of the gradient", marks, std::span(all_marks_));
    for (size_t at = 0; at < all_marks_.size(); at += marks.size()) rows_.add_marks({&all_marks_[at], marks.size()});
    return;
  }
  rows_.close();
  const std::vector<size_t> counts = comm_.all_gather(static_cast<size_t>(rows_.size()));
  all_ids_.resize(std::accumulate(counts.begin(), counts.end(), size_t{0}));
  comm_.all_gather_v(rows_.ids(), std::span<const size_t>(counts), std::span<int64_t>(all_ids_));
  rows_.add(all_ids_);
}

void Trainer::update(const Agreement& all) {
  comm_.progress().report(state_.step, "sum of gradients");
  const double factor = rate_factor_now();
  ++state_.step;
  clock_.enter(Phase::sum);
  const std::span<float> sum = sum_of_gradients();
  clock_.enter(Phase::optimizer);
  if (all.targets > 0) {  // item dropout may leave none in a tiny batch
    optimizer_.step(model_.parameters(), sum, all.targets, state_.step, factor, rows(),
                    average_ ? average_->parameters() : std::span<float>{},
                    updates_slices() ? std::optional(slices_.of(comm_.rank())) : std::nullopt);
  }
  clock_.enter(Phase::sum);
  if (updates_slices()) {
    gather_slices(comm_, model_.parameters(), {&slices_, 1}, near_parameters_);
    state_complete_ = false;
  }
  clock_.enter(Phase::other);
  if (options_.debug && all.targets > 0) print_norms(model_, sum, rows(), all.targets, state_.step);
  state_.epoch_loss += all.loss;
  state_.epoch_targets += all.targets;
  ++state_.batch;
  saved_ = false;
  step_targets_ += all.targets;
  epoch_targets_ += all.targets;
  learning_rate_ = options_.learning_rate * factor;
}

void Trainer::report_step(const Agreement& all) {
  if (folder_)
    folder_->record_step(state_.step, all.loss / static_cast<double>(std::max<int64_t>(1, all.targets)), learning_rate_);
  if (listener_)
    listener_->on_step(state_, plan_->batches(state_.epoch),
                       state_.epoch_loss / static_cast<double>(std::max<int64_t>(1, state_.epoch_targets)),
                       static_cast<double>(step_targets_) / step_seconds_);
}

double Trainer::rate_factor_now() const {
  const double epochs_done =
      static_cast<double>(state_.epoch) + static_cast<double>(state_.batch) / static_cast<double>(plan_->batches(state_.epoch));
  return state_.plateau_rate * rate_factor(options_.learning_rate_schedule, options_.warmup_steps,
                                           epochs_done / static_cast<double>(options_.epochs), state_.step);
}

void Trainer::lower_rate_on_plateau() {
  if (options_.learning_rate_schedule != Schedule::plateau) return;
  if (!falls_on_plateau(state_.best.stalled, options_.plateau_patience)) return;
  state_.plateau_rate *= options_.plateau_factor;
  if (comm_.rank() == 0)
    spdlog::info("learning rate lowered to {:.6g}: {} evaluation(s) without a better {}",
                 state_.plateau_rate * options_.learning_rate, state_.best.stalled, options_.valid_metric);
}

void Trainer::record_epoch() {
  const double mean_loss = state_.epoch_loss / static_cast<double>(std::max<int64_t>(1, state_.epoch_targets));
  const std::optional<RankHistogram> valid = evaluate_valid();
  bool improved = false;
  if (valid) {
    improved = early_stopping_.judge(compute_metric(*valid, options_.valid_metric), state_.best).improved;
    if (improved) state_.best_histogram = *valid;
    lower_rate_on_plateau();
  }
  // Before anything has been evaluated the newest is the best there is; later an epoch that was not evaluated is none.
  if (improved || (!valid && state_.best_histogram.targets == 0)) {
    state_.best.epoch = state_.epoch;
    state_.best.step = state_.step;
  }
  nlohmann::json record = record_of(clock_.take(), mean_loss, valid);
  ++state_.epoch;
  state_.batch = 0;
  state_.epoch_loss = 0;
  state_.epoch_targets = 0;
  const double epoch_seconds = now() - epoch_started_at_;
  epoch_started_at_ = now();
  if (listener_) listener_->on_epoch(state_, mean_loss, valid, improved, epoch_seconds);
  if (folder_) {
    record["seconds"] = epoch_seconds;
    record["improved"] = improved;
    folder_->append_metrics(record);  // before the checkpoint: a resumed run cuts off what it will write again
  }
  save();
}

// Collective. The line of metrics.jsonl of an epoch that ends, but for its seconds.
nlohmann::json Trainer::record_of(const PhaseTimes& times, double mean_loss, const std::optional<RankHistogram>& valid) {
  const auto rate = [](int64_t targets, double seconds) { return seconds > 0 ? static_cast<double>(targets) / seconds : 0; };
  const std::vector<double> rates = comm_.all_gather(rate(epoch_own_targets_, times[Phase::batches] + times[Phase::compute]));
  nlohmann::json record = {{"epoch", state_.epoch},
                           {"step", state_.step},
                           {"train_loss", mean_loss},
                           {"learning_rate", learning_rate_},
                           {"events_per_second", rate(step_targets_, step_seconds_)},
                           {"targets_per_second", rate(epoch_targets_, times.steps())},
                           {"rank_targets_per_second", rates}};
  for (size_t phase = 0; phase < kPhases; ++phase) record["time"][kPhaseNames[phase]] = times.seconds[phase];
  if (valid) record["valid"] = compute_metrics(*valid, options_.metrics, options_.topk);
  epoch_targets_ = epoch_own_targets_ = 0;
  return record;
}

std::optional<RankHistogram> Trainer::evaluate_valid() {
  if (options_.eval_step == 0 || (state_.epoch + 1) % static_cast<uint64_t>(options_.eval_step) != 0) return std::nullopt;
  if (valid_.targets() == 0) return std::nullopt;
  comm_.progress().report(state_.step, "evaluation");
  clock_.enter(Phase::evaluation);
  complete_state();
  require_equal_parameters();
  auto valid = valid_.run(evaluated(), comm_);
  clock_.enter(Phase::other);
  return valid;
}

uint64_t Trainer::parameter_hash() const {
  Digest digest;
  digest.update(model_.parameters());
  if (average_) digest.update(average_->parameters());
  return digest.value();
}

void Trainer::require_equal_parameters() {
  const std::vector<uint64_t> hashes = comm_.all_gather(parameter_hash());
  for (int rank = 1; rank < comm_.size(); ++rank) {
    if (hashes[rank] == hashes[0]) continue;
    end_writing();
    throw BugError(
        "the parameters of {} have the hash {}, those of {} {}, at step {}. The ranks have drifted apart (a different "
        "processor or library, or damaged memory): resume from the last checkpoint, without that host if it happens again.",
        comm_.describe(rank), hex_text(hashes[rank]), comm_.describe(0), hex_text(hashes[0]), state_.step);
  }
}

bool Trainer::finished() const {
  return state_.epoch >= static_cast<uint64_t>(options_.epochs) || early_stopping_.exhausted(state_.best);
}

bool Trainer::checkpoint_due() const { return options_.checkpoint_steps > 0 && state_.step % options_.checkpoint_steps == 0; }

CheckpointInfo Trainer::checkpoint_info() const {
  CheckpointInfo info;
  info.state = state_;
  info.shape = model_.shape();
  info.replicas = options_.replicas;
  info.teacher_digest = teacher_digest_;
  info.data_digest = store_.info().data_digest;
  info.number_options = numbers_to_yaml(options_);
  info.options = to_yaml(options_);
  info.store = options_.store;
  info.world_size = comm_.size();
  info.threads = options_.num_threads;
  info.capability = model_.device().is_cpu() ? capability_name(pinned_capability()) : "cuda";
  info.version = kVersion;
  info.train_seconds = seconds();
  info.start_digest = start_digest_;
  info.catalogue = catalogue_;
  return info;
}

// Collective. Nobody goes on before it is done; its failure is that of all.
void Trainer::on_rank_zero(const std::function<void()>& work) {
  std::string failure;
  int code = kExitDone;
  if (comm_.rank() == 0) {
    try {
      work();
    } catch (const std::exception& error) {
      failure = explain(error);
      code = exit_code_of(error);
    }
  }
  comm_.broadcast(0, std::span<int>(&code, 1));
  if (code != kExitDone) throw Error(code, comm_.broadcast_text(0, failure));
}

// Collective, before an error that all ranks have: the rank that leaves first ends the others, and a checkpoint may be in
// flight.
void Trainer::end_writing() {
  on_rank_zero([this] {
    try {
      checkpoints_.wait();
    } catch (const std::exception& also) {
      spdlog::error("{}", explain(also));
    }
  });
}

// When this returns the file is durable, or being written.
void Trainer::save() {
  if (saved_) return;
  comm_.progress().report(state_.step, "checkpoint");
  clock_.enter(Phase::checkpoint);
  complete_state();
  on_rank_zero([this] {
    if (folder_) folder_->flush_steps();
    checkpoints_.write(checkpoint_info(), state_of(model_, optimizer_, average_.get()));
  });
  saved_ = true;
  clock_.enter(Phase::other);
}

void Trainer::initialise_weights() {
  model_.initialise(options_.seed, options_.embedding_init);
  if (average_) std::ranges::copy(model_.parameters(), average_->parameters().begin());
}

void Trainer::initialise() {
  initialise_weights();
  load_start();
  if (average_) std::ranges::copy(model_.parameters(), average_->parameters().begin());
}

// The weights of a checkpoint, or its item table only. Rows are those of equal original ids; an item that the checkpoint lacks
// keeps its initial one.
void Trainer::take_weights(const fs::path& file, const CheckpointInfo& info, const std::string& what, bool table_only) {
  Gru4Rec other(info.shape);
  load_weights(file, other);
  const ParameterInfo& table = model_.layout().table();
  for (const ParameterInfo& parameter : model_.layout().parameters())
    if (!table_only && parameter.name != table.name) model_.parameter(parameter.name).copy_(other.parameter(parameter.name));
  const std::vector<uint32_t> rows = rows_of_start(file, info, what);
  const auto from = other.parameters().subspan(other.layout().table().offset), to = model_.parameters().subspan(table.offset);
  const auto size = static_cast<size_t>(table.shape[1]);
  for (size_t item = 0; item < rows.size(); ++item)  // 0: padding
    if (item == 0 || rows[item] != 0) std::ranges::copy(from.subspan(rows[item] * size, size), to.subspan(item * size).begin());
}

// The row in a checkpoint of each item of this run, 0: none.
std::vector<uint32_t> Trainer::rows_of_start(const fs::path& file, const CheckpointInfo& info, const std::string& what) const {
  const auto items = static_cast<size_t>(info.shape.catalogue), wanted = catalogue_->item_names.size();
  if (info.data_digest == store_.info().data_digest || !info.catalogue) {
    if (items != wanted)
      throw UserError(
          "cannot begin with the {} of {}: it has {} items and not their ids, as it was written by an earlier version; this "
          "run "
          "has {} items. Pass the store of that run.",
          what, file.string(), items, wanted);
    if (info.data_digest != store_.info().data_digest)
      spdlog::warn(
          "{} was trained on other data ({}) with as many items, and does not hold their ids: its {} are of use only if "
          "the items have the same numbers",
          file.string(), info.store, what);
    std::vector<uint32_t> same(wanted + 1);
    std::iota(same.begin(), same.end(), 0u);
    return same;
  }
  std::vector<uint32_t> rows = numbers_in(*info.catalogue, catalogue_->item_names);
  const auto known = rows.size() - static_cast<size_t>(std::ranges::count(rows, 0u));
  if (known == 0)
    throw UserError(
        "cannot begin with the {} of {}: none of its {} items is among the {} of this store, wanted a catalogue that has grown "
        "or changed. Pass a checkpoint of this data.",
        what, file.string(), items, wanted);
  spdlog::info("{} of the {} items have a row in {}, by their ids; {} begin like those of a new run, {} rows are left out",
               known, wanted, file.string(), wanted - known, items - known);
  if (options_.freeze_item_embeddings && known < wanted)
    spdlog::warn("freeze_item_embeddings holds {} of the item embeddings constant as they were drawn", wanted - known);
  return rows;
}

void Trainer::load_start() {
  const WeightSource source = weight_source(options_);
  if (comm_.rank() == 0 && source.path.empty()) check_random_table(options_);
  if (source.path.empty()) return;
  if (comm_.rank() == 0 && names_recbole_state(source.path)) {
    start_digest_ = load_recbole_state(source.path, model_, catalogue_->item_names, source.table_only);
    spdlog::info("{} of {}", source.what, source.path);
  } else if (comm_.rank() == 0) {
    const auto [file, info] = checkpoint_named(source.option, source.path);
    const auto text_of = source.table_only ? table_text : shape_text;
    if (const std::string has = text_of(info.shape), wanted = text_of(model_.shape()); has != wanted)
      throw UserError("cannot begin with the {} of {} ({}): it has {}, this run has {}. Pass the options of that run.",
                      source.what, file.string(), source.option, has, wanted);
    take_weights(file, info, source.what, source.table_only);
    start_digest_ = info.digest;
    spdlog::info("{} of {}", source.what, file.string());
  }
  comm_.broadcast(0, model_.parameters());
}

void Trainer::load_teacher() {
  if (options_.teacher.empty()) return;
  NamedCheckpoint teacher;
  if (comm_.rank() == 0) {
    teacher = checkpoint_named("teacher", options_.teacher);
    const auto& [file, info] = teacher;
    if (options_from_yaml(info.options, file.string()).direction != Direction::backward)
      throw UserError("the teacher {} reads forward, like its student. Train one with direction backward.", file.string());
    if (info.shape.catalogue != model_.shape().catalogue)
      throw UserError(
          "the teacher {} was trained on a catalogue of {} items, this store has {}. Pass a teacher of this store ({}).",
          file.string(), info.shape.catalogue, model_.shape().catalogue, info.store);
    if (info.data_digest != store_.info().data_digest)
      spdlog::warn("the teacher {} was trained on other data ({}): its items must have the same numbers", file.string(),
                   info.store);
    teacher_digest_ = info.digest;
  }
  comm_.broadcast(0, std::span<ModelShape>(&teacher.info.shape, 1));
  teacher_.emplace(teacher.info.shape, model_.device());
  if (comm_.rank() == 0) load_weights(teacher.file, *teacher_);
  comm_.broadcast(0, teacher_->parameters());
  teacher_scorer_.emplace(*teacher_);
}

// The loss of a batch where it is not the one that the model has: with a teacher.
std::unique_ptr<OutputLoss> Trainer::loss_of(const Share& share) {
  if (!teacher_) return nullptr;
  return std::make_unique<DistilledLoss>(DistillationOptions{.lambda = options_.distill_lambda,
                                                             .temperature = options_.distill_temperature,
                                                             .t_squared = options_.distill_t_squared,
                                                             .score_padding = options_.score_padding,
                                                             .precision = options_.precision},
                                         view_of_teacher(*teacher_scorer_, share.batch, share.backward));
}

// The state of a run whose store has grown. What was measured on the former data is no measure any more, and a place among the
// former batches none: the epoch in progress begins again, and the best is looked for anew.
TrainState Trainer::state_on_grown_data(TrainState state) const {
  state.batch = 0;
  state.epoch_loss = 0;
  state.epoch_targets = 0;
  state.best = {};
  state.best_histogram = RankHistogram(evaluator_options(options_).max_k);
  return state;
}

void Trainer::restore(int64_t step, bool grown) {
  if (grown) initialise_weights();  // those of items that the checkpoint lacks will stay
  CheckpointInfo info;
  if (comm_.rank() == 0) {
    info = load_checkpoint(checkpoints_.folder().file_of(step), model_, optimizer_, average_.get());
    spdlog::info("resumed from {} (digest {})", checkpoints_.folder().file_of(step).string(), hex_text(info.digest));
    if (info.teacher_digest != teacher_digest_)
      throw UserError("cannot resume: {} learned from a teacher with the digest {}, {} has {}. Bring that teacher back.",
                      checkpoints_.folder().file_of(step).string(), hex_text(info.teacher_digest), options_.teacher,
                      hex_text(teacher_digest_));
    start_digest_ = info.start_digest;
    warn_of_other_kernels(info, checkpoint_info());
  }
  broadcast_checkpoint(comm_, info, model_, optimizer_, average_.get());
  state_ = grown ? state_on_grown_data(info.state) : info.state;
  seconds_before_ = info.train_seconds;
  saved_ = !grown;
  if (grown && comm_.rank() == 0)
    spdlog::info(
        "the store has grown since then, from {} items to {}: new ones begin like those of a new run, epoch {} begins again, "
        "and "
        "the best is looked for anew",
        info.shape.catalogue, model_.shape().catalogue, state_.epoch);
  if (grown && finished())
    throw UserError(
        "cannot resume on the store that has grown: nothing is left to train, {} epochs are done (epochs {}). Raise epochs to "
        "learn from the new data, or start a new run with --init_from.",
        state_.epoch, options_.epochs);
}

double Trainer::seconds() const { return seconds_before_ + now() - started_at_; }

RankHistogram Trainer::evaluate_best() {
  if (state_.best.step >= 0 && state_.best.step != state_.step) {  // -1: no epoch was asked for
    if (comm_.rank() == 0) load_weights(checkpoints_.folder().file_of(state_.best.step), evaluated());
    comm_.broadcast(0, evaluated().parameters());
  }
  return Evaluator(store_, Split::test, evaluator_options(options_)).run(evaluated(), comm_);
}

Outcome Trainer::finish(int stop_signal) {
  on_rank_zero([this] { checkpoints_.wait(); });
  Outcome outcome;
  outcome.stop_signal = stop_signal;
  outcome.epochs = state_.epoch;
  outcome.train_seconds = seconds();
  outcome.targets_per_second = step_seconds_ > 0 ? static_cast<double>(step_targets_) / step_seconds_ : 0;
  if (stop_signal != 0) return outcome;
  if (state_.best_histogram.targets > 0) outcome.valid = state_.best_histogram;
  const bool blind = options_.direction == Direction::backward && store_.info().protocol == Protocol::leave_one_out;
  if (store_.info().test_targets > 0 && !blind) outcome.test = evaluate_best();
  return outcome;
}

}  // namespace gru4rec

// The training loop. Every rank runs it with its own part of the replicas; what they agree on makes them move as one.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "gru4rec/base/options.h"
#include "gru4rec/comm/agreement.h"
#include "gru4rec/comm/communicator.h"
#include "gru4rec/comm/ordered_sum.h"
#include "gru4rec/comm/replica_layout.h"
#include "gru4rec/comm/sum_thread.h"
#include "gru4rec/data/batch_source.h"
#include "gru4rec/data/plan.h"
#include "gru4rec/data/row_set.h"
#include "gru4rec/data/store.h"
#include "gru4rec/eval/evaluator.h"
#include "gru4rec/model/distillation.h"
#include "gru4rec/model/gru4rec.h"
#include "gru4rec/train/checkpoint_writer.h"
#include "gru4rec/train/debug_checks.h"
#include "gru4rec/train/device_memory.h"
#include "gru4rec/train/early_stopping.h"
#include "gru4rec/train/optimizer.h"
#include "gru4rec/train/phase_clock.h"
#include "gru4rec/train/run_folder.h"
#include "gru4rec/train/state.h"
#include "gru4rec/train/stop_signal.h"

namespace gru4rec {

// What became of a run.
struct Outcome {
  int stop_signal = 0;                 // not 0: stopped on request after saving
  std::optional<RankHistogram> valid;  // of the best epoch
  std::optional<RankHistogram> test;   // with the parameters of the best epoch; empty if stopped
  uint64_t epochs = 0;                 // done
  double train_seconds = 0;            // wall time of the loop, over all starts of the run
  double targets_per_second = 0;       // trained targets ÷ time spent in steps, of this start
};

// How fast a run is, all ranks together; what a checkpoint takes is not in it.
struct Pace {
  uint64_t targets;             // of an epoch
  uint64_t steps;               // of an epoch
  double targets_per_second;    // in steps
  uint64_t valid_targets;       // of an evaluation
  double evaluated_per_second;  // targets; 0 where there are none
};

// The model that these options make for the catalogue of a store.
ModelShape shape_of(const Options& options, const StoreInfo& store);

// Whether the parts of the table's gradient have only the rows of a step (GradientRows): that of the inputs, and of the output
// layer, which never has them alone.
struct ByRows {
  bool input = false, output = false;
};
ByRows by_rows(const Options& options, const ParameterLayout& layout);

// Where a run begins.
struct RunStart {
  int64_t replicas = 0;                   // of the checkpoint, else options.replicas, else the number of ranks
  int64_t resume_step = -1;               // the checkpoint to go on from; -1: from the beginning
  Precision precision = Precision::fp32;  // of the checkpoint, else options.precision, else bf16 where the processor of rank 0
                                          // computes and has it
  bool grown = false;                     // the store has grown since that checkpoint
};

// Collective. Looks for the newest checkpoint that holds if options.resume is set, and shows loudly which newer ones do not.
// A store that has grown from that of the checkpoint is no other data. Throws UserError on rank 0 if the checkpoint was made
// from other data, for another model or with other options that change numbers, and if a run without options.resume would
// overwrite one that is there.
RunStart find_start(const Options& options, const StoreInfo& store, Communicator& comm);

// Called on rank 0 as training goes on: after each step and after each evaluated epoch.
struct TrainListener {
  virtual ~TrainListener() = default;
  virtual void on_step(const TrainState& state, uint64_t batches, double mean_loss, double targets_per_second) = 0;
  virtual void on_epoch(const TrainState& state, double mean_loss, const std::optional<RankHistogram>& valid, bool improved,
                        double seconds) = 0;
};

// One run from its start or a checkpoint to its end. All ranks build one with equal options and stores.
//
//   Trainer trainer(options, find_start(options, store.info(), comm), store, comm, stop, folder, listener);
//   Outcome outcome = trainer.run();
class Trainer {
 public:
  // Collective. `folder` and `listener` on rank 0 only.
  Trainer(const Options& options, const RunStart& start, const Store& store, Communicator& comm, const StopFlag& stop,
          RunFolder* folder, TrainListener* listener);
  ~Trainer();

  // Collective.
  Outcome run();

  // Collective. Takes steps for about `seconds` and evaluates a part of valid. Nothing is written, and the trainer is of no use
  // afterwards.
  Pace measure_pace(double seconds);

  const TrainState& state() const { return state_; }
  Gru4Rec& model() { return model_; }
  // What is evaluated: the moving average of the model, or the model itself without one. An average is whole after an
  // evaluation and after a checkpoint; between them a rank may have followed its slice of the parameters only.
  Gru4Rec& evaluated() { return average_ ? *average_ : model_; }
  uint64_t parameter_hash() const;  // average included

 private:
  void initialise();
  void initialise_weights();
  void load_start();
  void take_weights(const std::filesystem::path& file, const CheckpointInfo& info, const std::string& what, bool table_only);
  std::vector<uint32_t> rows_of_start(const std::filesystem::path& file, const CheckpointInfo& info,
                                      const std::string& what) const;
  TrainState state_on_grown_data(TrainState state) const;
  void load_teacher();
  std::unique_ptr<OutputLoss> loss_of(const Share& share);
  void restore(int64_t step, bool grown);
  CheckpointInfo checkpoint_info() const;
  void name_rows(const std::vector<Share>& shares, const StepKey& key);
  void agree_on_rows();
  void add_rows_of_others();
  GradientRows rows() const { return {by_rows_.input ? &rows_ : nullptr, by_rows_.output}; }
  int take_step();
  StepReport run_replicas();
  std::span<float> sum_of_gradients();
  bool updates_slices() const;
  std::vector<Slices> slices_of_gradient() const;
  void share_parameters();
  void complete_state();
  void open_batches();
  // With overlap.
  void start_overlap();
  std::string why_no_overlap() const;
  bool overlaps() const { return options_.overlap && why_no_overlap().empty(); }
  int64_t output_rows() const { return by_rows_.output ? rows_.size() : model_.layout().table().shape[0]; }
  int64_t end_of_output(int64_t rows) const;
  void send_output(int64_t rows, const at::Tensor& open);
  void send_rest();
  bool is_finite(const at::Tensor& gradient) const;
  void update(const Agreement& all);
  void report_step(const Agreement& all);
  void record_epoch();
  nlohmann::json record_of(const PhaseTimes& times, double mean_loss, const std::optional<RankHistogram>& valid);
  std::optional<RankHistogram> evaluate_valid();
  void require_equal_parameters();
  void save();
  void on_rank_zero(const std::function<void()>& work);
  void end_writing();
  bool finished() const;  // after the last epoch, or by early stopping
  bool checkpoint_due() const;
  double rate_factor_now() const;
  void lower_rate_on_plateau();
  Outcome finish(int stop_signal);
  RankHistogram evaluate_best();
  double seconds() const;

  const Options options_;
  const Store& store_;
  Communicator& comm_;
  const StopFlag& stop_;
  RunFolder* folder_;
  TrainListener* listener_;

  ReplicaLayout layout_;
  SharedFloats shared_parameters_;  // the flat buffer of model_, if others may read it
  NearMemory near_parameters_;      // that of others
  Gru4Rec model_;
  std::unique_ptr<Gru4Rec> average_;  // with ema_decay
  std::optional<Gru4Rec> teacher_;
  std::optional<Scorer> teacher_scorer_;
  uint64_t teacher_digest_ = 0;  // on rank 0; 0: none
  uint64_t start_digest_ = 0;    // the same, of the checkpoint it began with
  Optimizer optimizer_;
  std::unique_ptr<EpochPlan> plan_;
  std::shared_ptr<const OutputLoss> loss_;
  std::unique_ptr<BatchSource> batches_;
  const ByRows by_rows_;
  RowSet rows_;                               // of this step; equal on all ranks
  std::vector<uint64_t> all_marks_;           // of all ranks, kept for their memory
  std::vector<int64_t> all_ids_;
  at::Device sum_device_;                     // that of the model, if ranks can send from there
  std::unique_ptr<DeviceMemory> sum_memory_;  // there, unless it is the host
  OrderedSum gradient_;
  const Slices slices_;              // of the parameters, where each rank updates its own
  bool state_complete_ = true;       // else other ranks have newer slices of moments and average
  at::Tensor sum_on_host_;           // of gradients that are added elsewhere
  std::unique_ptr<SumThread> sums_;  // with overlap
  int64_t sent_rows_ = 0;            // of the output layer's gradient, in this step
  bool sent_finite_ = true;          // those of the replica that was open
  Evaluator valid_;
  EarlyStopping early_stopping_;
  CheckpointWriter checkpoints_;                // written by rank 0
  std::shared_ptr<const Catalogue> catalogue_;  // on rank 0
  TrainState state_;
  std::optional<TensorWatch> watch_;  // in debug mode

  double seconds_before_ = 0;  // of earlier starts
  double started_at_;
  double step_seconds_ = 0;
  int64_t step_targets_ = 0;
  double epoch_started_at_;
  PhaseClock clock_;
  // Of the epoch in progress, as far as this start has done it.
  int64_t epoch_targets_ = 0;      // of all ranks
  int64_t epoch_own_targets_ = 0;  // of this one
  double learning_rate_ = 0;       // of the last step
  bool saved_ = false;             // the state as it is now is on disk, or being written
};

}  // namespace gru4rec

// Every option of the program as one plain struct. Names and defaults are RecBole's wherever RecBole has the option.
// The table in src/base/option_table.cpp gives each its key, check, help and documentation; nothing else parses options.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace gru4rec {

// A numeric interval as RecBole writes it: "[5,inf)".
struct Interval {
  double low = 0.0;
  double high = 0.0;
  bool low_closed = true;
  bool high_closed = false;
  bool contains(double value) const;
  bool operator==(const Interval&) const = default;
};

// Several of them, "[1,2];[5,inf)". Values in none of them are dropped. Empty: not given, nothing is dropped.
using Intervals = std::vector<Interval>;
bool contained(double value, const Intervals& intervals);

enum class TimeOrder { exact, recbole };
enum class DuplicateRule { keep, first, last };  // rm_dup_inter: None, first, last
enum class SplitKind {
  leave_one_out,
  ratio,
  temporal,
  files
};  // eval_args.split: LS, RS, TS; files: train_file/test_file given
enum class Direction { forward, backward };
enum class Augmentation { one_pass, prefixes };
enum class LossType { ce, bpr, sampled_softmax, bpr_max, cosine_embedding, cosine_ranking };
enum class NegativeDistribution { none, uniform, popularity };

// train_neg_sample_args: negatives drawn for each target.
struct NegativeSampling {
  NegativeDistribution distribution = NegativeDistribution::none;
  int64_t sample_num = 1;
  double alpha = 1.0;  // popularity^alpha
  bool operator==(const NegativeSampling&) const = default;
};

enum class Learner { adam, adamw, adagrad, rmsprop, sgd, sparse_adam };
enum class ScoreKind { dot, cosine };
enum class EmbeddingInit { xavier_normal, unit };   // what the item table is drawn from
enum class Schedule { constant, cosine, plateau };  // of the learning rate
enum class Precision { automatic, fp32, bf16 };     // of products with item vectors

enum class Reduction { ordered, native };  // of gradients over replicas: in the order of a tree, or as MPI or NCCL add

enum class DeviceKind { cpu, cuda };          // that computes
enum class GpuSum { automatic, host, nccl };  // where gradients are added that GPUs made

// Whether a step's batch is made by a second thread while the one before it computes; automatic: where a rank has a core to
// spare.
enum class BatchesAhead { automatic, always, never };

// eval_args: how sessions are divided into train, valid and test.
struct SplitOptions {
  SplitKind kind = SplitKind::leave_one_out;
  std::vector<double> ratio;    // RS: [0.8, 0.1, 0.1] of each session's targets, in time order
  double temporal_test = 0.0;   // TS: test part: days if `temporal_days`, else a fraction of sessions by end time
  double temporal_valid = 0.0;  // the same for valid, just before the test part
  bool temporal_days = false;
  bool operator==(const SplitOptions&) const = default;
};

struct Options {
  // Data ---------------------------------------------------------------------------------------------------------------
  std::string dataset = "ml-100k";
  std::string data_path = "dataset";              // atomic files are data_path/dataset/dataset.inter
  std::string train_file, valid_file, test_file;  // relative to data_path; replace the atomic file
  std::vector<std::string> benchmark_filename;    // [train, valid, test]: data_path/dataset/dataset.train.inter …
  std::string store;                              // folder of the session store; empty: store/DATASET
  std::string field_separator = "\t";
  std::string USER_ID_FIELD = "user_id";
  std::string SESSION_ID_FIELD;  // empty: sessions are users
  std::string ITEM_ID_FIELD = "item_id";
  std::string TIME_FIELD = "timestamp";
  Intervals user_inter_num_interval, item_inter_num_interval;
  std::map<std::string, Intervals> val_interval;  // by column
  DuplicateRule rm_dup_inter = DuplicateRule::keep;
  int64_t min_session_length = 1;  // events; applied together with min_item_support until nothing changes
  int64_t min_item_support = 1;    // events of an item in the training part
  bool merge_repeats = false;      // a, a, b → a, b
  double session_gap = 0.0;        // > 0: a user's events further apart (in units of TIME_FIELD) start a new session
  TimeOrder time_order = TimeOrder::exact;
  SplitOptions split;        // from eval_args
  bool drop_unseen = false;  // drop valid/test events of items that training does not have
  int64_t shards = 1;        // HDF5 files of the store
  // Model --------------------------------------------------------------------------------------------------------------
  int64_t embedding_size = 64;
  int64_t hidden_size = 128;
  int64_t num_layers = 1;
  double dropout_prob = 0.3;         // of the embedded input
  double hidden_dropout_prob = 0.0;  // of the states between layers
  double output_dropout_prob = 0.0;  // of the last layer's state, before dense
  bool dense_layer = true;           // between the last state and the scores
  EmbeddingInit embedding_init = EmbeddingInit::xavier_normal;
  LossType loss_type = LossType::ce;
  NegativeSampling train_neg_sample_args;  // of BPR
  int64_t n_sample = 2048;                 // negatives of a step for sampled_softmax and BPR-max; names of the official GRU4Rec
  double sample_alpha = 0.5;               // their probability: popularity^alpha
  bool logq_correction = true;             // of sampled_softmax
  double bpreg = 1.0;                      // of BPR-max
  double ranking_margin = 0.5;             // of cosine_ranking
  ScoreKind score = ScoreKind::dot;
  double score_scale = 16.0;  // of cosine scores; where it is learned, its initial value
  bool learn_score_scale = false;
  bool score_padding = true;  // the padding row is a class of the training softmax, as in RecBole
  // Training -----------------------------------------------------------------------------------------------------------
  Augmentation augmentation = Augmentation::one_pass;
  Direction direction = Direction::forward;  // backward: a teacher, which predicts an item from those after it
  std::string teacher;          // checkpoint or run of a backward model of the same catalogue, or auto; empty: none
  double distill_lambda = 0.5;  // weight of the teacher's distribution
  double distill_temperature = 1.0;
  bool distill_t_squared = false;
  double item_dropout_prob = 0.0;  // of input items, deleted from the sequence
  int64_t MAX_ITEM_LIST_LENGTH = 50;
  double recent_fraction = 1.0;  // of the training sessions, by end time, that are trained on
  Learner learner = Learner::adam;
  double learning_rate = 1e-3;
  Schedule learning_rate_schedule = Schedule::constant;
  double plateau_factor = 0.5;   // of schedule plateau: what the rate is multiplied by …
  int64_t plateau_patience = 1;  // … after more than this many evaluations in a row without a better one
  int64_t warmup_steps = 0;      // the rate rises over these; 0: full from the first step
  double ema_decay = 0.0;        // of the moving average of the weights that is evaluated; 0: none
  bool freeze_item_embeddings = false;
  double weight_decay = 0.0;
  double clip_grad_norm = 0.0;  // 0: off
  double clip_grad_norm_type = 2.0;
  int64_t train_batch_size = 2048;  // targets of a step, over all replicas
  int64_t epochs = 300;
  double adapt_fraction = 0.0;        // after training, go on with this most recent fraction of the sessions; 0: do not
  int64_t adapt_epochs = 2;           // for as many epochs
  double adapt_learning_rate = 1e-3;  // at this rate
  int64_t eval_step = 1;              // evaluate every so many epochs; 0: never
  int64_t stopping_step = 10;
  uint64_t seed = 2020;
  Precision precision = Precision::automatic;  // of training's products with item vectors; automatic: bf16 where it is fast
  int64_t replicas = 0;                        // 0: the world size of the first start
  Reduction reduction = Reduction::ordered;
  int64_t num_threads = 1;  // of one rank
  // Evaluation ---------------------------------------------------------------------------------------------------------
  int64_t eval_batch_size = 4096;
  std::vector<int64_t> topk = {10, 20};
  std::vector<std::string> metrics = {"Recall", "MRR", "NDCG", "Hit", "Precision"};
  std::string valid_metric = "MRR@10";
  int64_t metric_decimal_place = 4;
  // Runs and checkpoints -----------------------------------------------------------------------------------------------
  std::string run_dir;                    // empty: runs/DATASET
  std::string checkpoint_dir;             // empty: RUN_DIR/checkpoints
  int64_t checkpoint_steps = 0;           // besides the end of each epoch; 0: only there
  bool checkpoint_in_background = false;  // of a copy, while training goes on
  int64_t keep_checkpoints = 3;           // newest ones kept, besides the best
  std::string init_from;                  // checkpoint or run whose weights a new run begins with
  std::string item_embeddings_from;       // checkpoint or run whose item table alone a new run begins with
  bool resume = false;
  bool debug = false;
  // Surroundings -------------------------------------------------------------------------------------------------------
  DeviceKind device = DeviceKind::cpu;
  GpuSum gpu_sum = GpuSum::automatic;  // automatic: nccl where it is there and there is more than one rank
  bool overlap = false;                // of the sum of gradients with backward
  BatchesAhead batches_ahead = BatchesAhead::automatic;
  double comm_timeout = 600.0;           // seconds without progress after which a rank is taken for lost
  double stop_timeout = 30.0;            // seconds a stopping rank waits for the others before it leaves with 3
  std::string deterministic = "strict";  // strict: same bits on any number of ranks; relaxed: fastest kernels
  std::string log_level = "info";
  bool show_progress = true;  // progress of rank 0 on standard error

  bool operator==(const Options&) const = default;
};

}  // namespace gru4rec

#include "gru4rec/base/option_table.h"

#include "gru4rec/base/nearest.h"
#include "option_codecs.h"

namespace gru4rec {
namespace {

using namespace codecs;
using O = Options;

constexpr bool kNumbers = true;   // changes what a run computes from the same store
constexpr bool kNeutral = false;  // does not (for data options: the digest of the store speaks for them)

void add_data(std::vector<OptionRow>& rows) {
  const auto add = [&](const char* key, Origin origin, Codec codec, const char* help) {
    rows.push_back({key, Section::data, origin, kNeutral, std::move(codec), help});
  };
  add("dataset", Origin::recbole, text(&O::dataset, false),
      "Name of the data. The atomic file is data_path/dataset/dataset.inter; store and run_dir are named after it.");
  add("data_path", Origin::recbole, text(&O::data_path, false), "Folder of the data, relative to the current one.");
  add("train_file", Origin::ours, text(&O::train_file, true),
      "Events to read instead of the atomic file, relative to data_path: .inter, .csv, .tsv or .parquet, gzipped or not. With "
      "test_file or valid_file it holds the training sessions only, else eval_args splits it.");
  add("valid_file", Origin::ours, text(&O::valid_file, true), "Events of the validation sessions, relative to data_path.");
  add("test_file", Origin::ours, text(&O::test_file, true), "Events of the test sessions, relative to data_path.");
  add("benchmark_filename", Origin::recbole, file_suffixes(&O::benchmark_filename),
      "Suffixes of three files made beforehand: [train, valid, test] stands for data_path/dataset/dataset.train.inter and so "
      "on. They hold plain events, one a row, not RecBole's item lists.");
  add("store", Origin::ours, text(&O::store, true),
      "Folder of the session store that ingest writes and train reads. Empty: store/DATASET.");
  add("field_separator", Origin::recbole, one_character(&O::field_separator),
      "Character between the columns of text files. In .csv files a tab stands for the comma.");
  add("USER_ID_FIELD", Origin::recbole, text(&O::USER_ID_FIELD, false),
      "Column of the user. A user's events in time order are one session, unless SESSION_ID_FIELD or session_gap divides "
      "them.");
  add("SESSION_ID_FIELD", Origin::ours, text(&O::SESSION_ID_FIELD, true),
      "Column of the session. Empty: the sessions are the users.");
  add("ITEM_ID_FIELD", Origin::recbole, text(&O::ITEM_ID_FIELD, false), "Column of the item.");
  add("TIME_FIELD", Origin::recbole, text(&O::TIME_FIELD, false),
      "Column of the time, a number. Events of equal time keep their order in the file.");
  add("user_inter_num_interval", Origin::recbole, intervals(&O::user_inter_num_interval),
      "Keeps users with that many events, applied together with item_inter_num_interval until nothing changes. None: all.");
  add("item_inter_num_interval", Origin::recbole, intervals(&O::item_inter_num_interval),
      "Keeps items with that many events. None: all.");
  add("val_interval", Origin::recbole, intervals_by_column(&O::val_interval),
      "Keeps events whose value in a column lies in an interval, such as ratings of 3 and more: {'rating': \"[3,inf)\"}.");
  add("rm_dup_inter", Origin::recbole,
      choice<DuplicateRule>(&O::rm_dup_inter,
                            {{"None", DuplicateRule::keep}, {"first", DuplicateRule::first}, {"last", DuplicateRule::last}}),
      "Of several events of the same user and item keep all (None), the first or the last in time.");
  add("min_session_length", Origin::ours, integer(&O::min_session_length, at_least(1)),
      "Drops shorter sessions, together with min_item_support until nothing changes. Larger: fewer, richer sessions.");
  add("min_item_support", Origin::ours, integer(&O::min_item_support, at_least(1)),
      "Drops items with fewer events. Larger: a smaller catalogue and faster training, but rare items are never recommended.");
  add("merge_repeats", Origin::ours, flag(&O::merge_repeats),
      "Makes one event of an item's immediate repeats in a session: a, a, b becomes a, b.");
  add("session_gap", Origin::ours, real(&O::session_gap, at_least(0)),
      "Cuts a session where more time than this, in the units of TIME_FIELD, lies between two events. 0: never. Smaller: more "
      "and shorter sessions.");
  add("time_order", Origin::ours,
      choice<TimeOrder>(&O::time_order, {{"exact", TimeOrder::exact}, {"recbole", TimeOrder::recbole}}),
      "exact: by the time as it stands. recbole: by the time normalised to float32, which is what RecBole sorts by; reproduces "
      "its splits.");
  add("eval_args", Origin::recbole_extended, split(),
      "How sessions are divided. LS: the last item of each is test, the one before valid. RS: [0.8, 0.1, 0.1] of each "
      "session's "
      "targets in time order. TS: whole sessions by their end, {test_days: 1, valid_days: 1} or fractions {test: 0.1, valid: "
      "0.1}. files: given as train_file, valid_file and test_file, or {valid_days: 1} to cut valid off train_file. Order is "
      "always TO, mode always full; RecBole's own defaults for sequential models.");
  add("drop_unseen", Origin::ours, flag(&O::drop_unseen),
      "Drops events of valid and test whose item is not in training. False: as targets they count as missed, in a prefix they "
      "are passed over.");
  add("shards", Origin::ours, integer(&O::shards, between(1, 65536)),
      "Number of files of the store, balanced by events; does not change results. Larger: files of manageable size.");
}

void add_model(std::vector<OptionRow>& rows) {
  const auto add = [&](const char* key, Origin origin, Codec codec, const char* help) {
    rows.push_back({key, Section::model, origin, kNumbers, std::move(codec), help});
  };
  add("embedding_size", Origin::recbole, integer(&O::embedding_size, between(1, 65536)),
      "Length of an item's vector. Larger: more capacity, and time and memory in proportion (with the catalogue).");
  add("hidden_size", Origin::recbole, integer(&O::hidden_size, between(1, 65536)),
      "Length of the GRU's state. Larger: more capacity, and time that grows with its square.");
  add("num_layers", Origin::recbole, integer(&O::num_layers, between(1, 64)),
      "GRU layers on top of each other. One is enough for most session data.");
  add("dropout_prob", Origin::recbole, real(&O::dropout_prob, below(0, 1)),
      "Share of the embedded input that is set to zero in training. Larger: less overfitting, slower learning.");
  add("hidden_dropout_prob", Origin::ours, real(&O::hidden_dropout_prob, below(0, 1)),
      "Share of the states between GRU layers that is set to zero in training; without effect with one layer.");
  add("output_dropout_prob", Origin::ours, real(&O::output_dropout_prob, below(0, 1)),
      "Share of the last GRU layer's state that is set to zero in training, before the dense layer. Larger: less overfitting; "
      "helps where the catalogue is large and sessions are short.");
  add("dense_layer", Origin::ours, flag(&O::dense_layer),
      "Whether a linear layer stands between the last state and the scores, as in RecBole. False: the state itself is compared "
      "with the items, as by Hidasi et al. 2016; wants hidden_size equal to embedding_size.");
  add("embedding_init", Origin::ours,
      choice<EmbeddingInit>(&O::embedding_init,
                            {{"xavier_normal", EmbeddingInit::xavier_normal}, {"unit", EmbeddingInit::unit}}),
      "What the item table is drawn from. xavier_normal: deviation sqrt(2 / (items + 1 + embedding_size)), as in RecBole, "
      "which "
      "is the smaller the larger the catalogue. unit: deviation sqrt(1 / embedding_size), so that items have a length of about "
      "1 "
      "in any catalogue; dot products of many items then learn much faster.");
  add("loss_type", Origin::recbole_extended,
      choice<LossType>(&O::loss_type, {{"CE", LossType::ce},
                                       {"BPR", LossType::bpr},
                                       {"sampled_softmax", LossType::sampled_softmax},
                                       {"BPR-max", LossType::bpr_max},
                                       {"cosine_embedding", LossType::cosine_embedding},
                                       {"cosine_ranking", LossType::cosine_ranking}}),
      "CE: cross-entropy over the whole catalogue. BPR: each target against the negatives of "
      "train_neg_sample_args, as in RecBole. sampled_softmax, BPR-max: each target against n_sample negatives "
      "that the whole step shares. With these three the time of the output layer does not grow with the "
      "catalogue, nor that of the sum of gradients; that of the optimizer does, unless it is sparse_adam. The last two are "
      "for score cosine (Tan, Xu and Liu 2016, section 3.4). cosine_embedding: one minus the cosine with the target's "
      "embedding, for "
      "freeze_item_embeddings; a step's time does not grow with the catalogue. cosine_ranking: each target's cosine "
      "against those of n_sample shared negatives, by a hinge with ranking_margin; items may move.");
  add("train_neg_sample_args", Origin::recbole_extended, negatives(),
      "Negatives of each target for BPR: uniform over the other items, or by popularity^alpha in training. Unset: one uniform "
      "negative for BPR, none else (RecBole's own default stops with an error for CE). More: a clearer and slower step.");
  add("n_sample", Origin::ours, integer(&O::n_sample, between(1, 262144)),
      "Negatives of a step for sampled_softmax, BPR-max and cosine_ranking, with the official GRU4Rec's name and default. "
      "Larger: closer to "
      "the "
      "whole softmax, and slower.");
  add("sample_alpha", Origin::ours, real(&O::sample_alpha, at_least(0)),
      "These negatives are drawn with probability popularity^sample_alpha. 0: uniformly; 1: by popularity.");
  add("logq_correction", Origin::ours, flag(&O::logq_correction),
      "sampled_softmax only: subtracts from the scores of the negatives how likely they were drawn, so that on "
      "average all items count alike. False: frequent items are pushed down more.");
  add("bpreg", Origin::ours, real(&O::bpreg, at_least(0)),
      "Weight of BPR-max's penalty on the squared scores of negatives. Larger: smaller scores, less overfitting; with cosine "
      "scores, whose "
      "size is score_scale, it wants to be near 0.");
  add("ranking_margin", Origin::ours, real(&O::ranking_margin, between(0, 2)),
      "cosine_ranking only: by how much the cosine of the target has to exceed that of each negative. Larger: negatives that "
      "are "
      "already far count as well.");
  add("score", Origin::ours, choice<ScoreKind>(&O::score, {{"dot", ScoreKind::dot}, {"cosine", ScoreKind::cosine}}),
      "dot: products of the session's vector with the items', as in RecBole. cosine: both are divided by their length first, "
      "and "
      "the cosine is multiplied by score_scale, so that an item's frequency cannot hide in the length of its vector (NISER: "
      "Gupta "
      "et al. 2019).");
  add("score_scale", Origin::ours, real(&O::score_scale, above(0)),
      "With score cosine only: what cosines are multiplied by. Larger: sharper probabilities; too small, and the "
      "softmax cannot become certain.");
  add("learn_score_scale", Origin::ours, flag(&O::learn_score_scale),
      "With score cosine only: learns score_scale like any weight, beginning at the value given (or at that of "
      "init_from).");
  add("score_padding", Origin::ours, flag(&O::score_padding),
      "Whether the padding row is a class of CE's softmax in training, as in RecBole. False leaves it out, which "
      "is cleaner.");
}

void add_training(std::vector<OptionRow>& rows) {
  const auto add = [&](const char* key, Origin origin, bool numbers, Codec codec, const char* help) {
    rows.push_back({key, Section::training, origin, numbers, std::move(codec), help});
  };
  add("augmentation", Origin::ours, kNumbers,
      choice<Augmentation>(&O::augmentation, {{"one_pass", Augmentation::one_pass}, {"prefixes", Augmentation::prefixes}}),
      "one_pass: one pass over a session with a target at every step; the same sum of losses as all its prefixes at a fraction "
      "of the time. prefixes: each prefix is a sample of its own, literally as RecBole trains.");
  add("direction", Origin::ours, kNumbers,
      choice<Direction>(&O::direction, {{"forward", Direction::forward}, {"backward", Direction::backward}}),
      "forward: an item is predicted from those before it. backward: from those after it, the last one first, in training and "
      "in "
      "evaluation: a teacher for distillation, which sees what nobody knows when it matters. It wants a store whose sessions "
      "are "
      "evaluated whole, or eval_step 0.");
  add("teacher", Origin::ours, kNeutral, text(&O::teacher, true),
      "A checkpoint, or a run's folder for its best one, of a backward model of the same catalogue: the loss becomes "
      "(1 - distill_lambda) times CE plus distill_lambda times the cross-entropy with the teacher's distribution, wherever a "
      "target "
      "has items after it (generalised distillation with privileged information; Tan, Xu and Liu 2016, section 3.3). auto: "
      "trains that model first, in RUN_DIR/teacher, with the options of this run. Empty: none.");
  add("distill_lambda", Origin::ours, kNumbers, real(&O::distill_lambda, between(0, 1)),
      "Weight of the teacher's distribution. Larger: the student believes the teacher more than the label.");
  add("distill_temperature", Origin::ours, kNumbers, real(&O::distill_temperature, above(0)),
      "What the scores of teacher and student are divided by before their distributions are compared. Larger: softer ones, in "
      "which "
      "the less likely items count more.");
  add("distill_t_squared", Origin::ours, kNumbers, flag(&O::distill_t_squared),
      "Multiplies the teacher's part by distill_temperature squared, so that its gradient keeps its size (Hinton et al. 2015). "
      "Off in Tan, Xu and Liu.");
  add("item_dropout_prob", Origin::ours, kNumbers, real(&O::item_dropout_prob, below(0, 1)),
      "Share of the input items that are deleted from each session, anew in each epoch, as in Tan, Xu and Liu (2016), section "
      "3.1: "
      "the state passes over them, they are still targets, and a target with nothing left before it is left out. Larger: less "
      "overfitting, most useful where sessions are few.");
  add("MAX_ITEM_LIST_LENGTH", Origin::recbole, kNumbers, integer(&O::MAX_ITEM_LIST_LENGTH, between(1, 65536)),
      "Items that a target sees at most. one_pass cuts longer sessions into windows of this length that share one item. "
      "Larger: "
      "more history, more memory.");
  add("recent_fraction", Origin::ours, kNumbers, fraction(&O::recent_fraction, {0, 1, true, false}),
      "Trains on this fraction of the training sessions only, those that end last, such as 1/64. With init_from it adapts a "
      "model "
      "of all sessions to what changed lately (Tan, Xu and Liu 2016, section 3.2). Smaller: more up to date, and sooner "
      "overfitted.");
  add("learner", Origin::recbole_extended, kNumbers,
      choice<Learner>(&O::learner, {{"adam", Learner::adam},
                                    {"adamw", Learner::adamw},
                                    {"adagrad", Learner::adagrad},
                                    {"rmsprop", Learner::rmsprop},
                                    {"sgd", Learner::sgd},
                                    {"sparse_adam", Learner::sparse_adam}}),
      "The optimizer, as torch.optim has it; adamw applies weight_decay to the weights themselves. sparse_adam leaves the rows "
      "of the item table that a step has no gradient for as they are: with a sampled loss less work, and another result; "
      "the rest, with CE all, is adam. RecBole has all but adamw, takes adam for names it does not know, and cannot train this "
      "model with sparse_adam.");
  add("learning_rate", Origin::recbole, kNumbers, real(&O::learning_rate, above(0)),
      "Step size of the optimizer. Larger learns faster and diverges sooner.");
  add("learning_rate_schedule", Origin::ours, kNumbers,
      choice<Schedule>(&O::learning_rate_schedule,
                       {{"constant", Schedule::constant}, {"cosine", Schedule::cosine}, {"plateau", Schedule::plateau}}),
      "constant: learning_rate throughout. cosine: falls from it to zero over all epochs along half a cosine (Loshchilov and "
      "Hutter 2017), which ends in a better place than a constant rate; epochs then cannot change on resume. plateau: "
      "multiplied by "
      "plateau_factor after more than plateau_patience evaluations in a row without a better valid_metric.");
  add("plateau_factor", Origin::ours, kNumbers, real(&O::plateau_factor, {0, 1, true, true}),
      "With learning_rate_schedule plateau only: what the rate is multiplied by. Smaller: fewer, larger falls.");
  add("plateau_patience", Origin::ours, kNumbers, integer(&O::plateau_patience, at_least(0)),
      "With learning_rate_schedule plateau only: how many evaluations without a better one are waited for. Should be smaller "
      "than stopping_step.");
  add("warmup_steps", Origin::ours, kNumbers, integer(&O::warmup_steps, at_least(0)),
      "Steps over which the rate rises from near zero to learning_rate. Larger: a gentler start for large learning rates.");
  add("ema_decay", Origin::ours, kNumbers, real(&O::ema_decay, below(0, 1)),
      "Evaluates, and keeps in checkpoints beside the weights, their exponential moving average over steps: average = "
      "ema_decay "
      "times average plus (1 - ema_decay) times weights. Larger: a longer memory, such as 0.999 for the last 1,000 steps. 0: "
      "none.");
  add("freeze_item_embeddings", Origin::ours, kNumbers, flag(&O::freeze_item_embeddings),
      "Holds the item table constant: no gradient is made for it and no learner touches it. Wanted by loss_type "
      "cosine_embedding, which would otherwise make all items alike; begin with item_embeddings_from or init_from.");
  add("weight_decay", Origin::recbole, kNumbers, real(&O::weight_decay, at_least(0)),
      "L2 penalty: this times the weight is added to its gradient; with adamw each step takes this times the "
      "rate off the weight instead. Larger: smaller weights, less overfitting.");
  add("clip_grad_norm", Origin::recbole_extended, kNumbers, clip_norm(),
      "Scales the gradient down to this norm where it is larger: {max_norm: 5, norm_type: 2}, or the norm alone. None or 0: "
      "never. Smaller: steadier, and slower where it bites often.");
  add("train_batch_size", Origin::recbole_extended, kNumbers, integer(&O::train_batch_size, between(1, 2147483647)),
      "Targets of a step, over all replicas together (RecBole: on each GPU). Larger: fewer, smoother and faster steps, which "
      "want a larger learning_rate.");
  add("epochs", Origin::recbole, kNeutral, integer(&O::epochs, at_least(0)),
      "Passes over the training data at most. A run that did them all can be resumed with more, unless "
      "learning_rate_schedule is cosine; one that stopped early wants a larger stopping_step.");
  add("adapt_fraction", Origin::ours, kNeutral, fraction(&O::adapt_fraction, {0, 1, false, false}),
      "After training, goes on from the best checkpoint with this most recent fraction of the sessions, such as 1/64, as a "
      "second run in RUN_DIR/adapted (Tan, Xu and Liu 2016, section 3.2), whose result is the last line. Its other options are "
      "those of the first run, but for warmup_steps, which is 0. 0: does not.");
  add("adapt_epochs", Origin::ours, kNeutral, integer(&O::adapt_epochs, at_least(1)),
      "With adapt_fraction only: epochs of the second run.");
  add("adapt_learning_rate", Origin::ours, kNeutral, real(&O::adapt_learning_rate, above(0)),
      "With adapt_fraction only: learning_rate of the second run. Larger: more of what was learned is given up for what is "
      "new.");
  add("eval_step", Origin::recbole, kNumbers, integer(&O::eval_step, at_least(0)),
      "Evaluates on valid after every so many epochs. 0: never, so there is no early stopping.");
  add("stopping_step", Origin::recbole, kNeutral, integer(&O::stopping_step, at_least(0)),
      "Stops after more than this many evaluations in a row without a better valid_metric; an equal value counts as better.");
  add("seed", Origin::recbole, kNumbers, codecs::seed(&O::seed),
      "Names every random draw: initial weights, order of the data, dropout. Results are a function of it.");
  add("precision", Origin::ours, kNumbers,
      choice<Precision>(&O::precision, {{"auto", Precision::automatic}, {"fp32", Precision::fp32}, {"bf16", Precision::bf16}}),
      "Of training's products, those of the GRU and those with item vectors. bf16: their operands are rounded to bf16; sums, "
      "states, scores and weights stay fp32. auto: bf16 where the processor multiplies it (AMX, AVX512_BF16), else fp32; a "
      "resumed run keeps what it has. Elsewhere bf16 is slower than fp32. Evaluation is always fp32.");
  add("replicas", Origin::ours, kNumbers, integer(&O::replicas, between(0, 65536)),
      "Logical workers among which each batch is divided; at least as many as ranks. The results depend on it in the last bits "
      "and never on the number of ranks. 0: the number of ranks of the first start.");
  add("reduction", Origin::ours, kNumbers,
      choice<Reduction>(&O::reduction, {{"ordered", Reduction::ordered}, {"native", Reduction::native}}),
      "How gradients are added over replicas. ordered: in one order, whoever owns them. native: each rank adds its own, then "
      "MPI "
      "or NCCL adds over ranks in an order of its own, so that the last bits, and the digest, depend on the number of ranks; "
      "for "
      "those whom the sum of gradients costs too much. A world of one always adds in order.");
  add("num_threads", Origin::ours, kNeutral, integer(&O::num_threads, between(1, 1024)),
      "Threads of one rank. Ranks times threads should not exceed the cores. The last bits of a result may depend on it.");
}

void add_evaluation(std::vector<OptionRow>& rows) {
  const auto add = [&](const char* key, Origin origin, bool numbers, Codec codec, const char* help) {
    rows.push_back({key, Section::evaluation, origin, numbers, std::move(codec), help});
  };
  add("eval_batch_size", Origin::recbole, kNeutral, integer(&O::eval_batch_size, between(1, 2147483647)),
      "Targets that are scored at once. Does not change results. Larger: faster up to a point, more memory.");
  add("topk", Origin::recbole_extended, kNeutral, integers(&O::topk),
      "Lengths of the lists of recommendations that the metrics look at. RecBole's default is [10].");
  add("metrics", Origin::recbole, kNeutral, metric_list(&O::metrics), "What is reported for each k of topk.");
  add("valid_metric", Origin::recbole, kNumbers, metric_at(&O::valid_metric),
      "What decides about the best epoch and early stopping. Its metric and k must be in metrics and topk.");
  add("metric_decimal_place", Origin::recbole, kNumbers, integer(&O::metric_decimal_place, between(0, 17)),
      "Decimals of the metrics; valid_metric is rounded before it is compared, as in RecBole.");
}

void add_runs(std::vector<OptionRow>& rows) {
  const auto add = [&](const char* key, Origin origin, Codec codec, const char* help) {
    rows.push_back({key, Section::runs, origin, kNeutral, std::move(codec), help});
  };
  add("run_dir", Origin::ours, text(&O::run_dir, true),
      "Folder of the run: config.yaml, metrics.jsonl, report.html, result.json, tensorboard, checkpoints. Empty: "
      "runs/DATASET.");
  add("checkpoint_dir", Origin::recbole_extended, text(&O::checkpoint_dir, true),
      "Folder of the checkpoints. Empty: RUN_DIR/checkpoints (RecBole: saved).");
  add("checkpoint_steps", Origin::ours, integer(&O::checkpoint_steps, at_least(0)),
      "Saves a checkpoint every so many steps as well as after each epoch. 0: after epochs only. Smaller: less work lost in a "
      "crash, more time spent writing.");
  add("checkpoint_in_background", Origin::ours, flag(&O::checkpoint_in_background),
      "Copies the state and writes the copy while training goes on: training waits for the copy only, and rank 0 needs as much "
      "memory again as parameters and moments take. A crash while it is written loses what came after the checkpoint before.");
  add("keep_checkpoints", Origin::ours, integer(&O::keep_checkpoints, at_least(1)),
      "Checkpoints that are kept, the newest ones, besides the best. Larger: more to fall back on, more disk.");
  add("init_from", Origin::ours, text(&O::init_from, true),
      "A checkpoint, or a run's folder for its best one, whose weights a new run begins with instead of random ones; or a "
      ".pth file of a RecBole GRU4Rec's weights. Sizes must be the same. Rows of items are found by original id; items that a "
      "checkpoint lacks begin like those of a run without it. Has no part in a resumed run.");
  add("item_embeddings_from", Origin::ours, text(&O::item_embeddings_from, true),
      "A checkpoint, or a run's folder for its best one, or a .pth file of RecBole, whose item table a new run begins with; "
      "its other "
      "weights begin at random. embedding_size must be the same; rows of items are found as with init_from, which it "
      "contradicts. Has no part in a resumed run.");
  add("resume", Origin::ours, flag(&O::resume), "Goes on from the newest intact checkpoint of checkpoint_dir.");
  add("debug", Origin::ours, flag(&O::debug),
      "One process that replays a run of any number of replicas bit for bit, with finite checks on every tensor between "
      "modules and every gradient, and norms of each parameter at every step. Slow.");
}

void add_surroundings(std::vector<OptionRow>& rows) {
  const auto add = [&](const char* key, Origin origin, bool numbers, Codec codec, const char* help) {
    rows.push_back({key, Section::surroundings, origin, numbers, std::move(codec), help});
  };
  add("device", Origin::ours, kNeutral, choice<DeviceKind>(&O::device, {{"cpu", DeviceKind::cpu}, {"cuda", DeviceKind::cuda}}),
      "What forward, backward and scores are computed on. cuda: a GPU for each rank, in turn where a host has fewer than "
      "ranks; wants a program that was built with the CUDA build of LibTorch. The last bits of a result depend on it. Has not "
      "been run on a GPU yet.");
  add("gpu_sum", Origin::ours, kNeutral,
      choice<GpuSum>(&O::gpu_sum, {{"auto", GpuSum::automatic}, {"host", GpuSum::host}, {"nccl", GpuSum::nccl}}),
      "With device cuda: where gradients are added. host: in the memory of the host, and sent by MPI. nccl: in that of the "
      "GPUs, "
      "and sent from GPU to GPU by NCCL; wants a GPU for each rank. Neither changes a bit of the sum. auto: nccl where there "
      "is "
      "more than one rank, each has its GPU, and the program was built with NCCL. Has not been run on a GPU yet.");
  add("overlap", Origin::ours, kNeutral, flag(&O::overlap),
      "true: a second thread of each rank sends the output layer's gradient of the item table, block by block, while the rest "
      "of backward runs. Changes no bit of a result. Gains where sending takes about as long as computing; over a fast network "
      "it costs a little. A warning says so where it has no effect: in one process, with reduction native, device cuda or "
      "constant item embeddings.");
  add("batches_ahead", Origin::ours, kNeutral,
      choice<BatchesAhead>(
          &O::batches_ahead,
          {{"auto", BatchesAhead::automatic}, {"always", BatchesAhead::always}, {"never", BatchesAhead::never}}),
      "Whether a second thread of each rank packs the batch of the next step, and draws its negatives, while a step computes. "
      "Changes no bit of a result. auto: where the cores that a rank may use suffice for one more thread of each rank that "
      "shares them; a quota of processor time is not seen.");
  add("comm_timeout", Origin::ours, kNeutral, real(&O::comm_timeout, above(0)),
      "Seconds without progress after which a rank is taken for lost and the job ends. Smaller notices sooner, and may take a "
      "slow disk for a dead rank.");
  add("stop_timeout", Origin::ours, kNeutral, real(&O::stop_timeout, above(0)),
      "Seconds that a rank which was told to stop waits for the others before it leaves with exit code 3.");
  add("deterministic", Origin::ours, kNumbers, word(&O::deterministic, {"strict", "relaxed"}),
      "strict: the same bits on any number of ranks. relaxed: whatever kernels are fastest.");
  add("log_level", Origin::ours, kNeutral, word(&O::log_level, {"debug", "info", "warning", "error"}),
      "How much is said on standard error. Results on standard output are not affected.");
  add("show_progress", Origin::recbole, kNeutral, flag(&O::show_progress),
      "Progress on standard error: one line that is redrawn on a terminal, plain lines now and then elsewhere.");
}

}  // namespace

std::string_view title_of(Section section) {
  switch (section) {
    case Section::data:
      return "Data";
    case Section::model:
      return "Model";
    case Section::training:
      return "Training";
    case Section::evaluation:
      return "Evaluation";
    case Section::runs:
      return "Runs and checkpoints";
    case Section::surroundings:
      return "Surroundings";
  }
  return {};
}

const std::vector<OptionRow>& option_table() {
  static const std::vector<OptionRow> table = [] {
    std::vector<OptionRow> rows;
    add_data(rows);
    add_model(rows);
    add_training(rows);
    add_evaluation(rows);
    add_runs(rows);
    add_surroundings(rows);
    return rows;
  }();
  return table;
}

const OptionRow* find_option(std::string_view key) {
  for (const OptionRow& row : option_table())
    if (row.key == key) return &row;
  return nullptr;
}

std::string nearest_key(std::string_view mistyped, const std::vector<std::string>& more) {
  std::vector<std::string> names = more;
  for (const OptionRow& row : option_table()) names.push_back(row.key);
  for (const RecBoleKey& key : recbole_keys()) names.push_back(key.key);
  return nearest(mistyped, names);
}

}  // namespace gru4rec

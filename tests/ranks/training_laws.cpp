// Laws of training, with ranks as threads: the same bits on any number of ranks, exact resume, stops and failures that all
// share.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <fstream>
#include <limits>
#include <mutex>
#include <set>
#include <span>
#include <sstream>
#include <thread>

#include "gru4rec/base/error.h"
#include "gru4rec/base/hash.h"
#include "gru4rec/comm/threads.h"
#include "gru4rec/data/negatives.h"
#include "gru4rec/model/device.h"
#include "gru4rec/train/trainer.h"
#include "support/temporary_folder.h"
#include "support/training_example.h"

namespace gru4rec {
namespace {

using ::testing::HasSubstr;
using testing::TemporaryFolder;
using testing::write_training_example;
namespace fs = std::filesystem;

// What is logged while it lives.
class Logged {
 public:
  Logged() {
    spdlog::set_default_logger(
        std::make_shared<spdlog::logger>("logged", std::make_shared<spdlog::sinks::ostream_sink_mt>(lines_)));
  }
  ~Logged() { spdlog::set_default_logger(former_); }
  Logged(const Logged&) = delete;
  Logged& operator=(const Logged&) = delete;
  std::string text() const { return lines_.str(); }

 private:
  std::ostringstream lines_;
  std::shared_ptr<spdlog::logger> former_ = spdlog::default_logger();
};

class Training : public ::testing::Test {
 protected:
  Training() { write_training_example(folder_ / "store", {.sessions = 300, .catalogue = 97, .longest = 30}); }

  Options options(const std::string& run) const {
    Options o;
    o.store = (folder_ / "store").string();
    o.run_dir = (folder_ / run).string();
    o.checkpoint_dir = (folder_ / run / "checkpoints").string();
    o.embedding_size = 8;
    o.hidden_size = 12;
    o.learning_rate = 0.02;
    o.train_batch_size = 409;
    o.MAX_ITEM_LIST_LENGTH = 9;
    o.epochs = 3;
    o.replicas = 4;
    o.keep_checkpoints = 100;
    o.precision = Precision::fp32;  // whatever the processor: some laws are of single bits of the mantissa
    return o;
  }

  // Trains on `ranks` threads and returns the outcome of rank 0. `prepare` may touch a rank's trainer and stop flag before.
  using Prepare = std::function<void(int rank, Trainer&, StopFlag&)>;
  Outcome train(const Options& options, int ranks, const Prepare& prepare = {}) const {
    Outcome outcome;
    std::mutex mutex;
    run_ranks(ranks, [&](Communicator& comm) {
      std::optional<TensorKernelsScope> scope;
      if (by_tensor_operations_) scope.emplace();
      const Store store(options.store);
      std::optional<RunFolder> run;
      if (comm.rank() == 0) run.emplace(options.run_dir, options.checkpoint_dir);
      StopFlag stop;
      Trainer trainer(options, find_start(options, store.info(), comm), store, comm, stop, run ? &*run : nullptr, nullptr);
      if (prepare) prepare(comm.rank(), trainer, stop);
      const Outcome mine = trainer.run();
      const std::lock_guard lock(mutex);
      if (comm.rank() == 0) outcome = mine;
    });
    return outcome;
  }

  static std::string newest_digest(const Options& options) {
    const CheckpointFolder folder(options.checkpoint_dir, 1);
    return hex_text(read_checkpoint_info(folder.file_of(folder.steps().back())).digest);
  }
  static Gru4Rec model_of(const fs::path& file) {
    Gru4Rec model(read_checkpoint_info(file).shape);
    load_weights(file, model);
    return model;
  }
  static std::vector<float> item_table(const fs::path& file) {
    const Gru4Rec model = model_of(file);
    const auto table = model.parameters().subspan(static_cast<size_t>(model.layout().dense_floats()));
    return {table.begin(), table.end()};
  }
  static fs::path newest_file(const Options& options) { return newest_checkpoint_at(options.run_dir); }
  // Without the options that a checkpoint's digest covers as well.
  static uint64_t hash_of_newest_parameters(const Options& options) {
    const Gru4Rec model = model_of(newest_file(options));
    return hash_bytes(model.parameters().data(), model.parameters().size_bytes());
  }
  static std::vector<int64_t> steps(const Options& options) { return CheckpointFolder(options.checkpoint_dir, 1).steps(); }

  TemporaryFolder folder_;
  bool by_tensor_operations_ = false;  // as on another device
};

TEST_F(Training, GivesTheSameDigestOnOneTwoThreeAndFourRanks) {
  std::vector<std::string> digests;
  std::vector<std::vector<int64_t>> tests;
  for (int ranks : {1, 2, 3, 4}) {
    const Options o = options("ranks" + std::to_string(ranks));
    tests.push_back(train(o, ranks).test->at);
    digests.push_back(newest_digest(o));
  }
  EXPECT_THAT(digests, ::testing::Each(digests.front()));
  EXPECT_THAT(tests, ::testing::Each(tests.front()));
}

// A catalogue of which most rows are read, and two of which few are, small and large: ranks agree on them by marks and by ids.
// What goes with the update, and what wants all of the gradient.
TEST_F(Training, RanksThatUpdateTheirSlicesHaveTheBitsOfOneThatUpdatesAll) {
  for (const uint64_t catalogue : {43, 2001, 40'001}) {
    const std::string store = (folder_ / fmt::format("slices{}", catalogue)).string();
    write_training_example(store, {.sessions = 120, .catalogue = catalogue, .longest = 12});
    const std::pair<const char*, std::function<void(Options&)>> variants[] = {
        {"plain", [](Options&) {}},
        {"average", [](Options& o) { o.ema_decay = 0.5; }},
        {"adagrad", [](Options& o) { o.learner = Learner::adagrad, o.weight_decay = 0.01; }},
        {"clipped", [](Options& o) { o.clip_grad_norm = 0.1; }},
        {"frozen", [](Options& o) { o.freeze_item_embeddings = true; }},
        {"sampled", [](Options& o) { o.loss_type = LossType::sampled_softmax, o.n_sample = 20; }}};
    for (const auto& [name, change] : std::span(variants).first(catalogue > 40'000 ? 1 : std::size(variants))) {
      std::vector<std::string> digests;
      for (const int ranks : {1, 2, 3, 4}) {
        Options o = options(fmt::format("{}{}{}", name, catalogue, ranks));
        o.store = store;
        o.train_batch_size = 101;
        o.epochs = 2;
        change(o);
        train(o, ranks);
        digests.push_back(newest_digest(o));
      }
      EXPECT_THAT(digests, ::testing::Each(digests.front())) << name << ", " << catalogue << " items";
    }
  }
}

// One table block; three, whose exponentials are stored; seventeen, whose exponentials are made again.
TEST_F(Training, OverlapChangesNoBit) {
  for (const uint64_t catalogue : {97, 9001, 66001}) {
    const std::string store = (folder_ / fmt::format("store{}", catalogue)).string();
    write_training_example(store, {.sessions = 120, .catalogue = catalogue, .longest = 12});
    std::vector<std::string> digests;
    for (const auto& [overlap, ranks] : {std::pair{false, 1}, std::pair{true, 2}, std::pair{true, 3}, std::pair{false, 3}}) {
      Options o = options(fmt::format("overlap{}{}{}", overlap, ranks, catalogue));
      o.store = store;
      o.overlap = overlap;
      o.train_batch_size = 211;
      o.epochs = 1;
      o.eval_step = 0;
      const Logged logged;
      train(o, ranks);
      EXPECT_EQ(logged.text().find("a second thread of each rank sums gradients") != std::string::npos, overlap);
      digests.push_back(newest_digest(o));
    }
    EXPECT_THAT(digests, ::testing::Each(digests.front())) << catalogue;
  }
}

TEST_F(Training, OverlapChangesNoBitOfOtherLossesEither) {
  const std::map<std::string, std::function<void(Options&)>> losses = {
      {"rows", [](Options& o) { o.loss_type = LossType::sampled_softmax; }},
      {"cosine", [](Options& o) { o.score = ScoreKind::cosine; }},
      {"average", [](Options& o) { o.ema_decay = 0.5; }},
  };
  for (const auto& [name, change] : losses) {
    std::vector<std::string> digests;
    for (const bool overlap : {false, true}) {
      Options o = options(fmt::format("{}{}", name, overlap));
      o.epochs = 1;
      o.n_sample = 20;
      o.overlap = overlap;
      change(o);
      train(o, 3);
      digests.push_back(newest_digest(o));
    }
    EXPECT_EQ(digests[0], digests[1]) << name;
  }
}

// Of each loss, with what depends on the place of a step; over ends of epochs and of a part of a run.
TEST_F(Training, BatchesMadeAheadChangeNoBit) {
  Options teacher = options("teacher");
  teacher.direction = Direction::backward;
  teacher.epochs = 1;
  train(teacher, 1);
  const std::map<std::string, std::function<void(Options&)>> variants = {
      {"ce", [](Options& o) { o.item_dropout_prob = 0.3; }},
      {"prefixes", [](Options& o) { o.augmentation = Augmentation::prefixes, o.item_dropout_prob = 0.3; }},
      {"bpr", [](Options& o) { o.loss_type = LossType::bpr; }},
      {"sampled", [](Options& o) { o.loss_type = LossType::sampled_softmax, o.n_sample = 20; }},
      {"taught", [&](Options& o) { o.teacher = teacher.run_dir; }},
  };
  for (const auto& [name, change] : variants) {
    std::vector<std::string> digests;
    for (const auto& [ahead, ranks] : {std::pair{BatchesAhead::never, 1}, std::pair{BatchesAhead::always, 1},
                                       std::pair{BatchesAhead::always, 3}, std::pair{BatchesAhead::never, 3}}) {
      Options o = options(fmt::format("{}{}{}", name, static_cast<int>(ahead), ranks));
      o.batches_ahead = ahead;
      change(o);
      o.epochs = 1;
      const Logged logged;
      train(o, ranks);
      EXPECT_EQ(logged.text().find("a second thread of rank 0 packs the next step's batch") != std::string::npos,
                ahead == BatchesAhead::always);
      o.epochs = 2;
      o.resume = true;
      train(o, ranks);
      digests.push_back(newest_digest(o));
    }
    EXPECT_THAT(digests, ::testing::Each(digests.front())) << name;
  }
}

// The loss of an epoch in which weights hardly move, and that of the same steps with negatives that the loss draws itself.
TEST_F(Training, NegativesAreThoseOfTheirStep) {
  for (const LossType type : {LossType::sampled_softmax, LossType::bpr}) {
    Options o = options(fmt::format("negatives{}", static_cast<int>(type)));
    o.loss_type = type;
    o.n_sample = 20;
    o.learning_rate = 1e-30;
    o.dropout_prob = 0;
    o.replicas = 1;
    o.epochs = 2;
    o.eval_step = 0;
    train(o, 1);
    const Store store(o.store);
    EpochPlan plan(store, {.seed = o.seed, .batch_targets = 409, .max_length = 9});
    ItemReader items(store);
    Gru4Rec model = model_of(newest_file(o));
    model.set_loss(
        make_loss({.type = type, .negatives = o.train_neg_sample_args, .n_sample = 20, .sample_alpha = o.sample_alpha},
                  training_popularity(store)));
    double sum = 0;
    int64_t count = 0;
    const auto batches = static_cast<int64_t>(plan.batches(0));
    for (int64_t b = 0; b < static_cast<int64_t>(plan.batches(1)); ++b) {  // of the second epoch
      std::vector<float> gradient(static_cast<size_t>(model.layout().gradient_floats()));
      const Batch batch = pack(plan.batch(1, static_cast<uint64_t>(b)), items);
      const LossSum loss = model.forward_backward(batch, {o.seed, 1, batches + b}, gradient);
      sum += loss.sum;
      count += loss.count;
    }
    std::ifstream metrics(fs::path(o.run_dir) / "metrics.jsonl");
    std::string line, last;
    while (std::getline(metrics, line)) last = line;
    const double mean = nlohmann::json::parse(last)["train_loss"].get<double>();
    EXPECT_NEAR(mean, sum / static_cast<double>(count), 1e-7) << static_cast<int>(type);
  }
}

TEST_F(Training, BatchesAreMadeAheadByThemselvesWhereThereIsACoreToSpare) {
  cpu_set_t all;
  ASSERT_EQ(sched_getaffinity(0, sizeof all, &all), 0);
  if (CPU_COUNT(&all) < 2) GTEST_SKIP() << "this process may use one core only";
  const auto ahead = [&](const std::string& name, int cores, const std::function<void(Options&)>& change) {
    cpu_set_t some;
    CPU_ZERO(&some);
    for (int core = 0; CPU_COUNT(&some) < cores; ++core)
      if (CPU_ISSET(core, &all)) CPU_SET(core, &some);
    EXPECT_EQ(sched_setaffinity(0, sizeof some, &some), 0);
    Options o = options(name);
    o.epochs = 1;
    change(o);
    const Logged logged;
    train(o, 1);
    EXPECT_EQ(sched_setaffinity(0, sizeof all, &all), 0);
    return logged.text().find("a second thread of rank 0 packs the next step's batch") != std::string::npos;
  };
  EXPECT_TRUE(ahead("spare", 2, [](Options&) {}));
  EXPECT_FALSE(ahead("bound", 1, [](Options&) {}));
  EXPECT_FALSE(ahead("threads", 2, [](Options& o) { o.num_threads = 2; }));
  EXPECT_TRUE(ahead("overlap", 2, [](Options& o) { o.overlap = true; })) << "which has no effect in one process";
}

TEST_F(Training, OverlapMayChangeWhenARunIsResumed) {
  Options whole = options("whole"), parts = options("parts");
  train(whole, 2);
  parts.epochs = 1;
  parts.overlap = true;
  train(parts, 2);
  parts.epochs = 3;
  parts.overlap = false;
  parts.resume = true;
  train(parts, 3);
  EXPECT_EQ(newest_digest(parts), newest_digest(whole));
}

TEST_F(Training, OverlapSaysWhereItHasNoEffect) {
  const auto warning_of = [&](const std::string& run, int ranks, const std::function<void(Options&)>& change) {
    Options o = options(run);
    o.epochs = 1;
    o.overlap = true;
    change(o);
    const Logged logged;
    train(o, ranks);
    return logged.text();
  };
  EXPECT_THAT(warning_of("alone", 1, [](Options&) {}), HasSubstr("overlap has no effect: one process has nothing to send"));
  EXPECT_THAT(warning_of("native", 2, [](Options& o) { o.reduction = Reduction::native; }),
              HasSubstr("overlap has no effect: with reduction native"));
  EXPECT_THAT(warning_of("frozen", 2, [](Options& o) { o.freeze_item_embeddings = true; }),
              HasSubstr("overlap has no effect: the item table is constant"));
}

TEST_F(Training, ByTensorOperationsHasTheSameBitsOnAnyNumberOfRanksAndEndsNearTheLoops) {
  const auto run = [&](const std::string& name, int ranks, bool by_tensor_operations) {
    Options o = options(name);
    o.num_layers = 2;
    o.ema_decay = 0.5;
    o.precision = Precision::fp32;
    by_tensor_operations_ = by_tensor_operations;
    const Outcome outcome = train(o, ranks);
    EXPECT_GT(outcome.test->targets, 0);
    return newest_file(o);
  };
  const fs::path one = run("one", 1, true), three = run("three", 3, true), loops = run("loops", 1, false);
  const auto digest = [](const fs::path& file) { return hex_text(read_checkpoint_info(file).digest); };
  EXPECT_EQ(digest(one), digest(three));
  EXPECT_NE(digest(one), digest(loops));
  const Gru4Rec got = model_of(one), expected = model_of(loops);
  double largest = 0;
  for (size_t i = 0; i < got.parameters().size(); ++i)
    largest = std::max(largest, std::abs(double{got.parameters()[i]} - double{expected.parameters()[i]}));
  EXPECT_LT(largest, 0.01);
}

TEST_F(Training, UnevenReplicasKeepTheDigestToo) {
  for (const auto& [replicas, ranks] : {std::pair{5, 2}, std::pair{7, 3}, std::pair{8, 8}}) {
    Options one = options("one" + std::to_string(replicas)), many = options("many" + std::to_string(replicas));
    one.epochs = many.epochs = 1;
    one.replicas = many.replicas = replicas;
    train(one, 1);
    train(many, ranks);
    EXPECT_EQ(newest_digest(one), newest_digest(many)) << replicas << " replicas on " << ranks << " ranks";
  }
}

TEST_F(Training, Bf16HasTheSameBitsOnAnyNumberOfRanksAndIsNotFp32) {
  for (const LossType type : {LossType::ce, LossType::sampled_softmax, LossType::bpr_max, LossType::cosine_ranking}) {
    std::vector<uint64_t> hashes;
    for (const auto& [precision, ranks] :
         {std::pair{Precision::bf16, 1}, std::pair{Precision::bf16, 3}, std::pair{Precision::fp32, 1}}) {
      Options o = options(fmt::format("loss{}run{}", static_cast<int>(type), hashes.size()));
      o.loss_type = type;
      o.n_sample = 40;
      o.epochs = 2;
      o.precision = precision;
      train(o, ranks);
      hashes.push_back(hash_of_newest_parameters(o));
    }
    EXPECT_EQ(hashes[0], hashes[1]) << static_cast<int>(type);
    EXPECT_NE(hashes[0], hashes[2]) << static_cast<int>(type);
  }
}

TEST_F(Training, EveryLossGivesTheSameDigestOnAnyNumberOfRanksAndLearns) {
  for (const LossType type : {LossType::bpr, LossType::sampled_softmax, LossType::bpr_max, LossType::cosine_ranking}) {
    std::vector<std::string> digests;
    for (int ranks : {1, 3}) {
      Options o = options(fmt::format("loss{}ranks{}", static_cast<int>(type), ranks));
      o.loss_type = type;
      o.train_neg_sample_args = {NegativeDistribution::popularity, 2, 0.75};
      o.n_sample = 40;
      o.bpreg = 0.01;  // 1 is for scores of the size of 1
      o.item_dropout_prob = 0.1;
      o.score = ScoreKind::cosine;
      o.score_scale = 8;
      o.epochs = 8;
      const Outcome outcome = train(o, ranks);
      EXPECT_GT(outcome.test->recall(20), 0.3) << static_cast<int>(type);  // 20 of 97 items at random: 0.2
      digests.push_back(newest_digest(o));
    }
    EXPECT_EQ(digests[0], digests[1]);
  }
}

TEST_F(Training, ReplicasChangeOnlyTheOrderOfSums) {
  for (const LossType type : {LossType::ce, LossType::bpr}) {
    std::vector<std::vector<float>> parameters;
    for (int replicas : {1, 4}) {
      Options o = options(fmt::format("order{}loss{}", replicas, static_cast<int>(type)));
      o.loss_type = type;
      o.train_neg_sample_args = {NegativeDistribution::uniform, 2};
      o.replicas = replicas;
      o.weight_decay = 0.1;      // without it Adam would forgive a gradient of the wrong size
      o.train_batch_size = 200;  // about ten steps an epoch
      o.epochs = 1;
      train(o, 1);
      Gru4Rec model({.catalogue = 97, .embedding_size = 8, .hidden_size = 12});
      const CheckpointFolder folder(o.checkpoint_dir, 1);
      EXPECT_GE(folder.steps().back(), 10);
      load_weights(folder.file_of(folder.steps().back()), model);
      parameters.emplace_back(model.parameters().begin(), model.parameters().end());
    }
    double largest = 0;
    for (size_t i = 0; i < parameters[0].size(); ++i)
      largest = std::max(largest, std::abs(double{parameters[0][i]} - double{parameters[1][i]}));
    EXPECT_LT(largest, 1e-3);  // Adam's first steps divide by the gradient's own size: an element near 0 moves by up to 2·lr
    EXPECT_GT(largest, 0.0);
  }
}

// Rank 0 makes rank 1 wait between steps.
TEST_F(Training, TheRateCountsTheWaitingForOtherRanks) {
  static constexpr std::chrono::milliseconds kPause{5};
  struct Pause : TrainListener {
    int64_t steps = 0, targets = 0;
    void on_step(const TrainState& state, uint64_t, double, double rate) override {
      EXPECT_TRUE(std::isfinite(rate)) << "of the first step, too";
      steps = state.step;
      targets = state.epoch_targets;
      std::this_thread::sleep_for(kPause);
    }
    void on_epoch(const TrainState&, double, const std::optional<RankHistogram>&, bool, double) override {}
  };
  Options o = options("paused");
  o.epochs = 1;
  Pause listener;
  double rate = 0;
  run_ranks(2, [&](Communicator& comm) {
    const Store store(o.store);
    StopFlag stop;
    std::optional<RunFolder> run;
    if (comm.rank() == 0) run.emplace(o.run_dir, o.checkpoint_dir);
    Trainer trainer(o, find_start(o, store.info(), comm), store, comm, stop, run ? &*run : nullptr,
                    comm.rank() == 0 ? &listener : nullptr);
    const Outcome outcome = trainer.run();
    if (comm.rank() == 1) rate = outcome.targets_per_second;
  });
  ASSERT_GT(listener.steps, 3);
  const double paused = static_cast<double>(listener.steps - 1) * std::chrono::duration<double>(kPause).count();
  EXPECT_GT(rate, 0);
  EXPECT_LE(rate, static_cast<double>(listener.targets) / paused);
}

TEST_F(Training, ResumedAtAnyStepOnAnyNumberOfRanksEndsWithTheSameDigest) {
  const Options whole = options("whole");
  train(whole, 2);
  const std::string expected = newest_digest(whole);
  int ranks = 1;
  for (int64_t stop_at : {1, 4, 5, 9, 11}) {
    Options o = options("stopped" + std::to_string(stop_at));
    o.checkpoint_steps = 1;
    struct StopAtStep : TrainListener {
      int64_t at;
      StopFlag* flag;
      void on_step(const TrainState& state, uint64_t, double, double) override {
        if (state.step == at) flag->raise(SIGUSR1);
      }
      void on_epoch(const TrainState&, double, const std::optional<RankHistogram>&, bool, double) override {}
    };
    run_ranks(2, [&](Communicator& comm) {
      const Store store(o.store);
      StopFlag stop;
      StopAtStep listener;
      listener.at = stop_at;
      listener.flag = &stop;
      std::optional<RunFolder> run;
      if (comm.rank() == 0) run.emplace(o.run_dir, o.checkpoint_dir);
      Trainer trainer(o, find_start(o, store.info(), comm), store, comm, stop, run ? &*run : nullptr,
                      comm.rank() == 0 ? &listener : nullptr);
      EXPECT_EQ(trainer.run().stop_signal, SIGUSR1);
    });
    EXPECT_EQ(steps(o).back(), stop_at + 1);  // the signal is agreed on in the step after it came
    o.resume = true;
    o.checkpoint_steps = 0;
    train(o, 1 + ranks++ % 4);
    EXPECT_EQ(newest_digest(o), expected) << "stopped at step " << stop_at;
  }
}

// What rank 0 says when a run is refused.
std::string refusal(const std::function<void()>& run) {
  try {
    run();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "accepted";
}

TEST_F(Training, AFallingLearningRateGoesOnWhereItWasAndItsEpochsAreKept) {
  Options whole = options("whole");
  whole.learning_rate_schedule = Schedule::cosine;
  whole.warmup_steps = 5;
  whole.output_dropout_prob = 0.2;
  train(whole, 2);
  Options o = whole;
  o.run_dir = (folder_ / "killed").string();
  o.checkpoint_dir = o.run_dir + "/checkpoints";
  o.checkpoint_steps = 4;
  train(o, 1);
  const CheckpointFolder folder(o.checkpoint_dir, 1);
  for (const int64_t step : steps(o))
    if (step > 4) fs::remove(folder.file_of(step));  // as if killed after step 4
  o.resume = true;
  o.epochs = 4;
  EXPECT_THAT(refusal([&] { train(o, 1); }), HasSubstr("epochs: 3 → 4"));
  o.epochs = 3;
  train(o, 3);
  EXPECT_EQ(newest_digest(o), newest_digest(whole));
}

const ModelShape kShape{.catalogue = 97, .embedding_size = 8, .hidden_size = 12};

std::vector<float> values_of(const Gru4Rec& model) { return {model.parameters().begin(), model.parameters().end()}; }

// A run that overshoots, so that evaluations are not better than those before.
Options with_plateau(Options o) {
  o.learning_rate = 0.25;
  o.learning_rate_schedule = Schedule::plateau;
  o.plateau_patience = 0;
  o.epochs = 8;
  o.stopping_step = 100;
  return o;
}

TEST_F(Training, TheRateFallsOnAPlateauByItsFactorAfterItsPatience) {
  std::set<std::vector<float>> weights;
  for (const auto& [factor, patience] : {std::pair{0.5, 0}, std::pair{0.3, 0}, std::pair{0.5, 1}}) {
    Options o = with_plateau(options(fmt::format("factor{}patience{}", factor, patience)));
    o.plateau_factor = factor;
    o.plateau_patience = patience;
    train(o, 1);
    const CheckpointFolder folder(o.checkpoint_dir, 1);
    double rate = 1;
    int64_t bad = 0;  // as ReduceLROnPlateau counts
    for (const int64_t step : steps(o)) {
      const TrainState state = read_checkpoint_info(folder.file_of(step)).state;
      bad = state.best.stalled == 0 ? 0 : bad + 1;
      if (bad > patience) {
        rate *= factor;
        bad = 0;
      }
      EXPECT_EQ(state.plateau_rate, rate) << "step " << step;
    }
    EXPECT_LT(rate, 1) << "the example has no plateau";
    Gru4Rec model(kShape);
    load_weights(folder.file_of(steps(o).back()), model);
    weights.insert(values_of(model));
  }
  Options constant = with_plateau(options("constant"));
  constant.learning_rate_schedule = Schedule::constant;
  train(constant, 1);
  Gru4Rec model(kShape);
  load_weights(CheckpointFolder(constant.checkpoint_dir, 1).file_of(steps(constant).back()), model);
  weights.insert(values_of(model));
  EXPECT_EQ(weights.size(), 4u);
}

TEST_F(Training, AnAverageAndAPlateauGoOnWhereTheyWereOnAnyNumberOfRanks) {
  const auto averaged = [&](const std::string& name) {
    Options o = with_plateau(options(name));
    o.ema_decay = 0.5;
    o.checkpoint_steps = 1;
    return o;
  };
  const Options whole = averaged("whole"), two = averaged("two");
  train(whole, 1);
  train(two, 2);
  EXPECT_EQ(newest_digest(two), newest_digest(whole));

  const CheckpointFolder folder(whole.checkpoint_dir, 1);
  const std::vector<int64_t> all = steps(whole);
  const auto fallen = std::ranges::find_if(
      all, [&](int64_t step) { return read_checkpoint_info(folder.file_of(step)).state.plateau_rate < 1; });
  ASSERT_GT(all.end() - fallen, 2) << "the example has no plateau";
  int ranks = 1;
  for (const int64_t killed_after : {int64_t{1}, *fallen, *(fallen + 2)}) {
    Options o = averaged("killed" + std::to_string(killed_after));
    fs::create_directories(o.checkpoint_dir);
    fs::copy_file(folder.file_of(killed_after), CheckpointFolder(o.checkpoint_dir, 1).file_of(killed_after));
    o.resume = true;
    o.epochs = 7;  // may change, as with a constant rate
    train(o, ranks++);
    o.epochs = 8;
    train(o, ranks);
    EXPECT_EQ(newest_digest(o), newest_digest(whole)) << "killed after step " << killed_after;
    o.ema_decay = 0.6;
    EXPECT_THAT(refusal([&] { train(o, 1); }), HasSubstr("ema_decay: 0.5 → 0.6"));
    o.ema_decay = 0.5;
    o.plateau_patience = 1;
    EXPECT_THAT(refusal([&] { train(o, 1); }), HasSubstr("plateau_patience: 0 → 1"));
  }
}

TEST_F(Training, APlateauWithoutValidIsRefused) {
  write_training_example(folder_ / "short", {.sessions = 300, .longest = 3, .protocol = Protocol::leave_one_out});
  Options o = with_plateau(options("refused"));
  o.store = (folder_ / "short").string();
  EXPECT_THAT(refusal([&] { train(o, 2); }), HasSubstr("has no valid targets. Ingest it with a split"));
  o.learning_rate_schedule = Schedule::cosine;
  o.epochs = 1;
  EXPECT_EQ(refusal([&] { train(o, 2); }), "accepted");
}

TEST_F(Training, TheAverageIsThatOfTheWeightsAfterEachUpdate) {
  Options o = options("average");
  o.ema_decay = 0.6;
  o.checkpoint_steps = 1;
  train(o, 2);
  Gru4Rec model(kShape), average(kShape);
  Optimizer optimizer(model.layout(), {});
  model.initialise(o.seed);
  std::vector<double> expected(model.parameters().begin(), model.parameters().end());
  int64_t t = 0;
  for (const int64_t step : steps(o)) {
    ASSERT_EQ(step, ++t);
    load_checkpoint(CheckpointFolder(o.checkpoint_dir, 1).file_of(step), model, optimizer, &average);
    const double d = std::min(0.6, (1.0 + static_cast<double>(t)) / (10.0 + static_cast<double>(t)));
    for (size_t i = 0; i < expected.size(); ++i) {
      expected[i] = d * expected[i] + (1 - d) * model.parameters()[i];
      ASSERT_NEAR(average.parameters()[i], expected[i], 1e-6) << "step " << step << " element " << i;
    }
  }
  EXPECT_GT(t, 13);  // beyond the early steps, whose decay is less

  // Training itself goes on with the weights, as without an average.
  Options plain = options("plain");
  train(plain, 2);
  Gru4Rec same(kShape);
  load_weights(CheckpointFolder(plain.checkpoint_dir, 1).file_of(t), same);
  EXPECT_EQ(values_of(same), values_of(model));
}

TEST_F(Training, TheAverageIsWhatIsEvaluatedBegunWithAndTaughtBy) {
  for (const bool overshoots : {false, true}) {
    Options o = options(overshoots ? "overshoots" : "average");
    o.direction = Direction::backward;
    o.ema_decay = 0.95;
    if (overshoots) {
      o.learning_rate = 0.1;
      o.epochs = 10;
    }
    const Outcome outcome = train(o, 2);
    const CheckpointFolder folder(o.checkpoint_dir, 1);
    const CheckpointInfo last = read_checkpoint_info(folder.file_of(steps(o).back()));
    EXPECT_EQ(last.state.best.step < last.state.step, overshoots) << "the example is not what it should be";
    Gru4Rec average(kShape), raw(kShape);
    Optimizer optimizer(raw.layout(), {});
    const CheckpointInfo best = load_checkpoint(folder.file_of(last.state.best.step), raw, optimizer, &average);
    const Store store(o.store);
    for (const auto& [split, reported] : {std::pair{Split::valid, outcome.valid}, std::pair{Split::test, outcome.test}}) {
      const Evaluator evaluator(store, split, {.max_length = 9, .max_k = 20, .direction = Direction::backward});
      EXPECT_EQ(reported->at, evaluator.run_part(average, 0, 1).at);
      EXPECT_NE(reported->at, evaluator.run_part(raw, 0, 1).at);
    }

    Options begun = options(overshoots ? "begun2" : "begun");
    begun.init_from = o.run_dir;
    begun.ema_decay = 0.5;
    begun.epochs = 0;
    train(begun, 2, [&](int, Trainer& trainer, StopFlag&) {
      EXPECT_EQ(values_of(trainer.model()), values_of(average));
      EXPECT_EQ(values_of(trainer.evaluated()), values_of(average));
    });

    const std::string plain = (folder_ / (overshoots ? "plain2.h5" : "plain.h5")).string();
    save_checkpoint(plain, best, state_of(average, optimizer));  // whose weights are the average
    std::vector<std::vector<float>> taught;
    for (const std::string& teacher : {o.run_dir, plain}) {
      Options student = options(fmt::format("student{}{}", overshoots, taught.size()));
      student.teacher = teacher;
      student.epochs = 1;
      train(student, 1);
      Gru4Rec model(kShape);
      load_weights(CheckpointFolder(student.checkpoint_dir, 1).file_of(steps(student).back()), model);
      taught.push_back(values_of(model));
    }
    EXPECT_EQ(taught[0], taught[1]);
  }
}

TEST_F(Training, BeginsWithTheWeightsOfAnotherRunAndRefusesThoseOfAnotherModel) {
  const Options all = options("all");
  train(all, 2);
  Options recent = options("recent");
  recent.init_from = all.run_dir;
  recent.recent_fraction = 1.0 / 8;
  recent.epochs = 0;
  train(recent, 3, [&](int, Trainer& trainer, StopFlag&) {
    const CheckpointFolder folder(all.checkpoint_dir, 1);
    Gru4Rec best({.catalogue = 97, .embedding_size = 8, .hidden_size = 12});
    load_weights(best_checkpoint_at(all.run_dir), best);
    EXPECT_EQ(trainer.parameter_hash(), hash_bytes(best.parameters().data(), best.parameters().size_bytes()));
  });
  recent.epochs = 2;
  train(recent, 1);
  Options many = recent;
  many.run_dir = (folder_ / "many").string();
  many.checkpoint_dir = many.run_dir + "/checkpoints";
  train(many, 3);
  EXPECT_EQ(newest_digest(many), newest_digest(recent));
  Options other = options("other");
  other.init_from = all.run_dir;
  other.hidden_size = 13;
  EXPECT_THAT(refusal([&] { train(other, 1); }), HasSubstr("hidden_size 12"));
  other.hidden_size = 12;
  other.score = ScoreKind::cosine;
  EXPECT_THAT(refusal([&] { train(other, 1); }), HasSubstr("dot scores"));
}

// What a model of the grown store begins with: all that the old one has, and for new items what a new run has.
void expect_grown(const Gru4Rec& grown, const Gru4Rec& old, const Options& o) {
  Gru4Rec fresh(grown.shape());
  fresh.initialise(o.seed, o.embedding_init);
  const auto known = static_cast<int64_t>(old.layout().table().offset + old.layout().table().size());
  ASSERT_LT(known, grown.layout().table().offset + grown.layout().table().size());
  const auto is = grown.parameters();
  EXPECT_TRUE(std::ranges::equal(is.first(known), old.parameters().first(known))) << "known items";
  EXPECT_TRUE(std::ranges::equal(is.subspan(known), fresh.parameters().subspan(known))) << "new items";
}

TEST_F(Training, GoesOnWithAGrownStoreFromWhatWasLearnedOnAnyNumberOfRanks) {
  const fs::path grown = folder_ / "grown", other = folder_ / "other";
  write_training_example(
      grown,
      {.sessions = 330, .catalogue = 103, .longest = 30, .grown_from = {1, Store(folder_ / "store").info().data_digest}});
  write_training_example(other, {.sessions = 330, .catalogue = 103, .longest = 30, .grown_from = {1}});
  for (const Precision precision : {Precision::fp32, Precision::bf16}) {
    const std::string name = precision == Precision::fp32 ? "fp32" : "bf16";
    const auto with = [&](const std::string& run) {
      Options o = options(run + name);
      o.precision = precision;
      o.ema_decay = 0.9;
      o.stopping_step = 100;
      return o;
    };
    const Options o = with("old");
    train(o, 2);
    const fs::path file = newest_file(o);
    Gru4Rec raw = model_of(file), average = model_of(file);
    Optimizer moments(raw.layout(), {});
    load_checkpoint(file, raw, moments, &average);

    std::vector<std::string> resumed, begun;
    for (const int ranks : {1, 2}) {
      Options go_on = with(fmt::format("resumed{}", ranks));
      fs::copy(o.run_dir, go_on.run_dir, fs::copy_options::recursive);
      go_on.store = grown.string();
      go_on.resume = true;
      go_on.epochs = 5;
      train(go_on, ranks, [&](int, Trainer& trainer, StopFlag&) {
        expect_grown(trainer.model(), raw, go_on);
        expect_grown(trainer.evaluated(), average, go_on);
        EXPECT_EQ(trainer.state().epoch, 3u);
        EXPECT_EQ(trainer.state().best.step, -1) << "measured on other data";
      });
      resumed.push_back(newest_digest(go_on));

      Options begin = with(fmt::format("begun{}", ranks));
      begin.store = grown.string();
      begin.init_from = file.string();
      begin.epochs = 1;
      train(begin, ranks, [&](int, Trainer& trainer, StopFlag&) {
        expect_grown(trainer.model(), average, begin);
        expect_grown(trainer.evaluated(), average, begin);
      });
      begun.push_back(newest_digest(begin));
    }
    EXPECT_EQ(resumed[0], resumed[1]);
    EXPECT_EQ(begun[0], begun[1]);

    Gru4Rec more({.catalogue = 103, .embedding_size = 8, .hidden_size = 12}), more_average(more.shape());
    Optimizer more_moments(more.layout(), {});
    load_checkpoint(file, more, more_moments, &more_average);
    const auto known = static_cast<size_t>(raw.layout().table().offset + raw.layout().table().size());
    EXPECT_TRUE(std::ranges::equal(more_moments.second_moment().first(known), moments.second_moment().first(known)));
    EXPECT_THAT(more_moments.first_moment().subspan(known), ::testing::Each(0.0f));

    Options refused = o;
    refused.resume = true;
    refused.store = other.string();
    EXPECT_THAT(refusal([&] { train(refused, 1); }), HasSubstr("did not grow from it"));
  }
}

// The same sessions under other numbers.
void write_renumbered(const Store& store, const fs::path& folder) {
  const auto catalogue = static_cast<uint32_t>(store.info().catalogue);
  StoreWriter writer(folder, 1, store.info().events);
  store.visit_sessions(0, store.info().sessions, [&](const SessionRecord& session) {
    std::vector<uint32_t> items;
    for (const uint32_t item : session.items) items.push_back(item == 0 ? 0 : catalogue + 1 - item);
    writer.add({session.id, items, session.times, session.train_end, session.valid_end});
    return true;
  });
  StoreInfo info;
  info.dataset = "renumbered";
  info.protocol = store.info().protocol;
  const std::vector<std::string>& names = store.item_names();
  writer.commit(info, std::vector<std::string>(names.rbegin(), names.rend()));
}

TEST_F(Training, ItemsOfOtherDataAreKnownByTheirIds) {
  const Options o = options("run");
  const Outcome outcome = train(o, 1);
  const Store store(o.store);
  write_renumbered(store, folder_ / "renumbered");
  const Store renumbered(folder_ / "renumbered");
  const fs::path file = best_checkpoint_at(o.run_dir);
  const Gru4Rec model = model_of(file);
  const std::vector<uint32_t> numbers = numbers_in(*read_checkpoint_info(file).catalogue, renumbered.item_names());
  const Evaluator by_ids(renumbered, Split::test, {.max_length = 9, .max_k = 20, .numbers = numbers});
  EXPECT_EQ(by_ids.run_part(model, 0, 1).at, outcome.test->at);
  const Evaluator by_numbers(renumbered, Split::test, {.max_length = 9, .max_k = 20});
  EXPECT_NE(by_numbers.run_part(model, 0, 1).at, outcome.test->at);

  Options begun = options("begun");
  begun.store = (folder_ / "renumbered").string();
  begun.init_from = o.run_dir;
  begun.epochs = 0;
  EXPECT_EQ(train(begun, 2,
                  [&](int, Trainer& trainer, StopFlag&) {
                    const auto row = [](const Gru4Rec& m, int64_t item) { return m.parameter(m.layout().table().name)[item]; };
                    for (int64_t item = 1; item <= 97; ++item)
                      EXPECT_TRUE(row(trainer.model(), 98 - item).equal(row(model, item)));
                    EXPECT_TRUE(row(trainer.model(), 0).equal(row(model, 0)));
                  })
                .test->at,
            outcome.test->at);

  write_training_example(folder_ / "strange", {.sessions = 50, .catalogue = 3, .longest = 9});
  Options strange = options("strange run");
  strange.store = (folder_ / "strange").string();
  train(strange, 1);
  begun = options("again");
  begun.init_from = strange.run_dir;
  begun.epochs = 0;
  train(begun, 1, [&](int, Trainer& trainer, StopFlag&) { EXPECT_EQ(trainer.model().shape().catalogue, 97); });
}

TEST_F(Training, PredictsTheItemEmbeddingsOfAnotherRunWithTheSameBitsOnAnyNumberOfRanks) {
  Options items = options("items");
  items.epochs = 8;
  train(items, 2);
  const std::vector<float> table = item_table(best_checkpoint_at(items.run_dir));
  const auto with = [&](const std::string& name, LossType type) {
    Options o = options(name);
    o.loss_type = type;
    o.score = type == LossType::ce ? ScoreKind::dot : ScoreKind::cosine;
    o.hidden_size = 11;  // only the table is taken
    o.n_sample = 40;
    o.freeze_item_embeddings = true;
    o.item_embeddings_from = items.run_dir;
    o.epochs = 8;
    return o;
  };
  for (const LossType type : {LossType::cosine_embedding, LossType::cosine_ranking, LossType::ce}) {
    std::vector<std::string> digests;
    for (int ranks : {1, 3}) {
      const Options o = with(fmt::format("loss{}ranks{}", static_cast<int>(type), ranks), type);
      EXPECT_GT(train(o, ranks).test->recall(20), 0.3) << static_cast<int>(type);  // 20 of 97 items at random: 0.2
      digests.push_back(newest_digest(o));
      EXPECT_EQ(item_table(newest_file(o)), table);
    }
    EXPECT_EQ(digests[0], digests[1]);
  }

  // Stopped, it goes on without the run that the table came from.
  Options whole = with("whole", LossType::cosine_embedding);
  whole.epochs = 9;
  train(whole, 1);
  const int type = static_cast<int>(LossType::cosine_embedding);
  Options stopped = with(fmt::format("loss{}ranks1", type), LossType::cosine_embedding);
  stopped.item_embeddings_from = "gone";
  stopped.epochs = 9;
  stopped.resume = true;
  train(stopped, 2);
  EXPECT_EQ(newest_digest(stopped), newest_digest(whole));

  Options wrong = with("wrong", LossType::cosine_embedding);
  wrong.embedding_size = 9;
  EXPECT_THAT(refusal([&] { train(wrong, 1); }),
              ::testing::AllOf(HasSubstr("(item_embeddings_from)"), HasSubstr("embedding_size 8"), HasSubstr("9.")));
  wrong.embedding_size = 8;
  wrong.item_embeddings_from.clear();
  EXPECT_THAT(refusal([&] { train(wrong, 2); }), HasSubstr("got random ones, wanted trained ones"));
}

TEST_F(Training, AFrozenItemTableStaysBitForBitWithEveryLearnerWhileTheOtherWeightsMove) {
  Options items = options("items");
  items.epochs = 1;
  train(items, 1);
  const Gru4Rec source = model_of(best_checkpoint_at(items.run_dir));
  for (const Learner learner : {Learner::adam, Learner::adamw, Learner::adagrad, Learner::rmsprop, Learner::sgd}) {
    Options o = options(fmt::format("learner{}", static_cast<int>(learner)));
    o.learner = learner;
    o.weight_decay = 0.1;
    o.clip_grad_norm = 0.01;
    o.init_from = items.run_dir;
    o.freeze_item_embeddings = true;
    o.epochs = 1;
    o.debug = learner == Learner::adam;
    ::testing::internal::CaptureStderr();
    train(o, 1);
    const std::string output = ::testing::internal::GetCapturedStderr();
    EXPECT_EQ(output.find("item_embedding.weight") != std::string::npos, o.debug);
    const Gru4Rec after = model_of(newest_file(o));
    for (const ParameterInfo& info : source.layout().parameters()) {
      const auto was = source.parameters().subspan(info.offset, info.size());
      const auto is = after.parameters().subspan(info.offset, info.size());
      EXPECT_EQ(std::ranges::equal(was, is), info.name == source.layout().table().name)
          << info.name << " learner " << static_cast<int>(learner);
    }
  }
}

TEST_F(Training, AStudentLearnsFromItsTeacherWithTheSameBitsOnAnyNumberOfRanks) {
  Options teacher = options("teacher");
  teacher.direction = Direction::backward;
  teacher.hidden_size = 10;
  train(teacher, 2);
  std::vector<uint64_t> hashes;
  const auto student = [&](const std::string& name, const std::function<void(Options&)>& change, int ranks) {
    Options o = options(name);
    o.teacher = teacher.run_dir;
    o.epochs = 2;
    change(o);
    train(o, ranks);
    hashes.push_back(hash_of_newest_parameters(o));
    return o;
  };
  Options o = student(
      "one", [](Options&) {}, 1);
  student(
      "three", [](Options&) {}, 3);
  EXPECT_EQ(hashes[0], hashes[1]);
  student(
      "lambda", [](Options& s) { s.distill_lambda = 0.2; }, 1);
  student(
      "temperature", [](Options& s) { s.distill_temperature = 3; }, 1);
  student(
      "squared",
      [](Options& s) {
        s.distill_temperature = 3;
        s.distill_t_squared = true;
      },
      1);
  student(
      "alone", [](Options& s) { s.teacher.clear(); }, 1);
  student(
      "bf16", [](Options& s) { s.precision = Precision::bf16; }, 1);
  EXPECT_EQ(std::set<uint64_t>(hashes.begin(), hashes.end()).size(), 6u);

  // Stopped, it goes on with that very teacher and no other.
  Options whole = student(
      "whole", [](Options& s) { s.epochs = 3; }, 1);
  o.resume = true;
  o.epochs = 3;
  train(o, 2);
  EXPECT_EQ(newest_digest(o), newest_digest(whole));
  teacher.resume = true;
  teacher.epochs = 5;
  teacher.stopping_step = 100;
  teacher.keep_checkpoints = 1;
  train(teacher, 1);
  const CheckpointFolder folder(teacher.checkpoint_dir, 1);
  fs::copy_file(folder.file_of(folder.steps().back()), folder_ / "other.h5");
  o.epochs = 4;
  o.teacher = (folder_ / "other.h5").string();
  EXPECT_THAT(refusal([&] { train(o, 1); }), HasSubstr("a teacher with the digest"));
  Options forward = options("forward");
  forward.teacher = o.run_dir;
  EXPECT_THAT(refusal([&] { train(forward, 1); }), HasSubstr("reads forward"));
}

TEST_F(Training, AStepWithoutTargetsChangesNothingAndDisturbsNobody) {
  std::vector<std::string> digests;
  std::string output;
  for (int ranks : {1, 3}) {
    Options o = options("sparse" + std::to_string(ranks));
    o.item_dropout_prob = 0.95;
    o.train_batch_size = 4;
    o.epochs = 1;
    o.debug = ranks == 1;
    ::testing::internal::CaptureStderr();
    train(o, ranks);
    output += ::testing::internal::GetCapturedStderr();
    digests.push_back(newest_digest(o));
  }
  EXPECT_EQ(digests[0], digests[1]);
  EXPECT_THAT(output, HasSubstr("gradient "));
  EXPECT_THAT(output, ::testing::Not(HasSubstr("nan")));
}

TEST_F(Training, MetricsOfAResumedRunAreWrittenOnce) {
  Options o = options("run");
  o.epochs = 2;
  train(o, 1);
  const CheckpointFolder folder(o.checkpoint_dir, 1);
  fs::remove(folder.file_of(folder.steps().back()));  // as if killed before the last checkpoint
  o.resume = true;
  train(o, 1);
  std::ifstream in(folder_ / "run" / "metrics.jsonl");
  int lines = 0;
  for (std::string line; std::getline(in, line);) EXPECT_EQ(nlohmann::json::parse(line)["epoch"], lines++);
  EXPECT_EQ(lines, 2);
}

TEST_F(Training, ADamagedNewestCheckpointIsSkippedAndTheResultIsTheSame) {
  const Options whole = options("whole");
  train(whole, 1);
  Options o = options("damaged");
  o.epochs = 2;
  train(o, 1);
  const fs::path newest = CheckpointFolder(o.checkpoint_dir, 1).file_of(steps(o).back());
  std::fstream file(newest, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(static_cast<std::streamoff>(fs::file_size(newest) / 2));
  file.put('\x5a');
  file.put('\xa5');
  file.close();
  EXPECT_THROW(read_checkpoint_info(newest), UserError);
  o.epochs = 3;
  o.resume = true;
  train(o, 3);
  EXPECT_EQ(newest_digest(o), newest_digest(whole));
}

TEST_F(Training, AResumedRunKeepsItsPrecision) {
  for (const auto& [precision, other] :
       {std::pair{Precision::fp32, Precision::bf16}, std::pair{Precision::bf16, Precision::fp32}}) {
    const auto in_precision = [&, of = precision](const std::string& name, int64_t epochs) {
      Options o = options(name + (of == Precision::bf16 ? "bf16" : "fp32"));
      o.precision = of;
      o.epochs = epochs;
      train(o, 1);
      return o;
    };
    const Options whole = in_precision("whole", 2);
    Options stopped = in_precision("stopped", 1);
    stopped.epochs = 2;
    stopped.resume = true;
    stopped.precision = other;
    EXPECT_THAT(refusal([&] { train(stopped, 1); }), HasSubstr("precision"));
    stopped.precision = Precision::automatic;  // whatever this processor would choose
    train(stopped, 1);
    EXPECT_EQ(newest_digest(stopped), newest_digest(whole));
  }
}

TEST_F(Training, ACheckpointFromBeforeThereWasAChoiceOfPrecisionIsOfFp32) {
  Options whole = options("whole"), stopped = options("stopped");
  train(whole, 1);
  stopped.epochs = 1;
  train(stopped, 1);
  const fs::path file = newest_file(stopped);
  Gru4Rec model = model_of(file);
  Optimizer optimizer(model.layout(), {});
  CheckpointInfo info = load_checkpoint(file, model, optimizer);
  const std::string line = "precision: fp32\n";
  const size_t at = info.number_options.find(line);
  ASSERT_NE(at, std::string::npos);
  info.number_options.erase(at, line.size());
  save_checkpoint(file, info, state_of(model, optimizer));
  stopped.epochs = whole.epochs;
  stopped.resume = true;
  stopped.precision = Precision::automatic;
  train(stopped, 1);
  EXPECT_EQ(newest_digest(stopped), newest_digest(whole));
}

TEST_F(Training, RefusesWhatDoesNotFitTheCheckpoint) {
  Options o = options("run");
  o.epochs = 1;
  train(o, 1);
  EXPECT_THAT(refusal([&] { train(o, 1); }), HasSubstr("already holds a run"));
  o.resume = true;
  o.epochs = 2;
  Options changed = o;
  changed.learning_rate = 0.5;
  EXPECT_THAT(refusal([&] { train(changed, 1); }), HasSubstr("learning_rate"));
  changed = o;
  changed.replicas = 3;
  EXPECT_THAT(refusal([&] { train(changed, 1); }), HasSubstr("4 replicas"));
  changed = o;
  write_training_example(folder_ / "other", {.sessions = 301, .catalogue = 97, .longest = 30});
  changed.store = (folder_ / "other").string();
  EXPECT_THAT(refusal([&] { train(changed, 1); }), HasSubstr("digest"));
  write_training_example(folder_ / "grown", {.sessions = 300, .catalogue = 98, .longest = 30});
  changed.store = (folder_ / "grown").string();
  EXPECT_THAT(refusal([&] { train(changed, 1); }), HasSubstr("97 items, this store has 98"));
  EXPECT_THAT(refusal([&] { train(o, 5); }), HasSubstr("replicas"));
}

TEST_F(Training, ANonFiniteLossStopsAllBeforeTheUpdateAndNamesStepRankAndSessions) {
  Options o = options("nan");
  for (const auto& [ranks, overlap] : {std::pair{1, false}, std::pair{3, false}, std::pair{3, true}}) {
    o.overlap = overlap;
    o.run_dir += "x";
    o.checkpoint_dir = o.run_dir + "/checkpoints";
    std::vector<uint64_t> before(ranks), after(ranks);
    const std::string message = refusal([&, ranks = ranks] {
      run_ranks(ranks, [&](Communicator& comm) {
        const Store store(o.store);
        StopFlag stop;
        Trainer trainer(o, find_start(o, store.info(), comm), store, comm, stop, nullptr, nullptr);
        for (float& p : trainer.model().parameters())
          p = comm.rank() == ranks - 1 ? std::numeric_limits<float>::quiet_NaN() : p;
        before[comm.rank()] = trainer.parameter_hash();
        try {
          trainer.run();
        } catch (...) {
          after[comm.rank()] = trainer.parameter_hash();
          throw;
        }
      });
    });
    EXPECT_THAT(message, HasSubstr("not finite at step 0"));
    EXPECT_THAT(message, HasSubstr("sessions "));
    EXPECT_THAT(message, HasSubstr("rank " + std::to_string(ranks - 1)));
    EXPECT_EQ(before, after);
  }
}

TEST_F(Training, ARankThatUpdatesAllAndDriftedApartIsNamedAtTheNextEvaluation) {
  Options o = options("drift");
  o.clip_grad_norm = 100;  // each rank updates all: a weight that another rank updates would be replaced by that one's
  const std::string message = refusal([&] {
    train(o, 3, [](int rank, Trainer& trainer, StopFlag&) {
      if (rank == 1) trainer.model().parameters()[17] += 1e-6f;
    });
  });
  EXPECT_THAT(message, HasSubstr("rank 1"));
  EXPECT_THAT(message, HasSubstr("drifted apart"));
  Options averaged = options("average");
  averaged.ema_decay = 0.99;
  averaged.clip_grad_norm = 100;
  EXPECT_THAT(refusal([&] {
                train(averaged, 3, [](int rank, Trainer& trainer, StopFlag&) {
                  if (rank == 2) trainer.evaluated().parameters()[17] += 1;
                });
              }),
              HasSubstr("rank 2"));
}

TEST_F(Training, StopsEarlyAndEvaluatesTheBestEpoch) {
  Options o = options("early");
  o.epochs = 200;
  o.stopping_step = 2;
  o.learning_rate = 0.05;
  const Outcome outcome = train(o, 2);
  EXPECT_LT(outcome.epochs, 200u);
  const CheckpointFolder folder(o.checkpoint_dir, 1);
  const CheckpointInfo last = read_checkpoint_info(folder.file_of(folder.steps().back()));
  EXPECT_EQ(last.state.best.stalled, 3);
  EXPECT_EQ(outcome.epochs, last.state.best.epoch + 4);
  Gru4Rec best({.catalogue = 97, .embedding_size = 8, .hidden_size = 12});
  load_weights(folder.file_of(last.state.best.step), best);
  const Store store(o.store);
  EXPECT_EQ(outcome.valid->at, Evaluator(store, Split::valid, {.max_length = 9, .max_k = 20}).run_part(best, 0, 1).at);
  EXPECT_EQ(outcome.test->at, Evaluator(store, Split::test, {.max_length = 9, .max_k = 20}).run_part(best, 0, 1).at);
}

TEST_F(Training, EveryOptionThatChangesNumbersChangesTheDigest) {
  auto digest_of = [&](const std::string& name, const std::function<void(Options&)>& change) {
    Options o = options(name);
    o.epochs = 2;
    change(o);
    train(o, 1);
    return hash_of_newest_parameters(o);
  };
  std::map<std::string, std::function<void(Options&)>> changes = {
      {"seed", [](Options& o) { o.seed = 1; }},
      {"loss_type",
       [](Options& o) {
         o.loss_type = LossType::bpr;
         o.train_neg_sample_args = {NegativeDistribution::uniform};
       }},
      {"train_neg_sample_args",
       [](Options& o) {
         o.loss_type = LossType::bpr;
         o.train_neg_sample_args = {NegativeDistribution::popularity, 2, 0.5};
       }},
      {"n_sample",
       [](Options& o) {
         o.loss_type = LossType::sampled_softmax;
         o.n_sample = 20;
       }},
      {"n_sample, one more",
       [](Options& o) {
         o.loss_type = LossType::sampled_softmax;
         o.n_sample = 21;
       }},
      {"train_neg_sample_args, alpha",
       [](Options& o) {
         o.loss_type = LossType::bpr;
         o.train_neg_sample_args = {NegativeDistribution::popularity, 2, 0.9};
       }},
      {"train_neg_sample_args, sample_num",
       [](Options& o) {
         o.loss_type = LossType::bpr;
         o.train_neg_sample_args = {NegativeDistribution::popularity, 3, 0.5};
       }},
      {"sample_alpha",
       [](Options& o) {
         o.loss_type = LossType::sampled_softmax;
         o.n_sample = 20;
         o.sample_alpha = 0.9;
       }},
      {"logq_correction",
       [](Options& o) {
         o.loss_type = LossType::sampled_softmax;
         o.n_sample = 20;
         o.logq_correction = false;
       }},
      {"BPR-max",
       [](Options& o) {
         o.loss_type = LossType::bpr_max;
         o.n_sample = 20;
       }},
      {"bpreg",
       [](Options& o) {
         o.loss_type = LossType::bpr_max;
         o.n_sample = 20;
         o.bpreg = 0.1;
       }},
      {"cosine_ranking",
       [](Options& o) {
         o.loss_type = LossType::cosine_ranking;
         o.score = ScoreKind::cosine;
         o.n_sample = 20;
       }},
      {"ranking_margin",
       [](Options& o) {
         o.loss_type = LossType::cosine_ranking;
         o.score = ScoreKind::cosine;
         o.n_sample = 20;
         o.ranking_margin = 0.3;
       }},
      {"freeze_item_embeddings", [](Options& o) { o.freeze_item_embeddings = true; }},
      {"recent_fraction", [](Options& o) { o.recent_fraction = 0.25; }},
      {"learner", [](Options& o) { o.learner = Learner::rmsprop; }},
      {"learning_rate", [](Options& o) { o.learning_rate = 0.019; }},
      {"weight_decay", [](Options& o) { o.weight_decay = 0.01; }},
      {"clip_grad_norm", [](Options& o) { o.clip_grad_norm = 0.01; }},
      {"clip_grad_norm_type",
       [](Options& o) {
         o.clip_grad_norm = 0.01;
         o.clip_grad_norm_type = 1;
       }},
      {"train_batch_size", [](Options& o) { o.train_batch_size = 300; }},
      {"MAX_ITEM_LIST_LENGTH", [](Options& o) { o.MAX_ITEM_LIST_LENGTH = 5; }},
      {"augmentation", [](Options& o) { o.augmentation = Augmentation::prefixes; }},
      {"dropout_prob", [](Options& o) { o.dropout_prob = 0.1; }},
      {"hidden_dropout_prob",
       [](Options& o) {
         o.num_layers = 2;
         o.hidden_dropout_prob = 0.1;
       }},
      {"output_dropout_prob", [](Options& o) { o.output_dropout_prob = 0.1; }},
      {"dense_layer",
       [](Options& o) {
         o.hidden_size = o.embedding_size;
         o.dense_layer = false;
       }},
      {"embedding_init", [](Options& o) { o.embedding_init = EmbeddingInit::unit; }},
      {"learning_rate_schedule", [](Options& o) { o.learning_rate_schedule = Schedule::cosine; }},
      {"warmup_steps", [](Options& o) { o.warmup_steps = 3; }},
      {"ema_decay", [](Options& o) { o.ema_decay = 0.9; }},
      {"embedding_size", [](Options& o) { o.embedding_size = 9; }},
      {"hidden_size", [](Options& o) { o.hidden_size = 13; }},
      {"num_layers", [](Options& o) { o.num_layers = 2; }},
      {"item_dropout_prob", [](Options& o) { o.item_dropout_prob = 0.2; }},
      {"score", [](Options& o) { o.score = ScoreKind::cosine; }},
      {"score_scale",
       [](Options& o) {
         o.score = ScoreKind::cosine;
         o.score_scale = 12;
       }},
      {"learn_score_scale",
       [](Options& o) {
         o.score = ScoreKind::cosine;
         o.learn_score_scale = true;
       }},
      {"score_padding", [](Options& o) { o.score_padding = false; }},
      {"epochs", [](Options& o) { o.epochs = 1; }},
      {"precision", [](Options& o) { o.precision = Precision::bf16; }},
      {"replicas", [](Options& o) { o.replicas = 3; }},
  };
  std::map<uint64_t, std::string> seen = {{digest_of("base", [](Options&) {}), "base"}};
  for (const auto& [name, change] : changes) {
    const auto [other, is_new] = seen.emplace(digest_of(name, change), name);
    EXPECT_TRUE(is_new) << name << " gives the parameters of " << other->second;
  }
}

TEST_F(Training, KeepsTheNewestCheckpointsAndTheBest) {
  Options o = options("keep");
  o.keep_checkpoints = 2;
  o.epochs = 6;
  train(o, 1);
  const std::vector<int64_t> kept = steps(o);
  EXPECT_GE(kept.size(), 2u);
  EXPECT_LE(kept.size(), 3u);
  const CheckpointFolder folder(o.checkpoint_dir, 1);
  EXPECT_THAT(kept, ::testing::Contains(read_checkpoint_info(folder.file_of(kept.back())).state.best.step));
}

TEST_F(Training, CheckpointsWrittenInTheBackgroundAreThoseOfAnyOtherRun) {
  const auto run = [&](bool in_background) {
    Options o = options(in_background ? "background" : "in_turn");
    o.checkpoint_steps = 1;
    o.checkpoint_in_background = in_background;
    const Logged log;
    const Outcome outcome = train(o, 2);
    EXPECT_EQ(log.text().find("checkpoints are written in the background") != std::string::npos, in_background);
    std::vector<std::pair<int64_t, uint64_t>> digests;
    const CheckpointFolder folder(o.checkpoint_dir, 1);
    for (const int64_t step : folder.steps()) digests.emplace_back(step, read_checkpoint_info(folder.file_of(step)).digest);
    return std::pair{digests, outcome.test->at};
  };
  const auto expected = run(false);
  EXPECT_GT(expected.first.size(), 6u);
  EXPECT_EQ(run(true), expected);
}

// The folder of the checkpoints goes away when the first epoch ends.
struct RemoveFolder : TrainListener {
  explicit RemoveFolder(fs::path of) : folder(std::move(of)) {}
  void on_step(const TrainState& state, uint64_t, double, double) override {
    if (state.epoch > 0) std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  void on_epoch(const TrainState&, double, const std::optional<RankHistogram>&, bool, double) override {
    if (++epochs > 1) return;
    fs::remove_all(folder);
    std::ofstream(folder) << "a file";
  }
  const fs::path folder;
  int epochs = 0;
};

// With one epoch it is known when the run ends; with more, in the background, at a step of the next one, which has 75.
TEST_F(Training, ACheckpointThatCannotBeWrittenEndsAllRanks) {
  for (const bool in_background : {false, true})
    for (const int64_t epochs : {1, 3}) {
      Options o = options(fmt::format("{}{}", in_background, epochs));
      o.checkpoint_in_background = in_background;
      o.epochs = epochs;
      o.train_batch_size = 40;
      RemoveFolder listener(o.checkpoint_dir);
      std::atomic<int> failed = 0;
      run_ranks(3, [&](Communicator& comm) {
        const Store store(o.store);
        std::optional<RunFolder> run;
        if (comm.rank() == 0) run.emplace(o.run_dir, o.checkpoint_dir);
        StopFlag stop;
        Trainer trainer(o, find_start(o, store.info(), comm), store, comm, stop, run ? &*run : nullptr,
                        comm.rank() == 0 ? &listener : nullptr);
        try {
          trainer.run();
        } catch (const std::exception& error) {
          EXPECT_THAT(error.what(), HasSubstr(o.checkpoint_dir));
          ++failed;
        }
      });
      EXPECT_EQ(failed, 3) << in_background << ", epochs " << epochs;
      EXPECT_EQ(listener.epochs, 1) << in_background << ", epochs " << epochs;
    }
}

TEST_F(Training, EvaluatesEveryEvalStepEpochs) {
  Options o = options("eval");
  o.eval_step = 2;
  train(o, 1);
  std::ifstream in(folder_ / "eval" / "metrics.jsonl");
  std::vector<bool> evaluated;
  for (std::string line; std::getline(in, line);) evaluated.push_back(nlohmann::json::parse(line).contains("valid"));
  EXPECT_THAT(evaluated, ::testing::ElementsAre(false, true, false));
  const CheckpointFolder folder(o.checkpoint_dir, 1);
  const BestSoFar best = read_checkpoint_info(folder.file_of(folder.steps().back())).state.best;
  EXPECT_EQ(best.epoch, 1u);  // the one that was evaluated, not a later one that was not
  EXPECT_EQ(best.step, folder.steps()[1]);
}

TEST_F(Training, DebugModeHasTheBitsOfAnyOtherRun) {
  const Options plain = options("plain");
  train(plain, 4);
  Options debug = options("debug");
  debug.debug = true;
  ::testing::internal::CaptureStderr();
  train(debug, 1);
  const std::string output = ::testing::internal::GetCapturedStderr();
  EXPECT_EQ(newest_digest(debug), newest_digest(plain));
  EXPECT_THAT(output, HasSubstr("gru_layers.weight_hh_l0"));
  EXPECT_THAT(output, HasSubstr("gradient"));
}

}  // namespace
}  // namespace gru4rec

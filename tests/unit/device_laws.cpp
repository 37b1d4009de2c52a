// Laws of computing elsewhere than in the processor's loops: the same numbers, but for rounding. By ATen operations on the
// processor everywhere; on a GPU where there is one.
#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/full.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <optional>

#include "../ranks/comm_laws.h"
#include "gru4rec/base/error.h"
#include "gru4rec/comm/threads.h"
#include "gru4rec/data/negatives.h"
#include "gru4rec/data/plan.h"
#include "gru4rec/eval/evaluator.h"
#include "gru4rec/model/device.h"
#include "gru4rec/model/distillation.h"
#include "gru4rec/model/full_softmax.h"
#include "gru4rec/model/gru_layer.h"
#include "gru4rec/model/table_rows.h"
#include "gru4rec/train/device_memory.h"
#include "gru4rec/train/optimizer.h"
#include "support/packed_batch.h"
#include "support/temporary_folder.h"
#include "support/training_example.h"
#include "support/uniform_values.h"

namespace gru4rec {
namespace {

using at::Tensor;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::packed_batch;
using testing::TemporaryFolder;
using testing::write_training_example;

Tensor uniform(at::IntArrayRef shape, uint64_t key, double bound = 0.5) {
  Tensor values = at::empty(shape, at::kFloat);
  const std::vector<float> drawn = testing::uniform_values(static_cast<size_t>(values.numel()), bound, key);
  std::copy(drawn.begin(), drawn.end(), values.data_ptr<float>());
  return values;
}

double largest(const Tensor& values) { return values.numel() == 0 ? 0 : values.abs().max().item<double>(); }

// Equal to within 1e-5 of the largest of them.
void expect_near(const Tensor& got, const Tensor& expected, const std::string& what) {
  EXPECT_LE(largest(downloaded(got) - expected), 1e-5 * std::max(1.0, largest(expected))) << what;
}
void expect_near(const std::vector<float>& got, const std::vector<float>& expected, const std::string& what) {
  ASSERT_EQ(got.size(), expected.size());
  const auto tensor = [](const std::vector<float>& values) {
    return at::from_blob(const_cast<float*>(values.data()), {static_cast<int64_t>(values.size())}, at::kFloat);
  };
  expect_near(tensor(got), tensor(expected), what);
}

// Each test computes on the device of its parameter, and compares with the fused loops.
class OnDevice : public ::testing::TestWithParam<DeviceKind> {
 protected:
  void SetUp() override {
    if (GetParam() == DeviceKind::cuda && !at::hasCUDA()) GTEST_SKIP() << "no GPU is visible, or LibTorch has no CUDA";
    device_ = compute_device(GetParam(), 0);
  }
  // Runs `work` where the parameter says.
  template <typename Work>
  auto there(Work&& work) const {
    const TensorKernelsScope scope;
    return work();
  }
  Tensor upload(const Tensor& host) const { return uploaded(host, device_); }

  at::Device device_ = at::kCPU;
};
INSTANTIATE_TEST_SUITE_P(ByTensorOperations, OnDevice, ::testing::Values(DeviceKind::cpu),
                         [](const auto&) { return std::string("Processor"); });
INSTANTIATE_TEST_SUITE_P(Cuda, OnDevice, ::testing::Values(DeviceKind::cuda), [](const auto&) { return std::string("Gpu"); });

TEST_P(OnDevice, ALayerAndItsGradientsAreThoseOfTheLoops) {
  for (const std::vector<int64_t>& step_sizes : {std::vector<int64_t>{5, 5, 3, 2, 2, 1, 1}, std::vector<int64_t>{4}}) {
    int64_t inputs = 0;
    for (const int64_t running : step_sizes) inputs += running;
    constexpr int64_t kIn = 6, kHidden = 9;
    const Tensor x = uniform({inputs, kIn}, 1, 2), w_ih = uniform({3 * kHidden, kIn}, 2),
                 w_hh = uniform({3 * kHidden, kHidden}, 3);
    const Tensor weights = uniform({inputs, kHidden}, 4);
    const auto run = [&](auto&& place) {  // states, gradients of input and weights
      const Tensor a = place(x), b = place(w_ih), c = place(w_hh);
      const GruTrace trace = gru_forward(a, step_sizes, b, c);
      const GruGradients gradients = gru_backward(place(weights), a, step_sizes, b, c, trace);
      return std::vector<Tensor>{trace.states, gradients.input, gradients.weight_ih, gradients.weight_hh};
    };
    const std::vector<Tensor> expected = run([](const Tensor& values) { return values; });
    const std::vector<Tensor> got = there([&] { return run([&](const Tensor& values) { return upload(values); }); });
    for (size_t i = 0; i < got.size(); ++i) expect_near(got[i], expected[i], fmt::format("tensor {}", i));
  }
}

TEST_P(OnDevice, RowsWithOneIdAreAddedUp) {
  const Tensor rows = uniform({7, 3}, 1),
               ids = at::tensor({int64_t{4}, int64_t{0}, int64_t{4}, int64_t{2}, int64_t{4}, int64_t{2}, int64_t{5}});
  Tensor expected = uniform({6, 3}, 2);
  Tensor got = upload(expected.clone());
  add_rows(rows, ids, expected);
  there([&] { add_rows(upload(rows), upload(ids), got); });
  expect_near(got, expected, "table");
}

struct SoftmaxResult {
  double sum;
  Tensor grad_queries, grad_table;
};

TEST_P(OnDevice, TheSoftmaxIsThatOfTheLoopsInBothSchedulesAndPrecisionsForAnyOwners) {
  constexpr int64_t kTargets = 301, kRows = 8300, kSize = 6;  // three blocks
  const Tensor queries = uniform({kTargets, kSize}, 1, 2), table = uniform({kRows, kSize}, 2, 2);
  std::vector<int64_t> labels;
  std::vector<float> weights;
  for (int64_t i = 0; i < kTargets; ++i) {
    labels.push_back(1 + (i * 7919) % (kRows - 1));
    weights.push_back(static_cast<float>(1 + i % 3));
  }
  labels[0] = kRows - 1;
  labels[1] = labels[2] = 4096;
  const auto run = [&](auto&& place, const SoftmaxOptions& options, const std::vector<int64_t>& owners) {
    Tensor grad_table = place(at::ones({kRows, kSize}, at::kFloat));
    const SoftmaxLoss loss = softmax_cross_entropy(place(queries), place(table), place(at::tensor(labels)),
                                                   place(at::tensor(weights)), options, grad_table, owners);
    return SoftmaxResult{loss.sum, loss.grad_queries, grad_table};
  };
  for (const bool padding : {true, false}) {
    for (const bool stored : {true, false}) {
      for (const Precision precision : {Precision::fp32, Precision::bf16}) {
        const SoftmaxOptions options{padding, {.chunk_rows = 128, .stored = stored}, precision};
        const std::string what = fmt::format("padding {} stored {} bf16 {}", padding, stored, precision == Precision::bf16);
        const SoftmaxResult expected = run([](const Tensor& host) { return host; }, options, {0});
        const auto place = [&](const Tensor& host) { return upload(host); };
        const SoftmaxResult got = there([&] { return run(place, options, {0}); });
        const SoftmaxResult divided = there([&] { return run(place, options, {0, 1, 2}); });
        EXPECT_NEAR(got.sum, expected.sum, 1e-6 * expected.sum) << what;
        // A probability that lies between two numbers of bf16 may be rounded to either.
        const double slack = precision == Precision::bf16 ? 2e-3 : 1e-5;
        EXPECT_LE(largest(downloaded(got.grad_queries) - expected.grad_queries), slack * largest(expected.grad_queries))
            << what;
        EXPECT_LE(largest(downloaded(got.grad_table) - expected.grad_table), slack * largest(expected.grad_table)) << what;
        EXPECT_EQ(got.sum, divided.sum) << what;
        EXPECT_TRUE(at::equal(got.grad_queries, divided.grad_queries)) << what;
        EXPECT_TRUE(at::equal(got.grad_table, divided.grad_table)) << what;
      }
    }
  }
}

struct StepResult {
  LossSum loss;
  std::vector<float> gradient;
};
StepResult step_of(Gru4Rec& model, const Batch& batch, bool constant_table = false, const OutputLoss* loss = nullptr) {
  StepResult result{{}, std::vector<float>(static_cast<size_t>(model.layout().gradient_floats(constant_table)), 0.25f)};
  result.loss = model.forward_backward(batch, {9, 2, 5}, result.gradient, loss);  // is added to what is there
  return result;
}

// Loss and gradient of one model computed there and by the loops.
class ModelOnDevice : public OnDevice {
 protected:
  ModelOnDevice() {
    write_training_example(folder_ / "store", {.sessions = 60, .catalogue = 31, .longest = 10});
    store_.emplace(folder_ / "store");
  }
  Batch batch(Augmentation mode, Direction direction = Direction::forward) {
    EpochPlan plan(*store_, {.seed = 2, .batch_targets = 100000, .augmentation = mode});
    ItemReader items(*store_);
    return pack(plan.share(0, 0, 0), items, {}, direction);
  }
  void expect_equal_steps(const ModelShape& shape, const Batch& batch, const std::shared_ptr<const OutputLoss>& loss,
                          bool constant_table, const std::string& what) {
    Gru4Rec plain(shape), other(shape, device_);
    for (Gru4Rec* model : {&plain, &other}) {
      model->initialise(4, EmbeddingInit::unit);
      model->set_loss(loss);
    }
    const StepResult expected = step_of(plain, batch, constant_table);
    const StepResult got = there([&] { return step_of(other, batch, constant_table); });
    EXPECT_EQ(got.loss.count, expected.loss.count);
    EXPECT_NEAR(got.loss.sum, expected.loss.sum, 1e-6 * std::abs(expected.loss.sum)) << what;
    expect_near(got.gradient, expected.gradient, what);
    expect_near(there([&] { return other.queries(batch); }), plain.queries(batch), what);
    expect_near(there([&] { return other.score_table(); }), plain.score_table(), what);
  }
  static ModelShape shape() {
    return {.catalogue = 31, .embedding_size = 6, .hidden_size = 10, .num_layers = 1, .dropout_prob = 0.3};
  }
  TemporaryFolder folder_;
  std::optional<Store> store_;
};
INSTANTIATE_TEST_SUITE_P(ByTensorOperations, ModelOnDevice, ::testing::Values(DeviceKind::cpu),
                         [](const auto&) { return std::string("Processor"); });
INSTANTIATE_TEST_SUITE_P(Cuda, ModelOnDevice, ::testing::Values(DeviceKind::cuda),
                         [](const auto&) { return std::string("Gpu"); });

TEST_P(ModelOnDevice, EveryShapeHasTheLossAndTheGradientOfTheLoops) {
  for (const int64_t layers : {1, 2}) {
    for (const bool dense : {true, false}) {
      for (const bool cosine : {false, true}) {
        for (const Augmentation mode : {Augmentation::one_pass, Augmentation::prefixes}) {
          ModelShape s = shape();
          s.num_layers = layers;
          s.dense_layer = dense;
          if (!dense) s.hidden_size = s.embedding_size;
          s.hidden_dropout_prob = 0.2;
          s.output_dropout_prob = layers == 1 ? 0.0 : 0.1;
          s.cosine = s.learn_score_scale = cosine;
          s.score_scale = 5;
          expect_equal_steps(
              s, batch(mode), make_loss({}, {}), /*constant_table=*/false,
              fmt::format("{} layers, dense {}, cosine {}, mode {}", layers, dense, cosine, static_cast<int>(mode)));
        }
      }
    }
  }
}

TEST_P(ModelOnDevice, EveryLossHasTheLossAndTheGradientOfTheLoops) {
  const std::vector<uint64_t> popularity = training_popularity(*store_);
  for (const LossType type : {LossType::ce, LossType::bpr, LossType::sampled_softmax, LossType::bpr_max,
                              LossType::cosine_embedding, LossType::cosine_ranking}) {
    for (const bool cosine : {false, true}) {
      for (const bool constant : {false, true}) {
        if (type == LossType::cosine_embedding && !constant) continue;
        ModelShape s = shape();
        s.cosine = cosine;
        s.score_scale = 5;
        const auto loss = make_loss(
            {.type = type, .score_padding = false, .negatives = {NegativeDistribution::popularity, 2}, .n_sample = 19},
            popularity);
        expect_equal_steps(s, batch(Augmentation::one_pass), loss, constant,
                           fmt::format("loss {}, cosine {}, constant {}", static_cast<int>(type), cosine, constant));
      }
    }
  }
}

TEST_P(ModelOnDevice, ACatalogueOfSeveralBlocksHasTheLossAndTheGradientOfTheLoops) {
  ModelShape s = shape();
  s.catalogue = 8203;
  expect_equal_steps(s, packed_batch({9, 9, 7, 4, 3, 1, 1}, s.catalogue), make_loss({}, {}), false, "8203 items");
}

TEST_P(ModelOnDevice, AStudentHasTheLossAndTheGradientOfTheLoops) {
  const Batch forward = batch(Augmentation::one_pass), backward = batch(Augmentation::one_pass, Direction::backward);
  for (const bool cosine : {false, true}) {
    for (const double temperature : {1.0, 2.0}) {
      ModelShape s = shape();
      s.cosine = cosine;
      Gru4Rec plain_teacher(s), other_teacher(s, device_), plain(shape()), other(shape(), device_);
      for (Gru4Rec* teacher : {&plain_teacher, &other_teacher}) teacher->initialise(8, EmbeddingInit::unit);
      for (Gru4Rec* student : {&plain, &other}) student->initialise(4, EmbeddingInit::unit);
      const DistillationOptions options{.lambda = 0.3, .temperature = temperature, .score_padding = !cosine};
      const auto step = [&](Gru4Rec& student, const Gru4Rec& teacher) {
        const DistilledLoss loss(options, view_of_teacher(Scorer(teacher), forward, backward));
        return step_of(student, forward, false, &loss);
      };
      const StepResult expected = step(plain, plain_teacher);
      const StepResult got = there([&] { return step(other, other_teacher); });
      EXPECT_NEAR(got.loss.sum, expected.loss.sum, 1e-6 * expected.loss.sum);
      expect_near(got.gradient, expected.gradient, fmt::format("cosine {} temperature {}", cosine, temperature));
    }
  }
}

TEST_P(ModelOnDevice, TheSameStepTwiceHasTheSameBits) {
  ModelShape s = shape();
  s.catalogue = 8203;
  Gru4Rec model(s, device_);
  model.initialise(4);
  const Batch all = packed_batch({30, 30, 20, 9, 9, 7, 4, 3, 1, 1}, 7);  // few items, often
  there([&] {
    const StepResult first = step_of(model, all), second = step_of(model, all);
    EXPECT_EQ(first.loss.sum, second.loss.sum);
    EXPECT_EQ(first.gradient, second.gradient);
  });
}

TEST_P(ModelOnDevice, AProbeSeesTensorsOfTheHost) {
  Gru4Rec model(shape(), device_);
  model.initialise(4);
  int64_t seen = 0;
  model.set_probe([&](const std::string& name, const Tensor& tensor) {
    EXPECT_TRUE(tensor.is_cpu()) << name;
    ++seen;
  });
  there([&] { return step_of(model, batch(Augmentation::one_pass)); });
  EXPECT_GE(seen, 5);
}

TEST_P(ModelOnDevice, StepsOfTrainingEndWhereTheLoopsEnd) {
  const Batch all = batch(Augmentation::one_pass);
  const auto train = [&](Gru4Rec& model) {
    model.initialise(4, EmbeddingInit::unit);
    Optimizer optimizer(model.layout(), {.learning_rate = 0.01});
    std::vector<double> losses;
    for (int64_t step = 0; step < 12; ++step) {
      std::vector<float> gradient(static_cast<size_t>(model.layout().gradient_floats()));
      const LossSum loss = model.forward_backward(all, {9, 0, step}, gradient);
      losses.push_back(loss.sum / static_cast<double>(loss.count));
      optimizer.step(model.parameters(), gradient, loss.count, step + 1);
    }
    return losses;
  };
  Gru4Rec plain(shape()), other(shape(), device_);
  const std::vector<double> expected = train(plain);
  const std::vector<double> got = there([&] { return train(other); });
  EXPECT_LT(got.back(), 0.97 * got.front());
  for (size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], expected[i], 1e-5 * expected[i]) << "step " << i;
  double largest_distance = 0;
  for (size_t i = 0; i < plain.parameters().size(); ++i)
    largest_distance = std::max(largest_distance, std::abs(double{plain.parameters()[i]} - double{other.parameters()[i]}));
  EXPECT_LT(largest_distance, 1e-3);
}

TEST_P(OnDevice, TheOrderedSumInTheMemoryOfTheDeviceHasTheBitsOfTheHosts) {
  constexpr int kReplicas = 7;
  constexpr size_t kLength = 1003;
  run_ranks(device_.is_cpu() ? 3 : 1, [&](Communicator& comm) {  // only NCCL sends from the memory of a GPU
    const ReplicaLayout layout(kReplicas, comm.size());
    DeviceMemory memory(device_);
    OrderedSum sum(layout, comm.rank(), kLength, memory);
    for (int step = 0; step < 2; ++step) {
      for (const int replica : layout.replicas_of(comm.rank())) {
        Tensor gradient = at::empty({static_cast<int64_t>(kLength)}, at::kFloat);
        for (size_t i = 0; i < kLength; ++i) gradient.data_ptr<float>()[i] = laws::gradient_at(replica, i);
        tensor_over(sum.begin(replica), device_).add_(upload(gradient));
        sum.end(replica);
      }
      const Tensor total = downloaded(tensor_over(sum.reduce(comm), device_));
      for (size_t i = 0; i < kLength; ++i)
        ASSERT_TRUE(laws::same_bits(total.data_ptr<float>()[i], laws::reference_sum(i, 0, kReplicas))) << i;
    }
  });
}

TEST_P(ModelOnDevice, AGradientInTheMemoryOfTheDeviceIsAddedToWhereItIs) {
  Gru4Rec model(shape(), device_);
  model.initialise(4, EmbeddingInit::unit);
  const Batch all = batch(Augmentation::one_pass);
  there([&] {
    const StepResult expected = step_of(model, all);
    const Tensor gradient = upload(at::full({model.layout().gradient_floats()}, 0.25, at::kFloat));
    EXPECT_EQ(model.forward_backward(all, {9, 2, 5}, gradient).sum, expected.loss.sum);
    const Tensor got = downloaded(gradient);
    expect_near(std::vector<float>(got.data_ptr<float>(), got.data_ptr<float>() + got.numel()), expected.gradient, "gradient");
  });
}

TEST_P(OnDevice, RanksCountTheOtherItemsNotScoredBelowTheTarget) {
  const Tensor table = at::tensor({9.0f, 0.1f, 0.5f, 0.5f, 0.7f, -1.0f}).view({6, 1});  // row 0 is padding
  const Tensor queries = at::ones({6, 1});
  there([&] {
    EXPECT_THAT(rank_targets(upload(queries), upload(table), {4, 2, 3, 1, 5, 0}), ElementsAre(1, 3, 3, 4, 5, 0));
    EXPECT_THROW(rank_targets(upload(queries), upload(table), {4, 2, 3, 1, 5, 6}), BugError);
  });
}

TEST_P(OnDevice, RanksAcrossBlocksAreThoseOfTheLoops) {
  const Tensor table = uniform({9001, 4}, 1), queries = uniform({1500, 4}, 2);
  std::vector<int64_t> labels;
  for (int64_t i = 0; i < 1500; ++i) labels.push_back(i % 11 == 0 ? 0 : 1 + (i * 7919) % 9000);
  labels[1] = 4095, labels[2] = 4096, labels[3] = 9000;
  const std::vector<int64_t> expected = rank_targets(queries, table, labels);
  const std::vector<int64_t> got = there([&] { return rank_targets(upload(queries), upload(table), labels); });
  if (device_.is_cpu()) {
    EXPECT_EQ(got, expected);  // the same products
  } else {
    int64_t moved = 0;  // scores that differ in their last bits may change places
    for (size_t i = 0; i < got.size(); ++i) moved += std::abs(got[i] - expected[i]);
    EXPECT_LT(moved, 150);
  }
}

TEST_P(OnDevice, RanksRefuseScoresThatAreNotFiniteAndNameTheirBlock) {
  for (const float value : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    Tensor table = at::ones({9001, 1}, at::kFloat);
    table.data_ptr<float>()[5000] = value;
    there([&] {
      try {
        rank_targets(upload(at::ones({1, 1}, at::kFloat)), upload(table), {2});
        ADD_FAILURE() << "nothing was thrown";
      } catch (const SurroundingsError& error) {
        EXPECT_THAT(error.what(), HasSubstr("rows 4096…8191"));
      }
      EXPECT_THAT(rank_targets(upload(at::ones({1, 1}, at::kFloat)), upload(table), {0}), ElementsAre(0));
    });
  }
}

TEST_P(ModelOnDevice, AnEvaluationHasTheHistogramOfTheLoops) {
  for (const Protocol protocol : {Protocol::next_item, Protocol::leave_one_out}) {
    const auto folder = folder_ / fmt::format("evaluated{}", static_cast<int>(protocol));
    write_training_example(folder, {.sessions = 700, .catalogue = 61, .longest = 20, .protocol = protocol});
    const Store store(folder);
    for (const bool cosine : {false, true}) {
      ModelShape s{.catalogue = 61, .embedding_size = 8, .hidden_size = 12};
      s.cosine = cosine;
      Gru4Rec plain(s), other(s, device_);
      for (Gru4Rec* model : {&plain, &other}) model->initialise(3, EmbeddingInit::unit);
      const Evaluator evaluator(store, Split::test, {});
      const RankHistogram expected = evaluator.run_part(plain, 0, 1);
      const RankHistogram got = there([&] { return evaluator.run_part(other, 0, 1); });
      EXPECT_EQ(got.targets, expected.targets);
      EXPECT_EQ(got.at, expected.at) << "cosine " << cosine;
    }
  }
}

TEST(Device, CudaIsRefusedWithWhatToDoWhereThereIsNone) {
  EXPECT_EQ(compute_device(DeviceKind::cpu, 3), at::Device(at::kCPU));
  if (at::hasCUDA()) GTEST_SKIP() << "a GPU is visible";
  try {
    compute_device(DeviceKind::cuda, 0);
    ADD_FAILURE() << "nothing was thrown";
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(), HasSubstr("device: got cuda"));
    EXPECT_THAT(error.what(), HasSubstr("set device to cpu"));
  }
}

TEST(Device, RanksOfAHostTakeItsGpusInTurn) {
  if (!at::hasCUDA()) GTEST_SKIP() << "no GPU is visible, or LibTorch has no CUDA";
  const auto gpus = static_cast<int>(at::getNumGPUs());
  for (int rank = 0; rank < 2 * gpus; ++rank)
    EXPECT_EQ(compute_device(DeviceKind::cuda, rank).index(), static_cast<at::DeviceIndex>(rank % gpus));
}

TEST(Device, TheLoopsAreUsedOutsideAScopeOfTensorOperations) {
  EXPECT_FALSE(uses_tensor_kernels(at::kCPU));
  {
    const TensorKernelsScope outer;
    { const TensorKernelsScope inner; }
    EXPECT_TRUE(uses_tensor_kernels(at::kCPU));
  }
  EXPECT_FALSE(uses_tensor_kernels(at::kCPU));
  EXPECT_TRUE(uses_tensor_kernels(at::Device(at::kCUDA, 0)));
}

}  // namespace
}  // namespace gru4rec

// Laws of what --debug watches: the first tensor that is not finite is named, on the way forward and on the way back, and a
// watch that is over watches no more.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "gru4rec/base/error.h"
#include "gru4rec/train/debug_checks.h"
#include "support/packed_batch.h"

namespace gru4rec {
namespace {

using ::testing::StartsWith;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// Hands back a gradient of the queries with one value everywhere.
struct LossWithGradient : OutputLoss {
  explicit LossWithGradient(float each) : value(each) {}
  SoftmaxLoss operator()(const at::Tensor& queries, const at::Tensor&, const Batch&, const StepKey&, at::Tensor&, const RowSet*,
                         const RowsDone&) const override {
    return {1.0, at::full_like(queries, value)};
  }
  float value;
};

class Watch : public ::testing::Test {
 protected:
  Watch() { model_.initialise(3); }
  float* weight(const std::string& name) { return model_.parameters().data() + model_.layout().find(name).offset; }
  // What a step under watch says.
  std::string complaint(const OutputLoss* loss = nullptr) {
    const TensorWatch watch(model_);
    std::vector<float> gradient(static_cast<size_t>(model_.layout().gradient_floats()));
    try {
      model_.forward_backward(testing::packed_batch({3, 2, 2}, 30), {9, 0}, gradient, loss);
    } catch (const UserError& error) {
      return error.what();
    }
    return "";
  }
  Gru4Rec model_{{.catalogue = 30, .embedding_size = 5, .hidden_size = 7, .num_layers = 2}};
};

TEST_F(Watch, AFiniteStepIsSilent) { EXPECT_EQ(complaint(), ""); }

TEST_F(Watch, AStepShowsEveryTensorAndGradientInItsOrder) {
  std::vector<std::string> names;
  model_.set_probe([&](const std::string& name, const at::Tensor&) { names.push_back(name); });
  std::vector<float> gradient(static_cast<size_t>(model_.layout().gradient_floats()));
  model_.forward_backward(testing::packed_batch({3, 2, 2}, 30), {9, 0}, gradient);
  EXPECT_THAT(names, ::testing::ElementsAre("item_embedding", "emb_dropout", "gru_layers.0", "gru_layers.1", "dense",
                                            "loss.grad_queries", "dense.bias.grad", "dense.weight.grad", "dense.grad",
                                            "gru_layers.weight_ih_l1.grad", "gru_layers.weight_hh_l1.grad", "gru_layers.1.grad",
                                            "gru_layers.weight_ih_l0.grad", "gru_layers.weight_hh_l0.grad", "gru_layers.0.grad",
                                            "item_embedding.grad"));
}

TEST_F(Watch, TheFirstModuleWhoseOutputIsNotFiniteIsNamed) {
  weight("gru_layers.weight_hh_l1")[2] = kNan;
  EXPECT_THAT(complaint(), StartsWith("gru_layers.1 is not finite: element "));
  weight("gru_layers.weight_ih_l0")[2] = kNan;
  EXPECT_THAT(complaint(), StartsWith("gru_layers.0 is not finite: element "));
  std::fill_n(weight("item_embedding.weight"), 31 * 5, kNan);
  EXPECT_THAT(complaint(), StartsWith("item_embedding is not finite: element 0 of [7, 5] is nan"));
}

TEST_F(Watch, AGradientIsNamedByTheModuleItComesFrom) {
  const LossWithGradient nan(kNan), large(3e37f), too_large_a_sum(3e38f);
  EXPECT_THAT(complaint(&nan), StartsWith("loss.grad_queries is not finite: element 0 of [7, 5] is nan"));
  EXPECT_THAT(complaint(&too_large_a_sum), StartsWith("dense.bias.grad is not finite: element 0 of [5] is inf"));
  std::fill_n(weight("dense.weight"), 5 * 7, 10.0f);
  EXPECT_THAT(complaint(&large), StartsWith("dense.grad is not finite: element 0 of [7, 7] is inf"));
}

TEST_F(Watch, EndsWithItsLife) {
  weight("gru_layers.weight_hh_l1")[2] = kNan;
  complaint();
  std::vector<float> gradient(static_cast<size_t>(model_.layout().gradient_floats()));
  EXPECT_NO_THROW(model_.forward_backward(testing::packed_batch({3, 2, 2}, 30), {9, 0}, gradient));
}

}  // namespace
}  // namespace gru4rec

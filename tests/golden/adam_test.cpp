// Ten steps of RecBole's own training loop, repeated: every prefix a sample, no dropout, Adam with and without weight decay and
// clipping. Fixtures: tests/golden/README.md.
#include <functional>
#include <set>

#include "fixture.h"
#include "gru4rec/train/optimizer.h"
#include "support/temporary_folder.h"

namespace gru4rec {
namespace {

using testing::FixtureFile;
using testing::SampleStore;

// The gradient of the mean loss by parameter, from the sums that forward_backward adds up.
at::Tensor mean_gradient(const ParameterLayout& layout, const ParameterInfo& info, std::span<const float> sums, int64_t count) {
  const auto part = [&](int64_t offset) {
    const auto values = sums.subspan(static_cast<size_t>(offset), static_cast<size_t>(info.size()));
    return at::tensor(std::vector<float>(values.begin(), values.end())).view(info.shape);
  };
  if (info.name != layout.table().name) return part(info.offset) / count;
  return (part(layout.table_output_gradient()) + part(layout.table_input_gradient())) / count;
}

class AdamSteps : public ::testing::TestWithParam<std::string> {
 protected:
  AdamSteps() : model_(fixture_.shape(GetParam())) { fixture_.load(GetParam() + "/start", model_); }

  OptimizerOptions options() const {
    OptimizerOptions options;
    options.learning_rate = fixture_.attribute<double>(GetParam(), "learning_rate");
    options.weight_decay = fixture_.attribute<double>(GetParam(), "weight_decay");
    options.clip_norm = fixture_.attribute<double>(GetParam(), "clip_max_norm");
    return options;
  }
  double largest_difference(const std::string& group, const std::function<at::Tensor(const ParameterInfo&)>& ours) const {
    double largest = 0;
    for (const ParameterInfo& info : model_.layout().parameters()) {
      const at::Tensor wanted = fixture_.tensor(GetParam() + "/" + group + "/" + info.name, info.shape);
      largest = std::max(largest, (ours(info) - wanted).abs().max().item<double>());
    }
    return largest;
  }

  const FixtureFile fixture_{"adam.h5"};
  Gru4Rec model_;
  const testing::TemporaryFolder folder_;
};

TEST_P(AdamSteps, HaveRecBolesLossesNormsAndWeights) {
  SampleStore samples(folder_ / "store", fixture_.lists("batches"), fixture_.read<int64_t>("batches/targets"),
                      model_.shape().catalogue);
  const auto ends = fixture_.read<int64_t>("batches/step_offsets");
  const auto losses = fixture_.read<double>(GetParam() + "/loss");
  ASSERT_EQ(losses.size(), 10u);
  const bool clips = options().clip_norm > 0;
  const auto norms = clips ? fixture_.read<double>(GetParam() + "/gradient_norm") : std::vector<double>(10, 0.0);

  Optimizer adam(model_.layout(), options());
  for (size_t step = 0; step < losses.size(); ++step) {
    const Batch batch = samples.batch(static_cast<uint64_t>(ends[step]), static_cast<uint64_t>(ends[step + 1]));
    std::vector<float> gradient(model_.layout().gradient_floats());
    const LossSum loss = model_.forward_backward(batch, {}, gradient);
    ASSERT_EQ(loss.count, ends[step + 1] - ends[step]);
    EXPECT_NEAR(loss.sum / static_cast<double>(loss.count), losses[step], 1e-5) << "step " << step + 1;
    if (step == 0 && !clips) {
      const auto ours = [&](const ParameterInfo& info) { return mean_gradient(model_.layout(), info, gradient, loss.count); };
      EXPECT_LT(largest_difference("first_gradient", ours), 1e-6);
    }
    adam.step(model_.parameters(), gradient, loss.count, static_cast<int64_t>(step) + 1);
    EXPECT_NEAR(adam.gradient_norm(), norms[step], 1e-5) << "step " << step + 1;
  }
  // A step moves a weight by about the learning rate, 1e-3; ten of them end within a thousandth of one.
  EXPECT_LT(largest_difference("final", [&](const ParameterInfo& info) { return model_.parameter(info.name); }), 1e-6);
}

INSTANTIATE_TEST_SUITE_P(Runs, AdamSteps, ::testing::Values("plain", "decay_and_clip", "clip_at_times", "two_layers"),
                         [](const auto& run) { return run.param; });

// A training sample as RecBole makes it: at most 50 inputs and the target behind them.
using Samples = std::multiset<std::vector<int64_t>>;

TEST(Prefixes, OfTheTrainingPartsAreRecBolesSamples) {
  const FixtureFile fixture("adam.h5");
  auto samples = fixture.lists("batches");
  const auto targets = fixture.read<int64_t>("batches/targets");
  for (size_t i = 0; i < samples.size(); ++i) samples[i].push_back(targets[i]);

  Samples ours;
  for (const auto& session : fixture.lists("sessions")) {
    const auto events = static_cast<uint32_t>(session.size());
    std::vector<Segment> segments;
    append_prefixes(0, {0, events, events - 2, events - 1}, 1, events - 2, 50, segments);
    for (const Segment& segment : segments) {
      EXPECT_EQ(segment.targets(), 1u);
      ours.emplace(session.begin() + segment.begin, session.begin() + segment.end);
    }
  }
  EXPECT_EQ(ours, Samples(samples.begin(), samples.end()));
}

}  // namespace
}  // namespace gru4rec

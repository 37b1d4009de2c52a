// Laws of the writer of checkpoints: what it writes is the state at the time of the call, one after the other, and no failure
// is lost.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>

#include "gru4rec/train/checkpoint_writer.h"
#include "support/checkpoint_example.h"
#include "support/temporary_folder.h"

namespace gru4rec {
namespace {

using testing::CheckpointExample;
using ::testing::ElementsAre;
using testing::TemporaryFolder;

class Writer : public ::testing::TestWithParam<bool> {
 protected:
  TemporaryFolder folder_;
};
INSTANTIATE_TEST_SUITE_P(InTurnAndInTheBackground, Writer, ::testing::Bool());

TEST_P(Writer, WritesTheStateOfTheCallAndKeepsTheNewest) {
  CheckpointWriter writer({folder_ / "checkpoints", 2}, GetParam());
  std::vector<uint64_t> digests;
  for (const uint64_t seed : {1, 2, 3}) {
    CheckpointExample example(seed);
    example.info.state.best.step = 0;  // none of them
    digests.push_back(example.save(folder_ / "apart.h5"));
    writer.write(example.info, example.state());
    std::ranges::fill(example.model.parameters(), 0.0f);
    std::ranges::fill(example.adam.first_moment(), 0.0f);
    std::ranges::fill(example.average.parameters(), 0.0f);
  }
  writer.wait();
  EXPECT_THAT(writer.folder().steps(), ElementsAre(502, 503));
  for (const int64_t step : {502, 503})
    EXPECT_EQ(read_checkpoint_info(writer.folder().file_of(step)).digest, digests[static_cast<size_t>(step - 501)]);
}

// So much of it that it cannot be written before the call has returned.
TEST_P(Writer, WritesNothingOfWhatTheStateBecomesLater) {
  CheckpointInfo info = CheckpointExample::example_info();
  info.shape.catalogue = 400'000;
  info.catalogue = nullptr;
  Gru4Rec model(info.shape);
  model.initialise(1);
  const Optimizer adam(model.layout(), {});
  CheckpointWriter writer({folder_ / "checkpoints", 1}, GetParam());
  writer.make_room(state_of(model, adam));
  writer.write(info, state_of(model, adam));
  std::ranges::fill(model.parameters(), 0.0f);
  writer.wait();
  Gru4Rec found(info.shape);
  load_weights(writer.folder().file_of(info.state.step), found);
  model.initialise(1);
  EXPECT_TRUE(std::ranges::equal(found.parameters(), model.parameters()));
}

TEST_P(Writer, AFailureIsThrownOnce) {
  std::ofstream(folder_ / "file") << "no folder";
  CheckpointWriter writer({folder_ / "file" / "checkpoints", 1}, GetParam());
  const CheckpointExample example;
  if (GetParam()) {
    writer.write(example.info, example.state());
    EXPECT_THROW(writer.wait(), std::exception);
    writer.write(example.info, example.state());
    EXPECT_THROW(writer.write(example.info, example.state()), std::exception);
    writer.write(example.info, example.state());
    const auto check_until_it_is_known = [&] {
      for (;;) writer.check();  // the time limit of the test ends this
    };
    EXPECT_THROW(check_until_it_is_known(), std::exception);
  } else {
    EXPECT_THROW(writer.write(example.info, example.state()), std::exception);
  }
  writer.check();
  writer.wait();
}

}  // namespace
}  // namespace gru4rec

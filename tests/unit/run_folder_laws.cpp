// Laws of a run's folders: one run at a time writes to them, and a run that died keeps nobody out.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstring>
#include <fstream>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "gru4rec/base/error.h"
#include "gru4rec/base/host_name.h"
#include "gru4rec/comm/communicator.h"
#include "gru4rec/train/run_folder.h"
#include "support/temporary_folder.h"

namespace gru4rec {
namespace {

using ::testing::AllOf;
using ::testing::Ge;
using ::testing::HasSubstr;
using ::testing::Le;
using testing::TemporaryFolder;
namespace fs = std::filesystem;

std::string refusal(const fs::path& run, const fs::path& checkpoints) {
  try {
    const RunFolder folder(run, checkpoints);
  } catch (const UserError& error) {
    return error.what();
  }
  return "no refusal";
}

TEST(RunFolder, TwoRunsNeverShareARunFolderOrAFolderOfCheckpoints) {
  const TemporaryFolder folder;
  {
    const RunFolder first(folder / "a", folder / "a/checkpoints");
    const std::string me = fmt::format("(host {}, pid {})", host_name(), getpid());
    EXPECT_THAT(refusal(folder / "a", folder / "elsewhere"),
                AllOf(HasSubstr("the run folder " + (folder / "a").string()), HasSubstr(me), HasSubstr("another run_dir")));
    EXPECT_THAT(refusal(folder / "b", folder / "a/checkpoints"),
                AllOf(HasSubstr("the folder of checkpoints " + (folder / "a/checkpoints").string()), HasSubstr(me),
                      HasSubstr("another checkpoint_dir")));
    EXPECT_EQ(refusal(folder / "b", folder / "b/checkpoints"), "no refusal");
  }
  EXPECT_EQ(refusal(folder / "a", folder / "a/checkpoints"), "no refusal") << "the first has ended";
  EXPECT_EQ(refusal(folder / "c", folder / "c"), "no refusal") << "one folder for both";
}

TEST(RunFolder, ALockGoesWithTheProcessThatIsKilled) {
  const TemporaryFolder folder;
  std::array<int, 2> ready{};
  ASSERT_EQ(pipe(ready.data()), 0);
  const pid_t child = fork();
  if (child == 0) {
    const RunFolder held(folder / "a", folder / "a/checkpoints");
    if (write(ready[1], "x", 1) == 1) pause();
    _exit(1);
  }
  close(ready[1]);
  char byte = 0;
  ASSERT_EQ(read(ready[0], &byte, 1), 1) << "the child has no lock";
  close(ready[0]);
  EXPECT_THAT(refusal(folder / "a", folder / "a/checkpoints"), HasSubstr(fmt::format("pid {})", child)));
  kill(child, SIGKILL);
  ASSERT_EQ(waitpid(child, nullptr, 0), child);
  EXPECT_EQ(refusal(folder / "a", folder / "a/checkpoints"), "no refusal");
}

// However many are written at once.
TEST(RunFolder, AStepHasTheTimeAtWhichItWasRecorded) {
  const TemporaryFolder folder;
  RunFolder run(folder / "a", folder / "a/checkpoints");
  run.record_step(1, 0.5, 0.1);
  std::this_thread::sleep_for(std::chrono::milliseconds(2));
  const double between = seconds_since_1970();
  run.record_step(2, 0.5, 0.1);
  run.flush_steps();
  std::ifstream in(fs::directory_iterator(folder / "a/tensorboard")->path(), std::ios::binary);
  std::vector<double> times;
  for (uint64_t length = 0; in.read(reinterpret_cast<char*>(&length), sizeof length);) {
    std::string rest(sizeof(uint32_t) + length + sizeof(uint32_t), '\0');
    in.read(rest.data(), static_cast<std::streamsize>(rest.size()));
    times.push_back(0);
    std::memcpy(&times.back(), rest.data() + sizeof(uint32_t) + 1,
                sizeof(double));  // its first field, behind the field's number
  }
  ASSERT_EQ(times.size(), 3u) << "the version and two steps";
  EXPECT_LT(times[1], between);
  EXPECT_GE(times[2], between);
}

TEST(RunFolder, OfManyStepsFewAreRecordedAndTheSameOnesAfterACut) {
  constexpr int64_t kSteps = 20'000;
  const TemporaryFolder folder;
  const auto recorded = [&](const fs::path& run) {
    std::multiset<int64_t> steps;
    EventFiles(run / "tensorboard").cut([&](int64_t step, const std::string& tag) {
      if (tag == "train/loss") steps.insert(step);
      return true;
    });
    return steps;
  };
  {
    RunFolder whole(folder / "a", folder / "a/checkpoints");
    for (int64_t step = 1; step <= kSteps; ++step) whole.record_step(step, 0.5, 0.1);
  }
  const std::multiset<int64_t> steps = recorded(folder / "a");
  for (int64_t step = 1; step <= 4096; ++step) EXPECT_TRUE(steps.contains(step)) << step;
  EXPECT_THAT(steps.size(), AllOf(Ge(8000u), Le(10'000u)));
  for (const auto& [first, last] : {std::pair<int64_t, int64_t>{1, 7777}, {3001, kSteps}}) {
    RunFolder part(folder / "b", folder / "b/checkpoints");
    part.cut_metrics_after(first - 1);
    for (int64_t step = first; step <= last; ++step) part.record_step(step, 0.5, 0.1);
  }
  EXPECT_EQ(recorded(folder / "b"), steps);
}

}  // namespace
}  // namespace gru4rec

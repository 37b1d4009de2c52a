// Laws of a command of several stages: what each is trained with, and what the command's options leave alone.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gru4rec/base/config.h"
#include "gru4rec/train/stages.h"

namespace gru4rec {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// Options of which none that a stage might change is at its default.
Options run_options() {
  Options options;
  options.dataset = "d";
  options.warmup_steps = 7;
  options.learning_rate_schedule = Schedule::cosine;
  options.recent_fraction = 0.5;
  options.eval_step = 5;
  options.init_from = "before";
  options.replicas = 3;
  options.checkpoint_dir = "elsewhere";
  options.resume = true;
  return resolve_paths(options);
}

std::vector<std::string> names(const std::vector<Stage>& stages) {
  std::vector<std::string> names;
  for (const Stage& stage : stages) names.push_back(stage.name);
  return names;
}

TEST(Stages, ARunByItselfIsOneWithTheOptionsAsTheyAre) {
  Options options = run_options();
  options.teacher = "runs/teacher";
  const std::vector<Stage> stages = stages_of(options);
  EXPECT_THAT(names(stages), ElementsAre("training"));
  EXPECT_EQ(stages[0].options, options);
  EXPECT_FALSE(stages[0].continues);
}

TEST(Stages, TeacherAutoTrainsABackwardModelFirstAndGivesItToTheRun) {
  Options options = run_options();
  options.teacher = "auto";
  const std::vector<Stage> stages = stages_of(options);
  EXPECT_THAT(names(stages), ElementsAre("teacher", "training"));
  EXPECT_THAT(differences(options, stages[0].options, false),
              ElementsAre("direction: forward → backward", "teacher: auto → \"\"", "run_dir: runs/d → runs/d/teacher",
                          "checkpoint_dir: elsewhere → runs/d/teacher/checkpoints", "init_from: before → \"\""));
  EXPECT_THAT(differences(options, stages[1].options, false), ElementsAre("teacher: auto → runs/d/teacher"));
  EXPECT_FALSE(stages[1].continues);
}

TEST(Stages, ATeacherOnAConstantTableTakesTheTableOfItsStudent) {
  Options options = run_options();
  options.teacher = "auto";
  options.freeze_item_embeddings = true;
  options.init_from = "runs/before";
  const Options teacher = stages_of(options).front().options;
  EXPECT_EQ(teacher.init_from, "");
  EXPECT_EQ(teacher.item_embeddings_from, "runs/before");
  options.freeze_item_embeddings = false;
  EXPECT_EQ(stages_of(options).front().options.item_embeddings_from, "");
}

TEST(Stages, AdaptFractionGoesOnFromTheRunWithTheMostRecentSessions) {
  Options options = run_options();
  options.adapt_fraction = 0.25;
  options.adapt_epochs = 4;
  options.adapt_learning_rate = 0.01;
  const std::vector<Stage> stages = stages_of(options);
  EXPECT_THAT(names(stages), ElementsAre("training", "adaptation"));
  EXPECT_EQ(stages[0].options, run_options());
  EXPECT_TRUE(stages[1].continues);
  EXPECT_THAT(differences(stages[0].options, stages[1].options, false),
              ElementsAre("recent_fraction: 0.5 → 0.25", "learning_rate: 0.001 → 0.01", "warmup_steps: 7 → 0",
                          "epochs: 300 → 4", "eval_step: 5 → 4", "run_dir: runs/d → runs/d/adapted",
                          "checkpoint_dir: elsewhere → runs/d/adapted/checkpoints", "init_from: before → \"\""));
}

TEST(Stages, AnAdaptationIsEvaluatedAtLeastOnceUnlessTheRunIsNever) {
  Options options = run_options();
  options.adapt_fraction = 0.25;
  options.adapt_epochs = 4;
  for (const auto& [of_run, wanted] : std::vector<std::pair<int64_t, int64_t>>{{0, 0}, {1, 1}, {4, 4}, {9, 4}}) {
    options.eval_step = of_run;
    EXPECT_EQ(stages_of(options)[1].options.eval_step, wanted) << of_run;
  }
}

TEST(Stages, AnAdaptedStudentKeepsItsTeacher) {
  Options options = run_options();
  options.teacher = "auto";
  options.adapt_fraction = 0.25;
  const std::vector<Stage> stages = stages_of(options);
  EXPECT_THAT(names(stages), ElementsAre("teacher", "training", "adaptation"));
  EXPECT_EQ(stages[1].options.teacher, "runs/d/teacher");
  EXPECT_EQ(stages[2].options.teacher, "runs/d/teacher");
  EXPECT_EQ(stages[0].options.recent_fraction, 0.5) << "the teacher learns from what the run does";
}

TEST(Stages, AreCommandsOfOneStageThemselves) {
  Options options = run_options();
  options.teacher = "auto";
  options.adapt_fraction = 0.25;
  for (const Stage& stage : stages_of(options)) {
    const std::vector<Stage> again = stages_of(stage.options);
    ASSERT_EQ(again.size(), 1u) << stage.name;
    EXPECT_THAT(differences(stage.options, again[0].options, false), IsEmpty()) << stage.name;
  }
}

}  // namespace
}  // namespace gru4rec

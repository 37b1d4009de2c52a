// Laws of what a run says about its ranks before the first step.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gru4rec/train/core_to_spare.h"
#include "world.h"

namespace gru4rec {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Of each rank its host, and the cores it may use.
struct World {
  World(std::initializer_list<std::pair<std::string, std::vector<int>>> ranks) {
    for (const auto& [host, own] : ranks) {
      infos.push_back({.host = host});
      cores.push_back({});
      for (int core : own) CPU_SET(core, &cores.back());
    }
  }
  std::vector<RankInfo> infos;
  std::vector<cpu_set_t> cores;
};

// The sentences about ranks of `threads` threads.
std::vector<std::string> crowded(int threads, const World& world) { return crowded_hosts(world.infos, world.cores, threads); }

bool spare(int rank, int threads, const World& world) { return core_to_spare(world.infos, world.cores, rank, threads); }

TEST(CrowdedHosts, HaveMoreThreadsThanCoresTogetherOrInOneRank) {
  EXPECT_THAT(crowded(2, {{"a", {0, 1}}}), IsEmpty());
  EXPECT_THAT(crowded(1, {{"a", {0, 1}}, {"a", {0, 1}}}), IsEmpty());
  EXPECT_THAT(crowded(2, {{"a", {0, 1}}, {"b", {0, 1}}}), IsEmpty()) << "cores of two hosts";
  EXPECT_THAT(crowded(2, {{"a", {}}, {"a", {}}}), IsEmpty()) << "nobody knows";
  EXPECT_THAT(crowded(1, {{"a", {0, 1}}, {"a", {0, 1}}, {"a", {0, 1}}}),
              ElementsAre(AllOf(HasSubstr("host a: 3 rank(s) with 3 thread(s)"), HasSubstr("2 core(s)"))));
  EXPECT_THAT(crowded(2, {{"a", {0}}, {"a", {900}}}), ElementsAre(HasSubstr("4 thread(s) in all may use 2")));
  EXPECT_THAT(crowded(2, {{"b", {0, 1, 2, 3}}, {"a", {0}}, {"b", {0}}}),
              ElementsAre(HasSubstr("host b: a rank has more threads"), HasSubstr("host a: 1 rank(s) with 2")));
}

TEST(CoreToSpare, IsOneThatNoThreadOfTheHostComputesOn) {
  EXPECT_TRUE(spare(0, 1, {{"a", {0, 1}}}));
  EXPECT_FALSE(spare(0, 2, {{"a", {0, 1}}}));
  EXPECT_TRUE(spare(0, 2, {{"a", {0, 1, 2}}}));
  EXPECT_FALSE(spare(0, 1, {{"a", {0}}})) << "bound to one core";
  EXPECT_FALSE(spare(1, 2, {{"a", {0, 1, 2, 3}}, {"a", {4, 5}}})) << "bound to as many cores as it has threads";
  EXPECT_FALSE(spare(0, 1, {{"a", {}}})) << "nobody knows";
  EXPECT_FALSE(spare(0, 1, {{"a", {0, 1}}, {"a", {0, 1}}})) << "the other rank computes there";
  EXPECT_FALSE(spare(0, 1, {{"a", {0, 1, 2}}, {"a", {0, 1, 2}}})) << "one is not enough for both";
  EXPECT_TRUE(spare(1, 1, {{"a", {0, 1, 2, 3}}, {"a", {0, 1, 2, 3}}}));
  EXPECT_TRUE(spare(0, 1, {{"a", {0, 1}}, {"a", {2, 3}}}));
  EXPECT_FALSE(spare(1, 1, {{"a", {0, 1, 2}}, {"a", {3}}})) << "bound to one core";
  EXPECT_TRUE(spare(1, 1, {{"a", {0}}, {"b", {0, 1}}})) << "another host";
  EXPECT_TRUE(spare(0, 1, {{"a", {0, 1}}, {"a", {2}}})) << "a core that the other may not use";
  EXPECT_FALSE(spare(0, 1, {{"a", {0, 1}}, {"a", {0, 1}}, {"a", {2, 3, 4, 5}}})) << "free cores that it may not use";
  EXPECT_TRUE(spare(2, 1, {{"a", {0, 1}}, {"a", {0, 1}}, {"a", {2, 3, 4, 5}}}));
}

}  // namespace
}  // namespace gru4rec

// Laws of what a run says about its ranks before the first step.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "world.h"

namespace gru4rec {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// The sentences about ranks of `threads` threads; of each rank its host, and the cores it may use.
std::vector<std::string> crowded(int threads, const std::vector<std::pair<std::string, std::vector<int>>>& ranks) {
  std::vector<RankInfo> infos;
  std::vector<cpu_set_t> cores;
  for (const auto& [host, own] : ranks) {
    infos.push_back({.host = host});
    cores.push_back({});
    for (int core : own) CPU_SET(core, &cores.back());
  }
  return crowded_hosts(infos, cores, threads);
}

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

}  // namespace
}  // namespace gru4rec

// Laws of what a run says about its ranks before the first step.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "startup.h"

namespace gru4rec {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

RankThreads on_cores(int32_t threads, const std::vector<int>& cores) {
  RankThreads own{threads, {}};
  for (int core : cores) CPU_SET(core, &own.cores);
  return own;
}

TEST(CrowdedHosts, HaveMoreThreadsThanCoresTogetherOrInOneRank) {
  const auto crowded = [](const std::vector<std::string>& hosts, const std::vector<RankThreads>& threads) {
    std::vector<RankInfo> ranks;
    for (const std::string& host : hosts) ranks.push_back({.host = host});
    return crowded_hosts(ranks, threads);
  };
  EXPECT_THAT(crowded({"a"}, {on_cores(2, {0, 1})}), IsEmpty());
  EXPECT_THAT(crowded({"a", "a"}, {on_cores(1, {0, 1}), on_cores(1, {0, 1})}), IsEmpty());
  EXPECT_THAT(crowded({"a", "b"}, {on_cores(2, {0, 1}), on_cores(2, {0, 1})}), IsEmpty()) << "cores of two hosts";
  EXPECT_THAT(crowded({"a", "a"}, {on_cores(1, {0, 1}), on_cores(2, {0, 1})}),
              ElementsAre(AllOf(HasSubstr("host a: 2 rank(s) with 3 thread(s)"), HasSubstr("2 core(s)"))));
  EXPECT_THAT(crowded({"a", "a"}, {on_cores(2, {0}), on_cores(2, {900})}),
              ElementsAre(HasSubstr("4 thread(s) in all may use 2")));
  EXPECT_THAT(crowded({"b", "a", "b"}, {on_cores(1, {0, 1, 2}), on_cores(4, {0}), on_cores(2, {0})}),
              ElementsAre(HasSubstr("host b: a rank has more threads"), HasSubstr("host a: 1 rank(s) with 4")));
}

}  // namespace
}  // namespace gru4rec

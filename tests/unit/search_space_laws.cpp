// Laws of the space of options that a tuning searches: the format is RecBole's, what is drawn depends on nothing but the seed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <set>

#include "gru4rec/base/error.h"
#include "gru4rec/base/search_space.h"
#include "support/folders.h"
#include "support/temporary_folder.h"

namespace gru4rec {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class SearchSpaceLaws : public ::testing::Test {
 protected:
  SearchSpace read(const std::string& text) {
    std::ofstream(folder_ / "space") << text;
    return SearchSpace::read(folder_ / "space");
  }
  std::string error_of(const std::string& text) {
    try {
      read(text);
    } catch (const UserError& error) {
      return error.what();
    }
    return "";
  }
  testing::TemporaryFolder folder_;
};

std::vector<std::string> texts(const std::vector<SearchPoint>& points) {
  std::vector<std::string> texts;
  for (const SearchPoint& point : points) {
    texts.emplace_back();
    for (const Override& value : point) texts.back() += value.key + "=" + value.value + " ";
  }
  return texts;
}

TEST_F(SearchSpaceLaws, EveryCombinationComesOnceTheLastKeyFastest) {
  const SearchSpace space = read("# two\na choice [1, 2]  # of them\n\nb choice ['x',\"y z\",[3,4]]\n");
  EXPECT_TRUE(space.finite());
  EXPECT_EQ(texts(space.every()),
            (std::vector<std::string>{"a=1 b=x ", "a=1 b=y z ", "a=1 b=[3, 4] ", "a=2 b=x ", "a=2 b=y z ", "a=2 b=[3, 4] "}));
}

TEST_F(SearchSpaceLaws, RecBolesExampleHasNinetyPoints) {
  const SearchSpace space = SearchSpace::read(testing::source_folder() / "configs/hyper.test");
  EXPECT_EQ(space.keys(), (std::vector<std::string>{"learning_rate", "dropout_prob", "num_layers", "hidden_size"}));
  EXPECT_EQ(space.every().size(), 90U);
}

TEST_F(SearchSpaceLaws, DrawnValuesKeepToTheirRange) {
  const SearchSpace space = read("a uniform 2,3\nb quniform 10,50,20\nc loguniform -4,-2\nd choice [7,8]\n");
  EXPECT_FALSE(space.finite());
  const std::vector<SearchPoint> points = space.random(400, 5);
  ASSERT_EQ(points.size(), 400U);
  double sum_a = 0, sum_c = 0;
  std::set<std::string> b, d;
  for (const SearchPoint& point : points) {
    const double a = std::stod(point[0].value), c = std::log(std::stod(point[2].value));
    EXPECT_TRUE(a >= 2 && a <= 3 && c >= -4 && c <= -2) << a << ", " << c;
    sum_a += a, sum_c += c;
    b.insert(point[1].value), d.insert(point[3].value);
  }
  EXPECT_NEAR(sum_a / 400, 2.5, 0.06);  // four standard errors of a mean of uniform numbers
  EXPECT_NEAR(sum_c / 400, -3, 0.12);
  EXPECT_EQ(b, (std::set<std::string>{"20", "40"}));  // multiples of the step
  EXPECT_EQ(d, (std::set<std::string>{"7", "8"}));
}

TEST_F(SearchSpaceLaws, APointDependsOnTheSeedAndNotOnHowManyThereAre) {
  const SearchSpace space = read("a uniform 0,1\nb choice [1,2,3,4]\n");
  const std::vector<std::string> few = texts(space.random(5, 1)), many = texts(space.random(50, 1));
  EXPECT_TRUE(std::equal(few.begin(), few.end(), many.begin()));
  EXPECT_NE(few, texts(space.random(5, 2)));
}

TEST_F(SearchSpaceLaws, AFiniteSpaceIsDrawnWithoutRepetitionUntilItEnds) {
  const std::vector<std::string> points = texts(read("a choice [1,2,3]\nb choice [1,2]\n").random(10, 1));
  EXPECT_EQ(points.size(), 6U);
  EXPECT_EQ(std::set<std::string>(points.begin(), points.end()).size(), 6U);
}

TEST_F(SearchSpaceLaws, MistakesAreNamedWithTheirLine) {
  EXPECT_THAT(error_of("a choice [1]\nb choise [1]\n"),
              AllOf(HasSubstr("space:2: got 'choise' for b"), HasSubstr("mean 'choice'")));
  EXPECT_THAT(error_of("a choice\n"), HasSubstr("space:1: got 'a choice', wanted KEY KIND VALUES"));
  EXPECT_THAT(error_of("a choice 3\n"), HasSubstr("got 3 to choose from for a, wanted a list"));
  EXPECT_THAT(error_of("a choice []\n"), HasSubstr("wanted a list"));
  EXPECT_THAT(error_of("a uniform 1\n"), HasSubstr("got '1' for uniform, wanted low,high"));
  EXPECT_THAT(error_of("a uniform 2,1\n"), HasSubstr("got '2,1' for uniform"));
  EXPECT_THAT(error_of("a uniform 1,x\n"), HasSubstr("got '1,x' for uniform"));
  EXPECT_THAT(error_of("a quniform 1,2,0\n"), HasSubstr("got a step of 0 for a"));
  EXPECT_THAT(error_of("a choice [1]\na choice [2]\n"), HasSubstr("space:2: a is there twice"));
  EXPECT_THAT(error_of("# nothing\n"), HasSubstr("names no option to try"));
  EXPECT_THROW(SearchSpace::read(folder_ / "none"), UserError);
}

}  // namespace
}  // namespace gru4rec

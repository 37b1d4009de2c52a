// Laws of a set of table rows.
#include <gtest/gtest.h>

#include "gru4rec/base/error.h"
#include "gru4rec/data/row_set.h"

namespace gru4rec {
namespace {

std::vector<int64_t> ids_of(const RowSet& rows) { return {rows.ids().begin(), rows.ids().end()}; }

TEST(RowSet, HoldsEachRowOnceInRisingOrderAndKnowsItsPlace) {
  RowSet rows(23);
  for (int round = 0; round < 2; ++round) {  // used again
    rows.clear();
    EXPECT_EQ(rows.size(), 0);
    const std::vector<int64_t> first = round ? std::vector<int64_t>{22, 0} : std::vector<int64_t>{7, 3, 7, 22, 3};
    rows.add(first);
    rows.add(11);
    rows.add(std::vector<int64_t>{22});
    rows.close();
    EXPECT_EQ(ids_of(rows), round ? (std::vector<int64_t>{0, 11, 22}) : (std::vector<int64_t>{3, 7, 11, 22}));
    for (int64_t place = 0; place < rows.size(); ++place) EXPECT_EQ(rows.place_of(ids_of(rows)[place]), place);
  }
  EXPECT_THROW(rows.place_of(3), BugError);  // of the round before
}

TEST(RowSet, KnowsThePlaceOfTheFirstRowFromAnyIdOn) {
  RowSet rows(9);
  rows.add(std::vector<int64_t>{6, 2, 3});
  rows.close();
  std::vector<int64_t> places;
  for (int64_t id = 0; id <= 9; ++id) places.push_back(rows.first_place_from(id));
  EXPECT_EQ(places, (std::vector<int64_t>{0, 0, 0, 1, 2, 2, 2, 3, 3, 3}));
}

TEST(RowSet, IsTheSameWhoeverNamesItsRowsFirst) {
  RowSet one(9), other(9);
  one.add(std::vector<int64_t>{8, 1, 4});
  other.add(std::vector<int64_t>{4});
  other.add(std::vector<int64_t>{1, 8, 4});
  one.close();
  other.close();
  EXPECT_EQ(ids_of(one), ids_of(other));
}

TEST(RowSet, HoldsWhatTheMarksOfOthersHold) {
  RowSet one(200), other(200);
  one.add(std::vector<int64_t>{70, 3});
  one.close();  // and again below
  other.add(std::vector<int64_t>{199, 3, 64, 63, 128});
  one.add_marks(other.marks());
  one.add(5);
  one.close();
  EXPECT_EQ(ids_of(one), (std::vector<int64_t>{3, 5, 63, 64, 70, 128, 199}));
  for (int64_t place = 0; place < one.size(); ++place) EXPECT_EQ(one.place_of(ids_of(one)[place]), place);
  one.clear();
  one.close();
  EXPECT_EQ(one.size(), 0);
  EXPECT_THROW(one.place_of(70), BugError);
  EXPECT_THROW(RowSet(300).add_marks(one.marks()), BugError);
}

TEST(RowSet, RefusesRowsThatAreNotThere) {
  RowSet rows(5);
  EXPECT_THROW(rows.add(5), BugError);
  EXPECT_THROW(rows.add(-1), BugError);
  rows.add(4);
  EXPECT_THROW(rows.place_of(4), BugError);  // it has no place yet
  rows.close();
  EXPECT_EQ(rows.place_of(4), 0);
  for (const int64_t id : {-1, 0, 3, 5}) EXPECT_THROW(rows.place_of(id), BugError);
}

}  // namespace
}  // namespace gru4rec

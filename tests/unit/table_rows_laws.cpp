// Laws of rows by their ids and of views: what they read and add is what LibTorch's own operations do, and a view is the memory
// it is of.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "gru4rec/base/error.h"
#include "gru4rec/model/device.h"
#include "gru4rec/model/row_kernels.h"
#include "gru4rec/model/table_rows.h"
#include "gru4rec/model/tensor_views.h"
#include "support/uniform_values.h"

namespace gru4rec {
namespace {

using at::Tensor;

Tensor uniform(at::IntArrayRef shape, uint64_t key) {
  return at::tensor(testing::uniform_values(c10::multiply_integers(shape), 1, key)).view(shape);
}

// More rows than are asked for ahead, and few.
class RowsOfIds : public ::testing::TestWithParam<int64_t> {
 protected:
  const Tensor table = uniform({6, 19}, 1), factors = uniform({GetParam(), 19}, 2), rows = uniform({GetParam(), 19}, 3);
  const Tensor ids = at::arange(GetParam()).mul(5).remainder(6);  // each several times
};
INSTANTIATE_TEST_SUITE_P(Count, RowsOfIds, ::testing::Values(0, 1, 3, 40));

TEST_P(RowsOfIds, AreTheRowsTimesTheirFactors) {
  const Tensor expected = table.index_select(0, ids);
  EXPECT_TRUE(at::equal(rows_of_ids(table, ids), expected));
  EXPECT_TRUE(at::equal(rows_of_ids(table, ids, factors), expected * factors));
  const TensorKernelsScope by_tensors;
  EXPECT_TRUE(at::equal(rows_of_ids(table, ids), expected));
  EXPECT_TRUE(at::equal(rows_of_ids(table, ids, factors), expected * factors));
}

TEST_P(RowsOfIds, AreAddedOneAfterTheOther) {
  for (const Tensor& times : {Tensor(), factors}) {
    Tensor expected = table.clone();
    for (int64_t i = 0; i < ids.size(0); ++i)
      expected[ids[i].item<int64_t>()] += times.defined() ? rows[i] * times[i] : rows[i];
    Tensor got = table.clone();
    add_rows(rows, ids, got, times);
    EXPECT_TRUE(at::equal(got, expected));
    Tensor by_tensors = table.clone();
    const TensorKernelsScope scope;
    add_rows(rows, ids, by_tensors, times);
    EXPECT_TRUE(at::allclose(by_tensors, expected, 1e-5, 1e-6));
  }
}

TEST(TableRows, AreThoseOfTheTable) {
  Tensor table = uniform({6, 3}, 1);
  for (const int64_t id : {int64_t{-1}, int64_t{6}}) {
    EXPECT_THROW(rows_of_ids(table, at::tensor({int64_t{2}, id})), BugError);
    EXPECT_THROW(add_rows(uniform({2, 3}, 2), at::tensor({int64_t{2}, id}), table), BugError);
  }
  EXPECT_THROW(add_to(table, uniform({5, 3}, 2)), BugError);
  EXPECT_THROW(add_to(table, uniform({3, 6}, 2).t()), BugError);
}

TEST(Views, AreTheMemoryTheyAreOf) {
  Tensor memory = uniform({5, 4}, 1);
  const Tensor whole = memory.clone();
  EXPECT_TRUE(at::equal(rows_at(memory, 1, 3), whole.narrow(0, 1, 3)));
  EXPECT_TRUE(at::equal(rows_at(whole.select(0, 2), 1, 2), whole.select(0, 2).narrow(0, 1, 2)));  // one that is a view itself
  const Tensor view = view_at(memory, 6, {2, 3});
  EXPECT_TRUE(at::equal(view, whole.view({20}).narrow(0, 6, 6).view({2, 3})));
  view.fill_(7);
  EXPECT_TRUE(at::equal(memory.view({20}).narrow(0, 6, 6), at::full({6}, 7.0f)));
  EXPECT_EQ(memory[0][0].item<float>(), whole[0][0].item<float>());
  EXPECT_EQ(rows_at(memory, 5, 0).size(0), 0);
  memory.reset();
  EXPECT_EQ(view.sum().item<float>(), 42.0f);  // holds it
}

TEST(Views, EndWhereTheirMemoryEnds) {
  const Tensor memory = uniform({5, 4}, 1);
  EXPECT_THROW(rows_at(memory, 3, 3), BugError);
  EXPECT_THROW(view_at(memory, -1, {2}), BugError);
  EXPECT_THROW(view_at(memory.t(), 0, {2}), BugError);
}

}  // namespace
}  // namespace gru4rec

// The same weights give RecBole's scores, for prefixes of every length from 1 to 50. Fixtures: tests/golden/README.md.
#include "fixture.h"
#include "support/temporary_folder.h"

namespace gru4rec {
namespace {

using testing::FixtureFile;
using testing::SampleStore;

class Scores : public ::testing::TestWithParam<std::string> {};

double largest_difference(const at::Tensor& a, const at::Tensor& b) { return (a - b).abs().max().item<double>(); }

TEST_P(Scores, OfFiftyPrefixesAreRecBolesToFiveDecimals) {
  const std::string group = GetParam();
  const FixtureFile fixture("scores.h5");
  const Gru4Rec model(fixture.shape(group));
  fixture.load(group + "/parameters", model);

  const auto prefixes = fixture.lists(group);
  ASSERT_EQ(prefixes.size(), 50u);
  const testing::TemporaryFolder folder;
  SampleStore samples(folder / "store", prefixes, std::vector<int64_t>(50, 1), model.shape().catalogue);
  const Batch batch = samples.batch(0, 50);
  ASSERT_EQ(batch.step_sizes.size(), 50u) << "steps of the longest prefix";

  // Targets come in the order of their rows; `sessions` says which prefix each one belongs to.
  const at::Tensor order = at::tensor(std::vector<int64_t>(batch.sessions.begin(), batch.sessions.end()));
  const at::Tensor queries = model.queries(batch);
  const at::Tensor scores = queries.matmul(model.parameter("item_embedding.weight").t());
  const auto wanted = [&](const char* name, int64_t columns) {
    return fixture.tensor(group + "/" + name, {50, columns}).index_select(0, order);
  };
  EXPECT_LT(largest_difference(queries, wanted("encoding", model.shape().embedding_size)), 1e-5);
  EXPECT_LT(largest_difference(scores, wanted("scores", model.shape().table_rows())), 1e-5);
}

INSTANTIATE_TEST_SUITE_P(Models, Scores, ::testing::Values("small", "two_layers", "default_sizes"),
                         [](const auto& model) { return model.param; });

}  // namespace
}  // namespace gru4rec

// Laws of exports: a model in another format is the same model.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/jit/serialization/import.h>
#include <torch/csrc/jit/serialization/pickle.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <limits>

#include "gru4rec/base/error.h"
#include "gru4rec/base/hdf5.h"
#include "gru4rec/base/hdf5_texts.h"
#include "gru4rec/serve/exports.h"
#include "gru4rec/serve/recommender.h"
#include "gru4rec/train/recbole_state.h"
#include "support/hostile.h"
#include "support/served_example.h"
#include "support/temporary_folder.h"

namespace gru4rec {
namespace {

using ::testing::HasSubstr;
using testing::served_example;
using testing::session_example;
using testing::TemporaryFolder;

ModelShape shape(bool cosine = false, int64_t layers = 1, bool dense = true, bool learned = false) {
  ModelShape shape;
  shape.catalogue = 523;
  shape.embedding_size = dense ? 6 : 7;
  shape.hidden_size = 7;
  shape.num_layers = layers;
  shape.dense_layer = dense;
  shape.cosine = cosine;
  shape.learn_score_scale = learned;
  return shape;
}

constexpr int64_t kMaxInputs = 12;

// What the model sees of a session: unknown items in its last ones take their place.
std::vector<int64_t> seen(std::vector<int64_t> items) {
  if (items.size() > kMaxInputs) items.erase(items.begin(), items.end() - kMaxInputs);
  std::erase(items, 0);
  return items;
}

std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const UserError& error) {
    return error.what();
  }
  return "accepted";
}

class TorchScript : public ::testing::Test {
 protected:
  torch::jit::Module exported(const ServedModel& served) const {
    export_torchscript(served, folder_ / "model.pt");
    return torch::jit::load((folder_ / "model.pt").string());
  }
  TemporaryFolder folder_;
};

class TorchScriptOf : public TorchScript, public ::testing::WithParamInterface<ModelShape> {};

// The original ids and scores of an answer to `recommend`.
struct NamedList {
  std::vector<std::string> names;
  std::vector<double> scores;
};
NamedList named(const c10::IValue& answer) {
  const auto& pair = answer.toTupleRef().elements();
  NamedList list;
  for (const auto& name : pair[0].toListRef()) list.names.push_back(name.toStringRef());
  for (const double score : pair[1].toDoubleVector()) list.scores.push_back(score);
  return list;
}

TEST_P(TorchScriptOf, RecommendsToAThousandSessionsWhatWeDo) {
  const ServedModel served = served_example(GetParam(), kMaxInputs);
  torch::jit::Module module = exported(served);
  const Recommender recommender(*served.model);
  c10::List<c10::List<std::string>> sessions;
  std::vector<SessionQuery> queries;
  for (uint64_t s = 0; s < 1000; ++s) {
    const std::vector<int64_t> items = session_example(s, 523);
    queries.push_back({seen(items), items, 20});  // nothing that was seen again
    const std::vector<std::string> names = testing::names_of(items, served.catalogue());
    sessions.push_back(c10::List<std::string>(c10::ArrayRef<std::string>(names)));
  }
  const auto answers = module.get_method("recommend")({sessions, 20, true}).toList();
  ASSERT_EQ(answers.size(), queries.size());
  const auto name_of = [&](const ScoredItem& item) { return served.catalogue().item_names[item.item - 1]; };
  size_t equal = 0;
  for (size_t s = 0; s < queries.size(); ++s) {
    const NamedList list = named(answers.get(s));
    if (queries[s].items.empty()) {
      EXPECT_TRUE(list.names.empty()) << "session " << s;
      continue;
    }
    const std::vector<ScoredItem> wanted = recommender.recommend(std::span(&queries[s], 1)).front();
    ASSERT_EQ(list.names.size(), wanted.size());
    for (size_t i = 0; i < wanted.size(); ++i) {
      ASSERT_NEAR(list.scores[i], wanted[i].score, 1e-5) << "session " << s << ", place " << i;
      const auto same = std::ranges::find_if(wanted, [&](const ScoredItem& item) { return name_of(item) == list.names[i]; });
      // Rounding may swap items whose scores are as good as equal, the last one with the first that is not in the list.
      const float score = same == wanted.end() ? wanted.back().score : same->score;
      ASSERT_NEAR(score, wanted[i].score, 1e-5) << "session " << s << ", place " << i;
      equal += list.names[i] == name_of(wanted[i]);
    }
  }
  EXPECT_GT(equal, 19000u) << "places of 20,000";
}

INSTANTIATE_TEST_SUITE_P(Shapes, TorchScriptOf,
                         ::testing::Values(shape(), shape(true), shape(true, 1, true, true), shape(false, 2),
                                           shape(false, 1, false)));

TEST_F(TorchScript, TakesEqualScoresByIdAsWeDo) {
  const ServedModel served = served_example(shape());
  testing::make_scores_equal(*served.model);
  torch::jit::Module module = exported(served);
  for (const int64_t k : {1, 7, 100, 523, 600}) {
    const SessionQuery query{{1, 2}, {1, 2}, k};
    const std::vector<ScoredItem> wanted = Recommender(*served.model).recommend(std::span(&query, 1)).front();
    const auto answer = module.forward({at::tensor({0, 1, 0, 2, 0}, at::kLong).view({1, 5}), k, true});
    const at::Tensor ids = answer.toTupleRef().elements()[0].toTensor()[0];
    const at::Tensor scores = answer.toTupleRef().elements()[1].toTensor()[0];
    ASSERT_EQ(ids.size(0), std::min<int64_t>(k, 524));
    for (int64_t i = 0; i < ids.size(0); ++i) {
      const bool none_left = i >= static_cast<int64_t>(wanted.size());
      ASSERT_EQ(ids[i].item<int64_t>(), none_left ? 0 : wanted[i].item) << "k " << k << ", place " << i;
      ASSERT_EQ(scores[i].item<float>(), none_left ? -std::numeric_limits<float>::infinity() : wanted[i].score);
    }
  }
}

TEST_F(TorchScript, ExcludesWhatItIsToldTo) {
  const ServedModel served = served_example(shape());
  torch::jit::Module module = exported(served);
  const auto& names = served.catalogue().item_names;
  c10::List<c10::List<std::string>> sessions;
  sessions.push_back(c10::List<std::string>({names[3], names[4]}));
  const auto all = named(module.get_method("recommend")({sessions, 3}).toList().get(0));
  c10::List<std::string> excluded({all.names[0], "unknown", all.names[2]});
  const auto rest = named(module.get_method("recommend")({sessions, 3, false, excluded}).toList().get(0));
  EXPECT_EQ(rest.names[0], all.names[1]);
  EXPECT_EQ(std::ranges::find(rest.names, all.names[0]), rest.names.end());
  EXPECT_EQ(std::ranges::find(rest.names, all.names[2]), rest.names.end());
}

TEST(Vectors, AreThoseOfTheTableBesideTheirIds) {
  const TemporaryFolder folder;
  const ServedModel served = served_example(shape());
  const std::span<const float> table =
      served.model->parameters().subspan(static_cast<size_t>(served.model->layout().table().offset) + 6, 523 * 6);
  export_hdf5(served, folder / "items.h5");
  const Hdf5File file = Hdf5File::open(folder / "items.h5");
  EXPECT_EQ(read_texts(file, "/item_names", "/item_name_offsets"), served.catalogue().item_names);
  EXPECT_EQ(file.array("/item_embeddings").dims, (std::vector<uint64_t>{523, 6}));
  EXPECT_EQ(file.read<float>("/item_embeddings"), std::vector<float>(table.begin(), table.end()));

  export_numpy(served, folder / "items.npy");
  EXPECT_EQ(read_item_ids(folder / "items.ids.json"), served.catalogue().item_names);
  const std::string npy = testing::read_whole(folder / "items.npy");
  ASSERT_EQ(npy.size(), 128 + table.size_bytes());
  EXPECT_THAT(npy.substr(0, 128), HasSubstr("{'descr': '<f4', 'fortran_order': False, 'shape': (523, 6), }"));
  EXPECT_EQ(std::memcmp(npy.data() + 128, table.data(), table.size_bytes()), 0);
}

// RecBole's order: backwards, after the padding row.
std::vector<std::string> backwards(const ServedModel& served) {
  std::vector<std::string> order = {kPaddingName};
  order.insert(order.end(), served.catalogue().item_names.rbegin(), served.catalogue().item_names.rend());
  return order;
}

TEST(RecBoleState, ComesBackAsItWasInWhateverOrder) {
  const TemporaryFolder folder;
  for (const ModelShape& with : {shape(), shape(false, 3)}) {
    const ServedModel served = served_example(with);
    save_recbole_state(folder / "a.pth", *served.model, served.catalogue().item_names, backwards(served));
    EXPECT_EQ(read_item_ids(folder / "a.ids.json"), backwards(served));
    Gru4Rec other(with);
    load_recbole_state(folder / "a.pth", other, served.catalogue().item_names, false);
    EXPECT_TRUE(std::ranges::equal(other.parameters(), served.model->parameters()));

    Gru4Rec table_only(with);
    load_recbole_state(folder / "a.pth", table_only, served.catalogue().item_names, true);
    for (const ParameterInfo& info : other.layout().parameters())
      EXPECT_EQ(table_only.parameter(info.name).equal(other.parameter(info.name)), info.name == other.layout().table().name);
  }
}

TEST(RecBoleState, HasItsRowsInTheOrderAskedFor) {
  const TemporaryFolder folder;
  const ServedModel served = served_example(shape());
  save_recbole_state(folder / "a.pth", *served.model, served.catalogue().item_names, backwards(served));
  const std::string bytes = testing::read_whole(folder / "a.pth");
  const auto state = torch::jit::pickle_load({bytes.begin(), bytes.end()}).toGenericDict();
  const at::Tensor table = state.at("item_embedding.weight").toTensor();
  const at::Tensor ours = served.model->parameter("item_embedding.weight");
  EXPECT_TRUE(table[0].equal(ours[0]));
  for (int64_t row = 1; row <= 523; ++row) ASSERT_TRUE(table[row].equal(ours[524 - row]));
}

TEST(RecBoleState, WithoutADenseLayerHasOneThatChangesNothing) {
  const TemporaryFolder folder;
  const ServedModel served = served_example(shape(false, 1, false));
  save_recbole_state(folder / "a.pth", *served.model, served.catalogue().item_names, backwards(served));
  ModelShape with = shape();
  with.embedding_size = 7;
  Gru4Rec dense(with);
  load_recbole_state(folder / "a.pth", dense, served.catalogue().item_names, false);
  for (uint64_t s = 0; s < 20; ++s) {
    SessionQuery query{seen(session_example(s, 523)), {}, 523};
    if (query.items.empty()) continue;
    EXPECT_EQ(Recommender(dense).recommend(std::span(&query, 1)), Recommender(*served.model).recommend(std::span(&query, 1)));
  }
}

TEST(RecBoleState, IsRefusedWhereItDoesNotFit) {
  const TemporaryFolder folder;
  const ServedModel served = served_example(shape());
  const auto& names = served.catalogue().item_names;
  const auto path = folder / "a.pth";
  const std::vector<std::string> order = backwards(served);
  const auto save = [&](std::vector<std::string> wrong) {
    return message_of([&] { save_recbole_state(path, *served.model, names, wrong); });
  };
  const ServedModel cosine = served_example(shape(true));
  EXPECT_THAT(message_of([&] { save_recbole_state(path, *cosine.model, names, order); }), HasSubstr("its scores are cosines"));
  EXPECT_THAT(save({kPaddingName, "x"}), HasSubstr("has 2 ids, wanted 523 and [PAD]"));
  std::vector<std::string> wrong = order;
  wrong[5] = "x";
  EXPECT_THAT(save(wrong), HasSubstr("lacks the item"));
  wrong[5] = wrong[6];
  EXPECT_THAT(save(wrong), HasSubstr("twice"));
  wrong = order;
  std::swap(wrong[0], wrong[1]);
  EXPECT_THAT(save(wrong), HasSubstr("wanted [PAD]"));
  EXPECT_FALSE(std::filesystem::exists(path));

  save_recbole_state(path, *served.model, names, order);
  const auto load = [&](const ModelShape& into) {
    Gru4Rec model(into);
    const std::string message = message_of([&] { load_recbole_state(path, model, names, false); });
    const std::vector<float> untouched(model.parameters().size());
    EXPECT_TRUE(message == "accepted" || std::ranges::equal(model.parameters(), untouched)) << "refused, but used";
    return message;
  };
  ModelShape other = shape();
  other.hidden_size = 8;
  EXPECT_THAT(load(other), HasSubstr("gru_layers.weight_ih_l0 of shape [21, 6], wanted [24, 6]"));
  EXPECT_THAT(load(shape(false, 2)), HasSubstr("has no gru_layers.weight_ih_l1; it has dense.bias, "));
  other = shape(false, 1, false);
  other.embedding_size = other.hidden_size = 6;
  EXPECT_THAT(load(other), HasSubstr("[21, 6], wanted [18, 6]"));
  testing::write_whole(item_ids_beside(path), R"({"a": 1})");
  EXPECT_THAT(load(shape()), HasSubstr("is no JSON list of item ids"));
  wrong = order;
  wrong.pop_back();
  write_item_ids(item_ids_beside(path), wrong);
  EXPECT_THAT(load(shape()), HasSubstr("[524, 6], wanted [523, 6]"));
  for (const std::string& text : {std::string(), std::string("PK\x03\x04 damaged"), std::string(1000, 'x')}) {
    testing::write_whole(path, text);
    EXPECT_THAT(load(shape()), HasSubstr("torch.save(dict(s.get('state_dict', s)), 'weights.pth')"));
  }
  EXPECT_THAT(message_of([&] {
                Gru4Rec model(shape());
                load_recbole_state(folder / "nothing.pth", model, names, false);
              }),
              HasSubstr("cannot read"));
}

TEST(RecBoleState, WithoutIdsBesideIsTakenInTheOrderOfTheStore) {
  const TemporaryFolder folder;
  const ServedModel served = served_example(shape());
  std::vector<std::string> order = backwards(served);
  std::reverse(order.begin() + 1, order.end());
  save_recbole_state(folder / "a.pth", *served.model, served.catalogue().item_names, order);
  std::filesystem::remove(folder / "a.ids.json");
  Gru4Rec other(shape());
  load_recbole_state(folder / "a.pth", other, served.catalogue().item_names, false);
  EXPECT_TRUE(std::ranges::equal(other.parameters(), served.model->parameters()));
}

}  // namespace
}  // namespace gru4rec

// Laws of recommendations: the lists are the best of all scores, the places in them are the ranks of an evaluation, and every
// line of input has its answer.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "gru4rec/base/config.h"
#include "gru4rec/base/error.h"
#include "gru4rec/base/hash.h"
#include "gru4rec/comm/world.h"
#include "gru4rec/eval/evaluator.h"
#include "gru4rec/serve/recommender.h"
#include "gru4rec/serve/requests.h"
#include "support/served_example.h"
#include "support/temporary_folder.h"
#include "support/training_example.h"

namespace gru4rec {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::served_example;
using testing::session_example;

ModelShape shape(int64_t catalogue) {
  ModelShape shape;
  shape.catalogue = catalogue;
  shape.embedding_size = 6;
  shape.hidden_size = 7;
  return shape;
}

TEST(Recommender, GivesTheBestOfAllScoresAndEqualOnesById) {
  constexpr int64_t kCatalogue = 9001;  // three blocks of the table
  const ServedModel served = served_example(shape(kCatalogue));
  testing::make_scores_equal(*served.model);
  const at::Tensor scores = at::mv(served.model->score_table(), served.model->parameter("dense.bias"));
  std::vector<ScoredItem> all;
  for (int64_t item = 1; item <= kCatalogue; ++item) all.push_back({item, scores[item].item<float>()});
  std::stable_sort(all.begin(), all.end(), [](const ScoredItem& a, const ScoredItem& b) { return a.score > b.score; });

  std::vector<SessionQuery> queries;
  for (const int64_t k : {1, 7, 100, 4096, 9000, 9001, 20000}) queries.push_back({{1, 2}, {}, k});
  queries.push_back({{3}, {all[0].item, all[2].item, all[3].item, all[2].item, 9001, 77777}, 5});
  queries.push_back({{3}, {}, std::numeric_limits<int64_t>::max()});
  const auto lists = Recommender(*served.model).recommend(queries);
  ASSERT_EQ(lists.size(), queries.size());
  for (size_t q = 0; q < queries.size(); ++q) {
    std::vector<ScoredItem> wanted;
    for (const ScoredItem& item : all)
      if (std::ranges::find(queries[q].excluded, item.item) == queries[q].excluded.end()) wanted.push_back(item);
    wanted.resize(std::min(wanted.size(), static_cast<size_t>(queries[q].k)));
    EXPECT_EQ(lists[q], wanted) << "query " << q;
  }
}

TEST(Recommender, AnswersASessionAmongOthersAsAlone) {
  const ServedModel served = served_example(shape(97));
  std::vector<SessionQuery> queries;
  for (uint64_t s = 0; s < 301; ++s) {
    SessionQuery query{session_example(s, 97), {}, 11};
    std::erase(query.items, 0);
    if (!query.items.empty()) queries.push_back(query);
  }
  const Recommender recommender(*served.model);
  const auto together = recommender.recommend(queries);
  for (size_t q = 0; q < queries.size(); ++q) {
    const auto alone = recommender.recommend(std::span(&queries[q], 1)).front();
    for (size_t i = 0; i < alone.size(); ++i) ASSERT_NEAR(alone[i].score, together[q][i].score, 1e-5) << "query " << q;
  }
}

TEST(Recommender, RefusesScoresThatAreNotFinite) {
  for (const float value : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    const ServedModel served = served_example(shape(5001));
    served.model->parameter(served.model->layout().table().name)[4999][0] = value;
    const SessionQuery query{{1}, {}, 3};
    EXPECT_THROW(Recommender(*served.model).recommend(std::span(&query, 1)), SurroundingsError);
  }
}

class PlacesInAList : public ::testing::TestWithParam<Protocol> {};

TEST_P(PlacesInAList, AreTheRanksOfTheEvaluation) {
  const testing::TemporaryFolder folder;
  testing::write_training_example(folder / "store", {.sessions = 300, .protocol = GetParam()});
  const Store store(folder / "store");
  Options options;
  options.MAX_ITEM_LIST_LENGTH = 7;  // shorter than most sessions
  ServedModel served = served_example(shape(97));
  served.info.catalogue = std::make_shared<Catalogue>(catalogue_of(store, options));
  const Answerer answerer(served);

  const Evaluator evaluator(store, Split::test, {.max_length = 7, .max_k = 20, .direction = {}, .batch_targets = 100});
  const std::unique_ptr<Communicator> alone = make_single();
  const std::vector<TargetRank> ranks = evaluator.ranks(*served.model, *alone);
  ASSERT_GT(ranks.size(), 100u);
  size_t next = 0, compared = 0;
  for (uint64_t s = 0; s < store.info().sessions; ++s) {
    const Store::SessionShape session = store.shapes(s, 1).front();
    std::vector<uint32_t> events(session.events);
    store.read_items(session.first_event, events);
    // Targets of a session come in their order, but those before which nothing is known last: they have no place in a list.
    const auto first_known = std::ranges::find_if(events, [](uint32_t item) { return item != 0; }) - events.begin();
    const uint32_t first = std::max(1u, session.valid_end), with_list = std::max(first, static_cast<uint32_t>(first_known) + 1);
    const size_t of_session = next;
    next += session.events - first;
    for (uint32_t target = with_list; target < session.events; ++target) {
      const TargetRank& rank = ranks.at(of_session + target - with_list);
      ASSERT_EQ(rank.session, s);
      Request request;
      request.session = testing::names_of({events.begin(), events.begin() + target}, served.catalogue());
      request.k = 97;
      const json answer = json::parse(answerer.answer(std::span(&request, 1)));
      if (events[target] == 0 || answer.contains("note")) continue;  // never in a list; nothing known in the last seven
      const auto items = answer["items"].get<std::vector<std::string>>();
      const auto scores = answer["scores"].get<std::vector<float>>();
      ASSERT_EQ(items.size(), 97u);
      const auto place = std::ranges::find(items, served.catalogue().item_names[events[target] - 1]) - items.begin();
      // Where rounding has swapped two places, their scores are as good as equal.
      ASSERT_NEAR(scores[static_cast<size_t>(place)], scores[static_cast<size_t>(rank.rank - 1)], 1e-5)
          << "session " << s << ", target " << target << ", place " << place + 1 << ", rank " << rank.rank;
      ++compared;
    }
  }
  EXPECT_EQ(next, ranks.size());
  EXPECT_GT(compared, 100u);
}

INSTANTIATE_TEST_SUITE_P(Protocols, PlacesInAList, ::testing::Values(Protocol::leave_one_out, Protocol::next_item));

TEST(OpenedModel, OfAnEarlierVersionTakesItsIdsFromTheStore) {
  const testing::TemporaryFolder folder;
  const testing::TrainingExample data = {.sessions = 30, .protocol = Protocol::leave_one_out};
  testing::write_training_example(folder / "store", data);
  testing::write_training_example(folder / "other", {.sessions = 31});
  Options options;
  options.MAX_ITEM_LIST_LENGTH = 7;
  CheckpointInfo info = served_example(shape(97)).info;
  info.catalogue = nullptr;
  info.data_digest = Store(folder / "store").info().data_digest;
  info.store = (folder / "moved").string();
  info.options = to_yaml(options);
  Gru4Rec model(info.shape);
  model.initialise(3);
  save_checkpoint(folder / "old.h5", info, state_of(model, Optimizer(model.layout(), {})));

  const auto open = [&](const std::string& store) {
    std::vector<Override> overrides;
    if (!store.empty()) overrides.push_back({"store", (folder / store).string()});
    try {
      const ServedModel served = open_model(folder / "old.h5", overrides);
      EXPECT_EQ(served.catalogue().item_names, testing::example_names(97));
      EXPECT_EQ(served.catalogue().max_inputs, 7);
      EXPECT_TRUE(std::ranges::equal(served.model->parameters(), model.parameters()));
      return std::string("opened");
    } catch (const UserError& error) {
      return std::string(error.what());
    }
  };
  EXPECT_EQ(open("store"), "opened");
  EXPECT_THAT(open(""), HasSubstr("holds no item ids"));
  EXPECT_THAT(open("other"), HasSubstr("wanted " + hex_text(info.data_digest)));
  std::filesystem::rename(folder / "store", folder / "moved");
  EXPECT_EQ(open(""), "opened");
}

TEST(OpenedModel, ThatReadsBackwardIsRefused) {
  ServedModel served = served_example(shape(97));
  served.options.direction = Direction::backward;
  EXPECT_THROW(require_forward(served, "recommend"), UserError);
}

// The error of a line, or "" if it is a request.
std::string error_of(const std::string& line) { return parse_request(line, 3, {}).error; }

TEST(Requests, SayWhatTheyWantAndLeaveTheRestToTheDefaults) {
  const RequestDefaults defaults{.k = 4, .exclude_seen = true, .exclude = {"x"}};
  const Request all =
      parse_request(R"({"session": ["a", 7, -1], "exclude": [8], "k": 9, "exclude_seen": false, "id": [1.5]})", 3, defaults);
  EXPECT_EQ(all.error, "");
  EXPECT_THAT(all.session, ElementsAre("a", "7", "-1"));
  EXPECT_THAT(all.exclude, ElementsAre("x", "8"));
  EXPECT_EQ(all.k, 9);
  EXPECT_FALSE(all.exclude_seen);
  EXPECT_EQ(all.id, "[1.5]");
  const Request least = parse_request(R"({"session": []})", 3, defaults);
  EXPECT_EQ(least.k, 4);
  EXPECT_TRUE(least.exclude_seen);
  EXPECT_THAT(least.exclude, ElementsAre("x"));
  EXPECT_EQ(least.id, "");
}

TEST(Requests, ThatAreNoneSayWhatIsWrong) {
  EXPECT_THAT(error_of("{"), HasSubstr("not JSON: "));
  EXPECT_THAT(error_of("\xff\xfe"), HasSubstr("not JSON: "));
  EXPECT_THAT(error_of("[1]"), HasSubstr("got [1], wanted an object"));
  EXPECT_THAT(error_of("{}"), HasSubstr("'session' is missing"));
  EXPECT_THAT(error_of(R"({"session": "a b"})"), HasSubstr(R"('session': got "a b", wanted a list of item ids)"));
  EXPECT_THAT(error_of(R"({"session": [1.5]})"), HasSubstr("'session': got 1.5"));
  EXPECT_THAT(error_of(R"({"session": [], "exclude": 3})"), HasSubstr("'exclude': got 3"));
  for (const char* k : {"0", "-3", "1.5", "\"5\"", "null"})
    EXPECT_THAT(error_of(fmt::format("{{\"session\": [], \"k\": {}}}", k)), HasSubstr(fmt::format("'k': got {}", k)));
  EXPECT_THAT(error_of(R"({"session": [], "exclude_seen": 1})"), HasSubstr("'exclude_seen': got 1"));
  EXPECT_THAT(error_of(R"({"sesion": []})"), HasSubstr("unknown key 'sesion'; did you mean 'session'?"));
  EXPECT_THAT(error_of(R"({"session": [], "id": )" + std::string(1000000, '[')), HasSubstr("nested more than 64 levels"));
  EXPECT_EQ(error_of(R"({"session": [], "k": 18446744073709551615})"), "");
}

TEST(Answers, ComeInOrderWhateverIsAsked) {
  const ServedModel served = served_example(shape(97));  // ids are "item 1", "item 4", "item 9", …
  const Answerer answerer(served);
  std::vector<Request> requests;
  for (const char* line :
       {R"({"session": ["item 1", "?", "item 4", "?", "!"], "id": "first", "k": 3})", "nonsense",
        R"({"session": ["?"], "id": 2})", R"({"session": [], "id": null})", R"({"session": ["item 9"], "k": 98})",
        R"({"session": ["item 9", "item 16"], "exclude_seen": true, "exclude": ["item 25", "?"], "k": 98})"})
    requests.push_back(parse_request(line, static_cast<int64_t>(requests.size()) + 1, {}));
  std::istringstream lines(answerer.answer(requests));
  std::vector<json> answers;
  for (std::string line; std::getline(lines, line);) answers.push_back(json::parse(line));
  ASSERT_EQ(answers.size(), 6u);
  EXPECT_EQ(answers[0]["id"], "first");
  EXPECT_EQ(answers[0]["items"].size(), 3u);
  EXPECT_THAT(answers[0]["unknown"].get<std::vector<std::string>>(), ElementsAre("?", "!"));
  EXPECT_FALSE(answers[0].contains("note"));
  EXPECT_THAT(answers[1]["error"].get<std::string>(), HasSubstr("line 2: not JSON"));
  EXPECT_EQ(answers[2]["id"], 2);
  EXPECT_THAT(answers[2]["items"], IsEmpty());
  EXPECT_THAT(answers[2]["note"].get<std::string>(), HasSubstr("knows no item"));
  EXPECT_TRUE(answers[3].at("id").is_null());
  EXPECT_THAT(answers[3]["note"].get<std::string>(), HasSubstr("empty"));
  EXPECT_EQ(answers[4]["items"].size(), 97u);
  EXPECT_FALSE(answers[4].contains("id"));
  std::set<std::string> recommended;
  for (const json& item : answers[5]["items"]) recommended.insert(item.get<std::string>());
  EXPECT_EQ(recommended.size(), 94u);
  for (const char* item : {"item 9", "item 16", "item 25"}) EXPECT_FALSE(recommended.contains(item)) << item;
}

}  // namespace
}  // namespace gru4rec

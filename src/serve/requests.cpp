#include "gru4rec/serve/requests.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "gru4rec/base/error.h"
#include "gru4rec/base/nearest.h"

namespace gru4rec {
namespace {

using Json = nlohmann::ordered_json;

const std::vector<std::string> kKeys = {"session", "exclude", "k", "exclude_seen", "id"};

// An answer is written by recursion.
Json parse(std::string_view text) {
  return Json::parse(text, [](int depth, Json::parse_event_t, const Json&) {
    constexpr int kDeepest = 64;
    if (depth > kDeepest) throw UserError("nested more than {} levels deep. Write one flat object a line.", kDeepest);
    return true;
  });
}

// Bytes that are not UTF-8, which JSON cannot hold, become �.
std::string text_of(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

// A value as a message shows it.
std::string shown(const Json& value) {
  constexpr size_t kLongest = 60;
  const std::string text = text_of(value);
  return text.size() <= kLongest ? text : text.substr(0, kLongest) + "…";
}

// Original ids are texts; one that is written as an integer is meant as its digits.
std::vector<std::string> ids_of(const char* key, const Json& value) {
  const auto wrong = [key](const Json& got) {
    return UserError("'{}': got {}, wanted a list of item ids, such as [\"242\", \"302\"].", key, shown(got));
  };
  if (!value.is_array()) throw wrong(value);
  std::vector<std::string> ids;
  for (const Json& id : value) {
    if (id.is_string())
      ids.push_back(id.get<std::string>());
    else if (id.is_number_integer())
      ids.push_back(id.dump());
    else
      throw wrong(id);
  }
  return ids;
}

void require_known_keys(const Json& object) {
  for (const auto& [key, value] : object.items()) {
    if (std::ranges::find(kKeys, key) != kKeys.end()) continue;
    const std::string near = nearest(key, kKeys);
    throw UserError(
        "unknown key '{}'; {}", key,
        near.empty() ? fmt::format("the keys are {}.", fmt::join(kKeys, ", ")) : fmt::format("did you mean '{}'?", near));
  }
}

int64_t k_of(const Json& value) {
  if (value.is_number_unsigned() && value.get<uint64_t>() >= 1)
    return static_cast<int64_t>(std::min<uint64_t>(value.get<uint64_t>(), INT64_MAX));
  throw UserError("'k': got {}, wanted an integer of 1 or more.", shown(value));
}

bool exclude_seen_of(const Json& value) {
  if (value.is_boolean()) return value.get<bool>();
  throw UserError("'exclude_seen': got {}, wanted true or false.", shown(value));
}

void read_object(const Json& object, Request& request) {
  if (!object.is_object())
    throw UserError("got {}, wanted an object, such as {{\"session\": [\"242\", \"302\"]}}.", shown(object));
  if (object.contains("id")) request.id = text_of(object["id"]);
  require_known_keys(object);
  if (!object.contains("session"))
    throw UserError("'session' is missing. Give the ids of the items so far: {{\"session\": [\"242\", \"302\"]}}.");
  request.session = ids_of("session", object["session"]);
  if (object.contains("k")) request.k = k_of(object["k"]);
  if (object.contains("exclude_seen")) request.exclude_seen = exclude_seen_of(object["exclude_seen"]);
  if (object.contains("exclude"))
    for (std::string& id : ids_of("exclude", object["exclude"])) request.exclude.push_back(std::move(id));
}

// A number that prints as short as the float does.
double short_number(float value) { return std::stod(fmt::format("{}", value)); }

// What every answer begins with.
Json answer_to(const Request& request) {
  Json answer = Json::object();
  if (!request.id.empty()) answer["id"] = Json::parse(request.id);
  return answer;
}

}  // namespace

Request parse_request(std::string_view json, int64_t line, const RequestDefaults& defaults) {
  Request request;
  request.line = line;
  request.k = defaults.k;
  request.exclude_seen = defaults.exclude_seen;
  request.exclude = defaults.exclude;
  try {
    read_object(parse(json), request);
  } catch (const nlohmann::json::exception& error) {
    const std::string_view what = error.what();  // after its own name in brackets
    request.error = fmt::format("not JSON: {}. Write one object a line, such as {{\"session\": [\"242\", \"302\"]}}.",
                                what.substr(what.find("] ") + 2));
  } catch (const UserError& error) {
    request.error = error.what();
  }
  return request;
}

Answerer::Answerer(const ServedModel& served)
    : catalogue_(served.catalogue()), index_(catalogue_.item_names), recommender_(*served.model) {}

std::optional<SessionQuery> Answerer::query_of(const Request& request, std::vector<std::string>& unknown) const {
  SessionQuery query;
  query.k = request.k;
  // As in an evaluation, an unknown item among the last max_inputs takes its place there.
  const auto longest = static_cast<size_t>(catalogue_.max_inputs);
  const size_t begin = longest > 0 && request.session.size() > longest ? request.session.size() - longest : 0;
  for (size_t i = 0; i < request.session.size(); ++i) {
    const int64_t item = index_.find(request.session[i]);
    if (item == 0) {
      if (std::ranges::find(unknown, request.session[i]) == unknown.end()) unknown.push_back(request.session[i]);
      continue;
    }
    if (i >= begin) query.items.push_back(item);
    if (request.exclude_seen) query.excluded.push_back(item);
  }
  for (const std::string& name : request.exclude)
    if (const int64_t item = index_.find(name)) query.excluded.push_back(item);
  if (query.items.empty()) return std::nullopt;
  return query;
}

std::string Answerer::answer(std::span<const Request> requests) const {
  std::vector<SessionQuery> queries;
  std::vector<Json> answers;
  std::vector<size_t> asked;  // which request each query is of
  for (const Request& request : requests) {
    Json& answer = answers.emplace_back(answer_to(request));
    if (!request.error.empty()) {
      answer["error"] = fmt::format("line {}: {}", request.line, request.error);
      continue;
    }
    std::vector<std::string> unknown;
    auto query = query_of(request, unknown);
    answer["items"] = Json::array();
    answer["scores"] = Json::array();
    answer["unknown"] = unknown;
    if (query) {
      queries.push_back(std::move(*query));
      asked.push_back(answers.size() - 1);
    } else {
      answer["note"] = request.session.empty() ? "the session is empty: there is nothing to recommend by"
                                               : "the model knows no item of the session that it would look at";
    }
  }
  const std::vector<std::vector<ScoredItem>> lists = recommender_.recommend(queries);
  for (size_t q = 0; q < lists.size(); ++q) {
    for (const auto& [item, score] : lists[q]) {
      answers[asked[q]]["items"].push_back(catalogue_.item_names[item - 1]);
      answers[asked[q]]["scores"].push_back(short_number(score));
    }
  }
  std::string text;
  for (const Json& answer : answers) text += text_of(answer) + "\n";
  return text;
}

}  // namespace gru4rec

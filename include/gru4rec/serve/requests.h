// What `gru4rec recommend` is asked and what it answers: one JSON object a line each (docs/recommend.md). Local.
//
//   {"session": ["242", "302"], "k": 5, "exclude": ["51"], "exclude_seen": true, "id": 7}
//   {"id": 7, "items": ["257", …], "scores": [8.25, …], "unknown": []}
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "gru4rec/serve/recommender.h"
#include "gru4rec/serve/served_model.h"

namespace gru4rec {

// What a line that does not say otherwise asks for.
struct RequestDefaults {
  int64_t k = 20;
  bool exclude_seen = false;
  std::vector<std::string> exclude;  // for every session, besides its own
};

struct Request {
  int64_t line = 0;  // of the input, from 1
  std::vector<std::string> session, exclude;
  int64_t k = 0;
  bool exclude_seen = false;
  std::string id;     // as JSON text; empty: none was given
  std::string error;  // not empty: what is wrong with the line, and all else is void but `id`
};

// A line of JSON. What is wrong with it, if anything, is in `error`.
Request parse_request(std::string_view json, int64_t line, const RequestDefaults& defaults);

// Answers requests in their order, a line of JSON each, with a newline. Items of a session that the catalogue lacks are named
// and passed over, as an evaluation passes over them; those of `exclude` exclude nothing.
class Answerer {
 public:
  explicit Answerer(const ServedModel& served);  // which must outlive it
  std::string answer(std::span<const Request> requests) const;

 private:
  // The query of a request, and what the catalogue lacks of its session, each once. None if it lacks all.
  std::optional<SessionQuery> query_of(const Request& request, std::vector<std::string>& unknown) const;

  const Catalogue& catalogue_;
  ItemIndex index_;
  Recommender recommender_;
};

}  // namespace gru4rec

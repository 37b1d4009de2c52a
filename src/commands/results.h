// How results are written for people and programs. Local.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "gru4rec/base/options.h"
#include "gru4rec/eval/metrics.h"
#include "gru4rec/train/trainer.h"

namespace gru4rec {

// "mrr@10 0.0470  recall@20 0.2354": the named metrics in order, each once, to metric_decimal_place.
std::string metrics_text(const RankHistogram& histogram, const Options& options, const std::vector<std::string>& names);

// The last line of standard output: "test: recall@20 0.2354  mrr@20 0.0592 …" with everything topk and metrics ask for behind.
std::string result_text(const Outcome& outcome, const Options& options);
std::string split_text(const std::string& split, const RankHistogram& histogram, const Options& options);

// result.json.
nlohmann::json result_json(const Outcome& outcome, const Options& options, int64_t replicas, int world_size);

}  // namespace gru4rec

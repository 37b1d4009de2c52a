#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "gru4rec/base/config.h"
#include "gru4rec/base/option_table.h"

namespace gru4rec {
namespace {

// Options that act only where another one has a wanted value.
struct Dependence {
  const char* on;
  bool fulfilled;
  const char* wanted;
  std::vector<const char*> options;
};

}  // namespace

std::vector<std::string> idle_options(const Options& o) {
  const auto loss_is = [&](const auto... losses) { return ((o.loss_type == losses) || ...); };
  const std::vector<Dependence> dependences = {
      {"num_layers", o.num_layers > 1, "2 or more", {"hidden_dropout_prob"}},
      {"loss_type",
       loss_is(LossType::sampled_softmax, LossType::bpr_max, LossType::cosine_ranking),
       "sampled_softmax, BPR-max or cosine_ranking",
       {"n_sample", "sample_alpha"}},
      {"loss_type", loss_is(LossType::sampled_softmax), "sampled_softmax", {"logq_correction"}},
      {"loss_type", loss_is(LossType::bpr_max), "BPR-max", {"bpreg"}},
      {"loss_type", loss_is(LossType::cosine_ranking), "cosine_ranking", {"ranking_margin"}},
      {"loss_type", loss_is(LossType::ce), "CE", {"score_padding"}},
      {"score", o.score == ScoreKind::cosine, "cosine", {"score_scale"}},
      {"learning_rate_schedule",
       o.learning_rate_schedule == Schedule::plateau,
       "plateau",
       {"plateau_factor", "plateau_patience"}},
      {"teacher", !o.teacher.empty(), "one", {"distill_lambda", "distill_temperature", "distill_t_squared"}},
      {"adapt_fraction", o.adapt_fraction > 0, "one above 0", {"adapt_epochs", "adapt_learning_rate"}},
  };
  std::vector<std::string> lines;
  const auto row_of = [](std::string_view key) -> const OptionRow& {
    return *std::ranges::find_if(option_table(), [&](const OptionRow& row) { return row.key == key; });
  };
  for (const Dependence& dependence : dependences) {
    if (dependence.fulfilled) continue;
    for (const char* key : dependence.options) {
      const OptionRow& row = row_of(key);
      const std::string value = row.codec.write(o), other = row_of(dependence.on).codec.write(o);
      if (value != row.default_text())
        lines.push_back(fmt::format("option '{}' has no effect: got {} with {} {}, wanted {}", key, value, dependence.on, other,
                                    dependence.wanted));
    }
  }
  return lines;
}

}  // namespace gru4rec

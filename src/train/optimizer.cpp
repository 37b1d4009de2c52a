#include "gru4rec/train/optimizer.h"

#include <algorithm>
#include <cmath>

namespace gru4rec {

double gradient_norm(std::span<const float> gradient, double scale, double p) {
  constexpr size_t kPiece = 4096;
  double total = 0;
  for (size_t first = 0; first < gradient.size(); first += kPiece) {
    const auto piece = gradient.subspan(first, std::min(kPiece, gradient.size() - first));
    if (std::isinf(p)) {
      for (float g : piece) total = std::max(total, std::abs(scale * static_cast<double>(g)));
    } else {
      double sum = 0;
      for (float g : piece) {
        const double value = scale * static_cast<double>(g);
        sum += p == 2.0 ? value * value : std::pow(std::abs(value), p);
      }
      total += sum;
    }
  }
  return std::isinf(p) ? total : std::pow(total, 1.0 / p);
}

namespace {

// The flat buffers of one update, and what every learner does to a gradient first.
struct Pass {
  float* __restrict parameter;
  float* __restrict first;
  float* __restrict second;
  const float* __restrict sum;
  size_t size;
  float divisor, clip, decay;

  // update(w, m, v, g) for every element.
  template <typename Update>
  void each(Update&& update) const {
    for (size_t i = 0; i < size; ++i) update(parameter[i], first[i], second[i], sum[i] / divisor * clip + decay * parameter[i]);
  }
};

void adam(const Pass& pass, const OptimizerOptions& options, double rate, int64_t step) {
  const double correction1 = 1.0 - std::pow(options.beta1, static_cast<double>(step));
  const double correction2 = 1.0 - std::pow(options.beta2, static_cast<double>(step));
  const auto step_size = static_cast<float>(rate / correction1);
  const auto root_correction2 = static_cast<float>(std::sqrt(correction2));
  const auto beta2 = static_cast<float>(options.beta2);
  const auto rest1 = static_cast<float>(1.0 - options.beta1);
  const auto rest2 = static_cast<float>(1.0 - options.beta2);
  const auto epsilon = static_cast<float>(options.epsilon);
  pass.each([=](float& w, float& m, float& v, float g) {
    m += rest1 * (g - m);
    v = beta2 * v + rest2 * g * g;
    w -= step_size * (m / (std::sqrt(v) / root_correction2 + epsilon));
  });
}

void adamw(Pass pass, const OptimizerOptions& options, double rate, int64_t step) {
  pass.decay = 0;
  const auto kept = static_cast<float>(1.0 - rate * options.weight_decay);
  for (size_t i = 0; i < pass.size; ++i) pass.parameter[i] *= kept;
  adam(pass, options, rate, step);
}

void adagrad(const Pass& pass, double rate) {
  const auto step_size = static_cast<float>(rate);
  pass.each([=](float& w, float&, float& v, float g) {
    v += g * g;
    w -= step_size * (g / (std::sqrt(v) + 1e-10f));
  });
}

void rmsprop(const Pass& pass, const OptimizerOptions& options, double rate) {
  const auto step_size = static_cast<float>(rate);
  const auto epsilon = static_cast<float>(options.epsilon);
  pass.each([=](float& w, float&, float& v, float g) {
    v = 0.99f * v + 0.01f * g * g;
    w -= step_size * (g / (std::sqrt(v) + epsilon));
  });
}

void sgd(const Pass& pass, double rate) {
  const auto step_size = static_cast<float>(rate);
  pass.each([=](float& w, float&, float&, float g) { w -= step_size * g; });
}

}  // namespace

Optimizer::Optimizer(const ParameterLayout& layout, const OptimizerOptions& options)
    : layout_(layout), options_(options), first_(layout.parameter_floats()), second_(layout.parameter_floats()) {}

void Optimizer::step(std::span<float> parameters, std::span<float> gradient_sum, int64_t count, int64_t step,
                     double rate_factor) {
  // The table's two sums are added once, in place: afterwards the first parameter_floats() are the whole gradient.
  if (!options_.freeze_table) {
    const auto output = gradient_sum.subspan(layout_.table_output_gradient(), layout_.table_floats());
    const auto input = gradient_sum.subspan(layout_.table_input_gradient(), layout_.table_floats());
    for (size_t i = 0; i < output.size(); ++i) output[i] += input[i];
  }
  // The table comes last: an update that ends before it leaves it alone.
  const std::span<const float> gradient =
      gradient_sum.first(options_.freeze_table ? layout_.dense_floats() : layout_.parameter_floats());

  float clip = 1.0f;
  if (options_.clip_norm > 0) {
    gradient_norm_ = gru4rec::gradient_norm(gradient, 1.0 / static_cast<double>(count), options_.clip_norm_type);
    clip = static_cast<float>(std::min(1.0, options_.clip_norm / (gradient_norm_ + 1e-6)));
  }
  const Pass pass{.parameter = parameters.data(),
                  .first = first_.data(),
                  .second = second_.data(),
                  .sum = gradient.data(),
                  .size = gradient.size(),
                  .divisor = static_cast<float>(count),
                  .clip = clip,
                  .decay = static_cast<float>(options_.weight_decay)};
  const double rate = rate_factor * options_.learning_rate;
  switch (options_.learner) {
    case Learner::adam:
      return adam(pass, options_, rate, step);
    case Learner::adamw:
      return adamw(pass, options_, rate, step);
    case Learner::adagrad:
      return adagrad(pass, rate);
    case Learner::rmsprop:
      return rmsprop(pass, options_, rate);
    case Learner::sgd:
      return sgd(pass, rate);
  }
}

}  // namespace gru4rec

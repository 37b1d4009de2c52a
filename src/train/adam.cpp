#include "gru4rec/train/adam.h"

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

Adam::Adam(const ParameterLayout& layout, const AdamOptions& options)
    : layout_(layout), options_(options), first_(layout.parameter_floats()), second_(layout.parameter_floats()) {}

void Adam::step(std::span<float> parameters, std::span<float> gradient_sum, int64_t count, int64_t step) {
  // The table's two sums are added once, in place: afterwards the first parameter_floats() are the whole gradient.
  const auto output = gradient_sum.subspan(layout_.table_output_gradient(), layout_.table_floats());
  const auto input = gradient_sum.subspan(layout_.table_input_gradient(), layout_.table_floats());
  for (size_t i = 0; i < output.size(); ++i) output[i] += input[i];
  const std::span<const float> gradient = gradient_sum.first(layout_.parameter_floats());

  const auto divisor = static_cast<float>(count);
  float clip = 1.0f;
  if (options_.clip_norm > 0) {
    gradient_norm_ = gru4rec::gradient_norm(gradient, 1.0 / static_cast<double>(count), options_.clip_norm_type);
    clip = static_cast<float>(std::min(1.0, options_.clip_norm / (gradient_norm_ + 1e-6)));
  }
  const double correction1 = 1.0 - std::pow(options_.beta1, static_cast<double>(step));
  const double correction2 = 1.0 - std::pow(options_.beta2, static_cast<double>(step));
  const auto step_size = static_cast<float>(options_.learning_rate / correction1);
  const auto root_correction2 = static_cast<float>(std::sqrt(correction2));
  const auto beta2 = static_cast<float>(options_.beta2);
  const auto rest1 = static_cast<float>(1.0 - options_.beta1);
  const auto rest2 = static_cast<float>(1.0 - options_.beta2);
  const auto epsilon = static_cast<float>(options_.epsilon);
  const auto decay = static_cast<float>(options_.weight_decay);
  float* __restrict parameter = parameters.data();
  float* __restrict first = first_.data();
  float* __restrict second = second_.data();
  const float* __restrict sum = gradient.data();
  const size_t size = gradient.size();
  for (size_t i = 0; i < size; ++i) {
    const float g = sum[i] / divisor * clip + decay * parameter[i];
    first[i] += rest1 * (g - first[i]);
    second[i] = beta2 * second[i] + rest2 * g * g;
    parameter[i] -= step_size * (first[i] / (std::sqrt(second[i]) / root_correction2 + epsilon));
  }
}

}  // namespace gru4rec

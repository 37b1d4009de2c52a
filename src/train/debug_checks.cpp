#include "gru4rec/train/debug_checks.h"

#include <fmt/ranges.h>

#include <cmath>

#include "gru4rec/base/error.h"
#include "gru4rec/train/optimizer.h"

namespace gru4rec {
namespace {

void require_finite(const std::string& name, const at::Tensor& tensor) {
  const at::Tensor values = tensor.contiguous();
  const float* value = values.const_data_ptr<float>();
  for (int64_t i = 0; i < values.numel(); ++i) {
    if (std::isfinite(value[i])) continue;
    throw UserError(
        "{} is not finite: element {} of [{}] is {}. The tensors before it were finite: look at this module's input and "
        "weights.",
        name, i, fmt::join(values.sizes().begin(), values.sizes().end(), ", "), value[i]);
  }
}

}  // namespace

TensorWatch::TensorWatch(Gru4Rec& model) : model_(model) { model_.set_probe(require_finite); }
TensorWatch::~TensorWatch() { model_.set_probe({}); }

void print_norms(const Gru4Rec& model, std::span<const float> gradient_sum, const GradientRows& rows, int64_t count,
                 int64_t step) {
  const double scale = 1.0 / static_cast<double>(count);
  fmt::print(stderr, "step {}: {} targets\n", step, count);
  for (const ParameterInfo& info : model.layout().parameters()) {
    const auto weights = model.parameters().subspan(info.offset, info.size());
    const bool table = info.name == model.layout().table().name;
    const bool constant = static_cast<size_t>(info.offset) == gradient_sum.size();  // the table, where it has no gradient
    const double norm = constant ? 0.0
                        : table  ? table_gradient_norm(model.layout(), gradient_sum, rows, scale, 2.0)
                                 : gradient_norm(gradient_sum.subspan(info.offset, info.size()), scale, 2.0);
    fmt::print(stderr, "  {:<28} weight {:<12.6g} gradient {:.6g}\n", info.name, gradient_norm(weights, 1.0, 2.0), norm);
  }
}

}  // namespace gru4rec

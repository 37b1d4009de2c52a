#include "gru4rec/train/optimizer.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>

#include "gru4rec/base/error.h"
#include "gru4rec/base/heap.h"
#include "gru4rec/train/weight_average.h"

namespace gru4rec {
namespace {

// (Σ |scale · g|^p)^(1/p) of elements that come in rising places; each 4,096 places are summed by themselves, so that elements
// left out are zeros.
class Norm {
 public:
  Norm(double scale, double p) : scale_(scale), p_(p) {}

  // `other`: added to `values`, or nullptr.
  void add(size_t place, const float* values, const float* other, size_t size) {
    for (size_t at = 0; at < size;) {
      const size_t piece = (place + at) / kPiece, end = std::min(size, (piece + 1) * kPiece - place);
      if (piece != piece_) close(piece);
      for (; at < end; ++at) add(scale_ * static_cast<double>(other ? values[at] + other[at] : values[at]));
    }
  }

  double value() {
    close(piece_);
    return std::isinf(p_) ? total_ : std::pow(total_, 1.0 / p_);
  }

 private:
  static constexpr size_t kPiece = 4096;

  void add(double value) {
    if (std::isinf(p_)) {
      total_ = std::max(total_, std::abs(value));
    } else {
      sum_ += p_ == 2.0 ? value * value : std::pow(std::abs(value), p_);
    }
  }
  void close(size_t next) {
    total_ += sum_;
    sum_ = 0;
    piece_ = next;
  }

  double scale_, p_;
  size_t piece_ = 0;
  double sum_ = 0, total_ = 0;
};

// The table begins at `place`.
void add_table(Norm& norm, size_t place, const ParameterLayout& layout, const TableGradient& table) {
  const auto row = static_cast<size_t>(table.row_floats);
  table.each_stretch(0, layout.table().shape[0], [&](int64_t first, int64_t count, const float* output, const float* input) {
    if (output) norm.add(place + static_cast<size_t>(first) * row, output, input, static_cast<size_t>(count) * row);
  });
}

std::vector<float> zeros(int64_t floats) {
  std::vector<float> values;
  reserve_in_huge_pages(values, static_cast<size_t>(floats));
  values.resize(static_cast<size_t>(floats));
  return values;
}

}  // namespace

double gradient_norm(std::span<const float> gradient, double scale, double p) {
  Norm norm(scale, p);
  norm.add(0, gradient.data(), nullptr, gradient.size());
  return norm.value();
}

double gradient_norm(const ParameterLayout& layout, std::span<const float> gradient_sum, const GradientRows& rows,
                     bool frozen_table, double scale, double p) {
  Norm norm(scale, p);
  const auto dense = static_cast<size_t>(layout.dense_floats());
  norm.add(0, gradient_sum.data(), nullptr, dense);
  if (!frozen_table) add_table(norm, dense, layout, TableGradient(layout, gradient_sum, rows));
  return norm.value();
}

double table_gradient_norm(const ParameterLayout& layout, std::span<const float> gradient_sum, const GradientRows& rows,
                           double scale, double p) {
  Norm norm(scale, p);
  add_table(norm, 0, layout, TableGradient(layout, gradient_sum, rows));
  return norm.value();
}

// To update a parameter takes about twice as long as to send and add a float of its gradient, between ranks of a host.
Slices slices_of_update(const ParameterLayout& layout, bool frozen_table, bool input_by_rows, int ranks) {
  constexpr size_t kLine = 16, kDenseWork = 3;
  const size_t table_work = input_by_rows ? 3 : 4;
  const auto dense = static_cast<size_t>(layout.dense_floats()), row = static_cast<size_t>(layout.table().shape[1]);
  const size_t table = frozen_table ? 0 : static_cast<size_t>(layout.table().size()), all = static_cast<size_t>(ranks);
  const size_t dense_work = dense * kDenseWork, work = dense_work + table * table_work;
  Slices slices;
  for (size_t rank = 0; rank < all; ++rank) {
    const size_t before = work * rank / all;
    slices.bounds.push_back(before < dense_work ? before / kDenseWork / kLine * kLine
                                                : dense + (before - dense_work) / table_work / row * row);
  }
  slices.bounds.push_back(dense + table);
  return slices;
}

TableGradient::TableGradient(const ParameterLayout& layout, std::span<const float> gradient_sum, const GradientRows& of_rows)
    : output(gradient_sum.data() + layout.table_output_gradient()),
      input(gradient_sum.data() + layout.table_input_gradient(of_rows)),
      row_floats(layout.table().shape[1]),
      rows(of_rows) {}

Optimizer::Optimizer(const ParameterLayout& layout, const OptimizerOptions& options)
    : layout_(layout), options_(options), first_(zeros(layout.parameter_floats())), second_(zeros(layout.parameter_floats())) {}

UpdateRule Optimizer::rule_of(int64_t count, int64_t step, double rate_factor) const {
  const double rate = rate_factor * options_.learning_rate;
  UpdateRule rule;
  rule.learner = options_.learner;
  rule.divisor = static_cast<float>(count);
  rule.decay = static_cast<float>(options_.weight_decay);
  rule.step_size = static_cast<float>(rate);
  rule.epsilon = static_cast<float>(options_.epsilon);
  rule.average_rest = average_rest(options_.ema_decay, step);
  const bool moments = rule.learner == Learner::adam || rule.learner == Learner::adamw || rule.learner == Learner::sparse_adam;
  if (moments) {
    rule.step_size = static_cast<float>(rate / (1.0 - std::pow(options_.beta1, static_cast<double>(step))));
    rule.root_correction2 = static_cast<float>(std::sqrt(1.0 - std::pow(options_.beta2, static_cast<double>(step))));
    rule.beta2 = static_cast<float>(options_.beta2);
    rule.rest1 = static_cast<float>(1.0 - options_.beta1);
    rule.rest2 = static_cast<float>(1.0 - options_.beta2);
  }
  if (rule.learner == Learner::adamw) rule.kept = static_cast<float>(1.0 - rate * options_.weight_decay);
  return rule;
}

void Optimizer::step(std::span<float> parameters, std::span<const float> gradient_sum, int64_t count, int64_t step,
                     double rate_factor, const GradientRows& rows, std::span<float> average, std::optional<FloatRange> only) {
  constexpr int64_t kFloatsOfAThread = 65536;
  static const UpdateKernels kernels = update_kernels().front();
  if (only && options_.clip_norm > 0) throw BugError("Optimizer::step of some parameters cannot clip: the norm is that of all");
  UpdateRule rule = rule_of(count, step, rate_factor);
  if (options_.clip_norm > 0) {
    gradient_norm_ = gru4rec::gradient_norm(layout_, gradient_sum, rows, options_.freeze_table,
                                            1.0 / static_cast<double>(count), options_.clip_norm_type);
    rule.clip = static_cast<float>(std::min(1.0, options_.clip_norm / (gradient_norm_ + 1e-6)));
  }
  const auto range = [&](int64_t offset, int64_t size, const float* gradient, const float* other) {
    return UpdateRange{parameters.data() + offset,
                       first_.data() + offset,
                       second_.data() + offset,
                       average.empty() ? nullptr : average.data() + offset,
                       gradient,
                       other,
                       static_cast<size_t>(size)};
  };
  const int64_t dense = layout_.dense_floats(), size = layout_.table().shape[1];
  const int64_t begin = only ? static_cast<int64_t>(only->first) : 0;
  const int64_t end = only ? static_cast<int64_t>(only->last) : dense + layout_.table().size();
  at::parallel_for(std::min(begin, dense), std::min(end, dense), kFloatsOfAThread, [&](int64_t first, int64_t last) {
    kernels.update(rule, range(first, last - first, gradient_sum.data() + first, nullptr));
  });
  if (options_.freeze_table) return;
  const TableGradient table(layout_, gradient_sum, rows);
  const auto row_at = [&](int64_t place) { return std::max<int64_t>(0, place - dense) / size; };
  at::parallel_for(row_at(begin), row_at(end), 1 + kFloatsOfAThread / size, [&](int64_t first, int64_t last) {
    table.each_stretch(first, last, [&](int64_t row, int64_t count_of_rows, const float* output, const float* input) {
      const bool skipped = !output && options_.learner == Learner::sparse_adam;
      (skipped ? kernels.average : kernels.update)(rule, range(dense + row * size, count_of_rows * size, output, input));
    });
  });
}

}  // namespace gru4rec

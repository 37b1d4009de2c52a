// Generalised distillation with privileged information (Lopez-Paz et al. 2016; Tan, Xu, Liu 2016, section 3.3): a teacher that
// has read a session's future, backwards, says how likely each item is; the student, which sees the past only, learns from that
// and from the label. With s the student's scores, t the teacher's, λ the weight of the teacher, T the temperature:
//
//   (1 - λ) CE(label, s) + λ c CE(softmax(t / T), softmax(s / T))       c = 1, or T² if asked for
//
// λ = 0 for a target that has no future.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>

#include "gru4rec/model/gru4rec.h"

namespace gru4rec {

struct DistillationOptions {
  double lambda = 0.5;
  double temperature = 1.0;
  bool t_squared = false;
  bool score_padding = true;              // the padding row is a class, of the student's and of the teacher's distribution
  Precision precision = Precision::fp32;  // or bf16: of products with the tables
};

// What a teacher has to say of the targets of a batch.
struct TeacherView {
  at::Tensor queries;     // [targets, its E]
  at::Tensor table;       // [items + 1, its E]; its scores are their products
  at::Tensor has_future;  // [targets] fp32: 1, or 0 where the teacher has seen nothing
};

// The teacher's view of `batch`; `backward` is the same segments packed backward. Local.
TeacherView view_of_teacher(const Scorer& teacher, const Batch& batch, const Batch& backward);

// The loss above, for one batch. Scores of student and teacher are made chunk by chunk. Local.
class DistilledLoss : public OutputLoss {
 public:
  DistilledLoss(const DistillationOptions& options, TeacherView teacher) : options_(options), teacher_(std::move(teacher)) {}
  SoftmaxLoss operator()(const at::Tensor& queries, const at::Tensor& table, const Batch& batch, const StepKey& key,
                         at::Tensor& grad_table, const RowSet* rows = nullptr, const RowsDone& done = {}) const override;

 private:
  DistillationOptions options_;
  TeacherView teacher_;
};

}  // namespace gru4rec

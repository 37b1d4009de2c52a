// A training step on one core and its two large kernels, beside what they are made of and beside LibTorch: Google Benchmark,
// run by tests/bench/run.sh in random interleaving.
//
//   step               forward, backward and the optimizer's update, as the trainer does them
//   softmax            the softmax with its cross entropy, forward and backward
//   gru                the GRU layer, forward and backward
//   products           the step's own matrix products, each alone: 6·N·V·E of the softmax, GRU, dense
//   softmax_products   those of the softmax
//   gru_products       those of the GRU
//   exp                one exponential a score, alone
//   libtorch           the same batch through torch::nn::GRU (packed), a dense layer, cross_entropy and torch::optim::Adam
//
// products + exp is the roof of the step: what the processor needs for the arithmetic that no program can leave out. The
// products of softmax and GRU are in bf16 where `precision: auto` would choose it. With PLAIN_HEAP in the environment memory is
// held as the C library does by itself, else as the program does.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <benchmark/benchmark.h>
#include <torch/nn/functional/loss.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/rnn.h>
#include <torch/nn/utils/rnn.h>
#include <torch/optim/adam.h>

#include <algorithm>
#include <cstdlib>

#include "bf16_tiles.h"
#include "gru4rec/base/heap.h"
#include "gru4rec/base/random.h"
#include "gru4rec/model/full_softmax.h"
#include "gru4rec/model/gru4rec.h"
#include "gru4rec/model/gru_layer.h"
#include "gru4rec/model/products.h"
#include "gru4rec/model/row_kernels.h"
#include "gru4rec/train/determinism.h"
#include "gru4rec/train/optimizer.h"
#include "support/packed_batch.h"

namespace gru4rec {
namespace {

using at::Tensor;

constexpr int64_t kTile = 256;  // items, as in the softmax

struct Shape {
  const char* name;
  int64_t items, embedding, hidden, targets;
  double mean_length;  // inputs of a sequence, geometric up to 50; 0: all have 50
};
constexpr Shape kShapes[] = {
    {"ml-100k", 1682, 64, 128, 2048, 0},
    {"yoochoose", 17376, 128, 128, 1024, 3.2},
};

Precision precision() { return bf16_in_hardware() ? Precision::bf16 : Precision::fp32; }

Batch batch_of(const Shape& shape) {
  const Stream random{7, Purpose::parameter_init};
  std::vector<int64_t> lengths;
  int64_t inputs = 0;
  for (uint64_t i = 0; inputs < shape.targets; ++i) {
    int64_t length = 50;
    if (shape.mean_length > 0) {
      length = 1;
      while (length < 50 && random.uniform(100 * i + static_cast<uint64_t>(length)) > 1 / shape.mean_length) ++length;
    }
    lengths.push_back(std::min(length, shape.targets - inputs));
    inputs += lengths.back();
  }
  std::sort(lengths.rbegin(), lengths.rend());
  return testing::packed_batch(lengths, shape.items);
}

void count_targets(benchmark::State& state, const Shape& shape) {
  state.counters["targets/s"] =
      benchmark::Counter(static_cast<double>(state.iterations() * shape.targets), benchmark::Counter::kIsRate);
}

void step(benchmark::State& state, const Shape& shape) {
  const Batch batch = batch_of(shape);
  Gru4Rec model(
      {.catalogue = shape.items, .embedding_size = shape.embedding, .hidden_size = shape.hidden, .dropout_prob = 0.3});
  model.initialise(1);
  model.set_loss(make_loss({.precision = precision()}, {}));
  model.set_precision(precision());
  Optimizer optimizer(model.layout(), {});
  RowSet inputs(model.layout().table().shape[0]);
  const GradientRows rows{model.layout().reads_few_rows(shape.targets) ? &inputs : nullptr};
  std::vector<float> gradient;
  int64_t steps = 0;
  for (auto _ : state) {
    if (rows.few) {
      inputs.clear();
      inputs.add(batch.items);
      inputs.close();
    }
    gradient.assign(static_cast<size_t>(model.layout().gradient_floats_by_rows(rows)), 0.0f);
    const LossSum loss = model.forward_backward(batch, {1, 0, steps}, gradient, nullptr, rows);
    optimizer.step(model.parameters(), gradient, loss.count, ++steps, 1.0, rows);
  }
  count_targets(state, shape);
}

// The matrix products of a step, on random values.
class Products {
 public:
  explicit Products(const Shape& shape) : n_(shape.targets), step_sizes_(batch_of(shape).step_sizes) {
    const int64_t n = n_, e = shape.embedding, h = shape.hidden;
    queries_ = at::randn({n, e}), table_ = at::randn({shape.items + 1, e});
    input_ = at::randn({n, e}), states_ = at::randn({n, h}), gates_ = at::randn({n, 3 * h});
    w_ih_ = at::randn({3 * h, e}), w_hh_ = at::randn({3 * h, h}), dense_ = at::randn({e, h});
    scores_ = at::empty({n, kTile}), grad_queries_ = at::empty({n, e}), grad_table_ = at::zeros_like(table_);
    out_gates_ = at::empty({n, 3 * h}), out_states_ = at::empty({n, h}), out_input_ = at::empty({n, e});
    if (precision() == Precision::bf16)
      for (bf16::Values* operand : {&left_, &right_}) {
        const int64_t values = bf16::padded(n) * bf16::padded(std::max({kTile, e, 3 * h}));
        std::fill_n(operand->reserve(values), values, 1.0f);
      }
    grad_ih_ = at::empty_like(w_ih_), grad_hh_ = at::empty_like(w_hh_), grad_dense_ = at::empty_like(dense_);
  }

  void softmax() {
    if (precision() == Precision::bf16) return softmax_in_bf16();
    for (int64_t first = 0; first < table_.size(0); first += kTile) {
      const int64_t rows = std::min(kTile, table_.size(0) - first);
      const Tensor items = table_.narrow(0, first, rows);
      Tensor tile = scores_.view({-1}).narrow(0, 0, n_ * rows).view({n_, rows});
      product(queries_, items.t(), tile);
      product(tile, items, grad_queries_);
      grad_table_.narrow(0, first, rows).addmm_(tile.t(), queries_);
    }
  }

  void softmax_in_bf16() {
    const int64_t e = table_.size(1);
    for (int64_t first = 0; first + kTile <= table_.size(0); first += kTile) {
      multiply_in_bf16(n_, e, kTile, scores_);
      multiply_in_bf16(n_, kTile, e, grad_queries_);
      multiply_in_bf16(e, n_, kTile, scores_);
    }
  }

  void gru() {
    if (precision() == Precision::bf16) return gru_in_bf16();
    product(input_, w_ih_.t(), out_gates_);
    product(gates_, w_ih_, out_input_);
    product(gates_.t(), input_, grad_ih_);
    int64_t row = 0;
    for (const int64_t running : step_sizes_) {
      Tensor forward = out_gates_.narrow(0, row, running), backward = out_states_.narrow(0, row, running);
      product(states_.narrow(0, row, running), w_hh_.t(), forward);
      product(gates_.narrow(0, row, running), w_hh_, backward);
      row += running;
    }
    product(gates_.t(), states_, grad_hh_);
  }

  void gru_in_bf16() {
    const int64_t e = input_.size(1), h = states_.size(1);
    multiply_in_bf16(n_, e, 3 * h, out_gates_);
    multiply_in_bf16(n_, 3 * h, e, out_input_);
    multiply_in_bf16(e, n_, 3 * h, out_gates_);
    for (const int64_t running : step_sizes_) {
      multiply_in_bf16(running, h, 3 * h, out_gates_);
      multiply_in_bf16(running, 3 * h, h, out_states_);
    }
    multiply_in_bf16(h, n_, 3 * h, out_gates_);
  }

  void dense() {
    product(states_, dense_.t(), out_input_);
    product(queries_, dense_, out_states_);
    product(queries_.t(), states_, grad_dense_);
  }

 private:
  // a [m, k] · b [k, n], which is how both are read here whatever their layout.
  static void product(const Tensor& a, const Tensor& b, Tensor& out) { at::mm_out(out, a, b); }

  // out [m, n] of operands [m, k] and [k, n] that are laid out already.
  void multiply_in_bf16(int64_t m, int64_t k, int64_t n, Tensor& out) {
    bf16::multiply(
        {.left = left_.values(), .right = right_.values(), .m = m, .n = n, .k = k, .out = out.data_ptr<float>(), .stride = n});
  }

  int64_t n_;
  std::vector<int64_t> step_sizes_;
  bf16::Values left_, right_;
  Tensor queries_, table_, input_, states_, gates_, w_ih_, w_hh_, dense_;
  Tensor scores_, grad_queries_, grad_table_, out_gates_, out_states_, out_input_, grad_ih_, grad_hh_, grad_dense_;
};

void products(benchmark::State& state, const Shape& shape) {
  Products products(shape);
  for (auto _ : state) {
    products.softmax();
    products.gru();
    products.dense();
  }
  count_targets(state, shape);
}

void softmax_products(benchmark::State& state, const Shape& shape) {
  Products products(shape);
  for (auto _ : state) products.softmax();
  count_targets(state, shape);
}

void gru_products(benchmark::State& state, const Shape& shape) {
  Products products(shape);
  for (auto _ : state) products.gru();
  count_targets(state, shape);
}

void softmax(benchmark::State& state, const Shape& shape) {
  const Tensor queries = at::randn({shape.targets, shape.embedding}).mul_(0.1);
  const Tensor table = at::randn({shape.items + 1, shape.embedding}).mul_(0.1);
  const Tensor labels = at::tensor(batch_of(shape).labels), weights = at::ones({shape.targets});
  const SoftmaxOptions options{
      .score_padding = true, .schedule = softmax_schedule(table.size(0), precision()), .precision = precision()};
  Tensor grad_table = at::zeros_like(table);
  for (auto _ : state)
    benchmark::DoNotOptimize(softmax_cross_entropy(queries, table, labels, weights, options, grad_table).sum);
  count_targets(state, shape);
}

void gru(benchmark::State& state, const Shape& shape) {
  const Batch batch = batch_of(shape);
  const int64_t h = shape.hidden;
  const auto random = [](const at::IntArrayRef sizes) { return at::randn(sizes).mul_(0.1); };
  const Tensor input = random({shape.targets, shape.embedding});
  const Tensor w_ih = random({3 * h, shape.embedding}), w_hh = random({3 * h, h});
  const Tensor grad = at::randn({shape.targets, h});
  for (auto _ : state) {
    const GruTrace trace = gru_forward(input, batch.step_sizes, w_ih, w_hh, precision());
    benchmark::DoNotOptimize(gru_backward(grad, input, batch.step_sizes, w_ih, w_hh, trace, precision()).weight_hh);
  }
  count_targets(state, shape);
}

void exponentials(benchmark::State& state, const Shape& shape) {
  const int64_t rows = shape.targets;
  const Tensor scores = at::randn({rows, kTile});
  Tensor work = scores.clone();
  std::vector<float> max(rows), sum(rows);
  for (auto _ : state)
    for (int64_t first = 0; first <= shape.items; first += kTile)
      exp_rows(work.data_ptr<float>(), rows, std::min(kTile, shape.items + 1 - first), max.data(), sum.data());
  count_targets(state, shape);
}

void libtorch(benchmark::State& state, const Shape& shape) {
  const Batch batch = batch_of(shape);
  const Tensor items = at::tensor(batch.items), labels = at::tensor(batch.labels);
  torch::nn::GRU gru(torch::nn::GRUOptions(shape.embedding, shape.hidden).bias(false));
  torch::nn::Linear dense(shape.hidden, shape.embedding);
  Tensor table = at::randn({shape.items + 1, shape.embedding}).mul_(0.1).set_requires_grad(true);
  std::vector<Tensor> parameters{table};
  for (const Tensor& p : gru->parameters()) parameters.push_back(p);
  for (const Tensor& p : dense->parameters()) parameters.push_back(p);
  torch::optim::Adam adam(parameters, torch::optim::AdamOptions(1e-3));
  for (auto _ : state) {
    adam.zero_grad();
    const Tensor embedded = at::dropout(at::embedding(table, items), 0.3, true);
    const auto packed = torch::nn::utils::rnn::PackedSequence(embedded, at::tensor(batch.step_sizes), Tensor(), Tensor());
    const Tensor states = std::get<0>(gru->forward_with_packed_input(packed)).data();
    const Tensor queries = dense(states);
    torch::nn::functional::cross_entropy(at::mm(queries, table.t()), labels).backward();
    adam.step();
  }
  count_targets(state, shape);
}

void register_all() {
  for (const Shape& shape : kShapes) {
    const auto add = [&](const char* name, void (*run)(benchmark::State&, const Shape&)) {
      benchmark::RegisterBenchmark((std::string(shape.name) + "/" + name).c_str(), [&shape, run](benchmark::State& state) {
        run(state, shape);
      })->Unit(benchmark::kMillisecond);
    };
    add("step", step);
    add("softmax", softmax);
    add("gru", gru);
    add("products", products);
    add("softmax_products", softmax_products);
    add("gru_products", gru_products);
    add("exp", exponentials);
    add("libtorch", libtorch);
  }
}

}  // namespace
}  // namespace gru4rec

int main(int count, char** arguments) {
  if (!std::getenv("PLAIN_HEAP")) {
    gru4rec::keep_freed_memory();
    gru4rec::grow_heap_in_huge_pages();
  }
  gru4rec::pin_kernels(gru4rec::processor_capability(), 1, /*strict=*/true);
  gru4rec::register_all();
  benchmark::Initialize(&count, arguments);
  if (benchmark::ReportUnrecognizedArguments(count, arguments)) return 2;
  benchmark::RunSpecifiedBenchmarks();
}

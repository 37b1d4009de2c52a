// A training step on one core, beside what it is made of and beside LibTorch: Google Benchmark, run by tests/bench/step.sh in
// random interleaving.
//
//   step       forward, backward and the optimizer's update, as the trainer does them
//   products   the step's own matrix products, each alone: 6·N·V·E of the softmax, GRU, dense
//   exp        one exponential a score, alone
//   libtorch   the same batch through torch::nn::GRU (packed), a dense layer, cross_entropy and torch::optim::Adam
//
// products + exp is the roof: what the processor needs for the arithmetic that no program can leave out.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <benchmark/benchmark.h>
#include <torch/nn/functional/loss.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/rnn.h>
#include <torch/nn/utils/rnn.h>
#include <torch/optim/adam.h>

#include <algorithm>

#include "gru4rec/base/freed_memory.h"
#include "gru4rec/base/random.h"
#include "gru4rec/model/gru4rec.h"
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
  Optimizer optimizer(model.layout(), {});
  std::vector<float> gradient(model.layout().gradient_floats());
  int64_t steps = 0;
  for (auto _ : state) {
    std::fill(gradient.begin(), gradient.end(), 0.0f);
    const LossSum loss = model.forward_backward(batch, {1, 0, steps}, gradient);
    optimizer.step(model.parameters(), gradient, loss.count, ++steps);
  }
  count_targets(state, shape);
}

// a [m, k] · b [k, n], which is how both are read here whatever their layout.
void product(const Tensor& a, const Tensor& b, Tensor& out) { at::mm_out(out, a, b); }

void products(benchmark::State& state, const Shape& shape) {
  const Batch batch = batch_of(shape);
  const int64_t n = shape.targets, e = shape.embedding, h = shape.hidden;
  const Tensor queries = at::randn({n, e}), table = at::randn({shape.items + 1, e});
  const Tensor input = at::randn({n, e}), states = at::randn({n, h}), gates = at::randn({n, 3 * h});
  const Tensor w_ih = at::randn({3 * h, e}), w_hh = at::randn({3 * h, h}), dense = at::randn({e, h});
  Tensor scores = at::empty({n, kTile}), grad_queries = at::empty({n, e}), grad_table = at::zeros_like(table);
  Tensor out_gates = at::empty({n, 3 * h}), out_states = at::empty({n, h}), out_input = at::empty({n, e});
  Tensor grad_ih = at::empty_like(w_ih), grad_hh = at::empty_like(w_hh), grad_dense = at::empty_like(dense);
  for (auto _ : state) {
    for (int64_t first = 0; first < table.size(0); first += kTile) {
      const int64_t rows = std::min(kTile, table.size(0) - first);
      const Tensor items = table.narrow(0, first, rows);
      Tensor tile = scores.view({-1}).narrow(0, 0, n * rows).view({n, rows});
      product(queries, items.t(), tile);
      product(tile, items, grad_queries);
      grad_table.narrow(0, first, rows).addmm_(tile.t(), queries);
    }
    product(input, w_ih.t(), out_gates);
    product(gates, w_ih, out_input);
    product(gates.t(), input, grad_ih);
    int64_t row = 0;
    for (const int64_t running : batch.step_sizes) {
      Tensor forward = out_gates.narrow(0, row, running), backward = out_states.narrow(0, row, running);
      product(states.narrow(0, row, running), w_hh.t(), forward);
      product(gates.narrow(0, row, running), w_hh, backward);
      row += running;
    }
    product(gates.t(), states, grad_hh);
    product(states, dense.t(), out_input);
    product(queries, dense, out_states);
    product(queries.t(), states, grad_dense);
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
    add("products", products);
    add("exp", exponentials);
    add("libtorch", libtorch);
  }
}

}  // namespace
}  // namespace gru4rec

int main(int count, char** arguments) {
  gru4rec::keep_freed_memory();
  gru4rec::pin_kernels(gru4rec::processor_capability(), 1, /*strict=*/true);
  gru4rec::register_all();
  benchmark::Initialize(&count, arguments);
  if (benchmark::ReportUnrecognizedArguments(count, arguments)) return 2;
  benchmark::RunSpecifiedBenchmarks();
}

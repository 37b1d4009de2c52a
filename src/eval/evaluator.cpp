#include "gru4rec/eval/evaluator.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <bit>
#include <span>

#include "gru4rec/base/error.h"
#include "gru4rec/model/device.h"
#include "gru4rec/model/table_blocks.h"

namespace gru4rec {
namespace {

constexpr uint64_t kTileTargets = 256;
constexpr uint64_t kShapesAtOnce = 1 << 16;

// Positions of a session that belong to the split.
struct TargetRange {
  uint32_t first;
  uint32_t last;
};
TargetRange targets_of(const Store::SessionShape& shape, Split split) {
  if (split == Split::valid) return {std::max(1u, shape.train_end), shape.valid_end};
  return {std::max(1u, shape.valid_end), shape.events};
}
uint64_t count_of(const TargetRange& range) { return range.last > range.first ? range.last - range.first : 0; }

// Scores of a chunk against one block, and the rows they belong to.
struct BlockScores {
  RowRange rows;
  at::Tensor scores;  // [queries, rows]
};

std::vector<BlockScores> score_blocks(const at::Tensor& queries, const at::Tensor& table) {
  std::vector<BlockScores> blocks;
  for (int64_t block = 0; block < block_count(table.size(0)); ++block) {
    RowRange rows = block_rows(block, table.size(0));
    if (block == 0) rows.first = 1;  // the padding row is no item
    if (rows.size() == 0) continue;
    blocks.push_back({rows, at::mm(queries, table.narrow(0, rows.first, rows.size()).t())});
  }
  return blocks;
}

struct Count {
  int64_t not_below = 0;
  bool finite = true;
};

// How many of `scores` are not below `threshold`, and whether all are finite (the exponent is not all ones).
Count count_not_below(const float* scores, int64_t size, float threshold) {
  constexpr uint32_t kExponent = 0x7f800000;
  int32_t not_below = 0;
  uint32_t non_finite = 0;
  for (int64_t i = 0; i < size; ++i) {
    not_below += scores[i] >= threshold;
    non_finite |= (std::bit_cast<uint32_t>(scores[i]) & kExponent) == kExponent;
  }
  return {not_below, non_finite == 0};
}

void require_finite(bool finite, const RowRange& rows) {
  if (finite) return;
  throw SurroundingsError(
      "evaluation met a score that is NaN or infinite (rows {}…{} of the item table). The model has diverged: resume from an "
      "earlier checkpoint with a smaller learning_rate or with clip_grad_norm.",
      rows.first, rows.last - 1);
}

int64_t rank_of(const std::vector<BlockScores>& blocks, int64_t query, int64_t label) {
  if (label == 0) return 0;
  const BlockScores* home = nullptr;
  for (const BlockScores& block : blocks)
    if (label >= block.rows.first && label < block.rows.last) home = &block;
  if (!home) throw BugError("target {} is outside the table", label);
  const float target = home->scores.const_data_ptr<float>()[query * home->rows.size() + label - home->rows.first];
  int64_t rank = 0;  // the target is not below itself: it is counted as the 1 of 1 + others
  for (const BlockScores& block : blocks) {
    const Count count =
        count_not_below(block.scores.const_data_ptr<float>() + query * block.rows.size(), block.rows.size(), target);
    require_finite(count.finite, block.rows);
    rank += count.not_below;
  }
  return rank;
}

// rank_of() of all queries, on the device of the scores; fetched from there at once.
std::vector<int64_t> ranks_on_device(const std::vector<BlockScores>& blocks, std::span<const int64_t> labels) {
  for (const int64_t label : labels)
    if (label < 0 || label >= blocks.back().rows.last) throw BugError("target {} is outside the table", label);
  const auto queries = static_cast<int64_t>(labels.size());
  const at::Tensor label =
      uploaded(at::from_blob(const_cast<int64_t*>(labels.data()), {queries}, at::kLong), blocks.front().scores.device());
  const at::Tensor missed = label.eq(0);
  at::Tensor target = at::zeros({queries}, blocks.front().scores.options());
  for (const BlockScores& block : blocks) {
    const at::Tensor place = label - block.rows.first;
    const at::Tensor score = block.scores.gather(1, place.clamp(0, block.rows.size() - 1).unsqueeze(1)).squeeze(1);
    target = at::where(place.ge(0).logical_and_(place.lt(block.rows.size())), score, target);
  }
  at::Tensor rank = at::zeros_like(label);
  std::vector<at::Tensor> finite;  // by block
  for (const BlockScores& block : blocks) {
    rank.add_(block.scores.ge(target.unsqueeze(1)).sum(1));
    finite.push_back(at::isfinite(block.scores).all(1).logical_or_(missed).all());
  }
  rank.masked_fill_(missed, 0);
  const at::Tensor fetched = downloaded(at::cat({rank, at::stack(finite).to(at::kLong)}));
  const int64_t* value = fetched.const_data_ptr<int64_t>();
  for (size_t block = 0; block < blocks.size(); ++block) require_finite(value[labels.size() + block] != 0, blocks[block].rows);
  return {value, value + labels.size()};
}

}  // namespace

std::vector<int64_t> rank_targets(const at::Tensor& queries, const at::Tensor& table, const std::vector<int64_t>& labels) {
  std::vector<int64_t> ranks;
  ranks.reserve(labels.size());
  const int64_t chunk = score_rows_at_once(table.size(0));
  for (int64_t first = 0; first < queries.size(0); first += chunk) {
    const int64_t rows = std::min(chunk, queries.size(0) - first);
    const std::vector<BlockScores> blocks = score_blocks(queries.narrow(0, first, rows), table);
    if (uses_tensor_kernels(queries)) {
      const auto of_chunk = std::span(labels).subspan(static_cast<size_t>(first), static_cast<size_t>(rows));
      const std::vector<int64_t> some = ranks_on_device(blocks, of_chunk);
      ranks.insert(ranks.end(), some.begin(), some.end());
      continue;
    }
    for (int64_t i = 0; i < rows; ++i) ranks.push_back(rank_of(blocks, i, labels[first + i]));
  }
  return ranks;
}

Evaluator::Evaluator(const Store& store, Split split, const EvaluatorOptions& options)
    : store_(store), split_(split), options_(options) {
  Tile tile{0, 0, 0};
  auto close = [&] {
    if (tile.targets > 0) tiles_.push_back(tile);
    targets_ += tile.targets;
    tile = {tile.first_session + tile.sessions, 0, 0};
  };
  for (uint64_t first = 0; first < store.info().sessions; first += kShapesAtOnce) {
    const uint64_t count = std::min(kShapesAtOnce, store.info().sessions - first);
    for (const auto& shape : store.shapes(first, count)) {
      const uint64_t here = count_of(targets_of(shape, split));
      if (here == 0 && tile.targets == 0) {  // tiles begin at a session that counts
        ++tile.first_session;
        continue;
      }
      ++tile.sessions;
      tile.targets += here;
      if (tile.targets >= kTileTargets) close();
    }
  }
  close();
}

std::vector<Segment> Evaluator::segments(const Tile& tile) const {
  std::vector<Segment> result;
  uint64_t session = tile.first_session;
  for (const auto& shape : store_.shapes(tile.first_session, tile.sessions)) {
    const TargetRange range = targets_of(shape, split_);
    if (count_of(range) > 0) {
      if (store_.info().protocol == Protocol::leave_one_out)
        append_prefixes(session, shape, range.first, range.last, options_.max_length, result);
      else
        append_whole(session, shape, range.first, range.last, result);
    }
    ++session;
  }
  return result;
}

RankHistogram Evaluator::run_part(const Gru4Rec& model, int rank, int world,
                                  const std::function<void(const TargetRank&)>& each) const {
  RankHistogram histogram(options_.max_k);
  ItemReader items(store_, ItemReader::kCacheBytes, options_.numbers);
  const Scorer scorer(model);
  const size_t first = tiles_.size() * rank / world;
  const size_t last = tiles_.size() * (rank + 1) / world;
  std::vector<Batch> ahead;
  int64_t targets_ahead = 0;
  for (size_t t = first; t < last; ++t) {
    ahead.push_back(pack(segments(tiles_[t]), items, {}, options_.direction));
    targets_ahead += ahead.back().targets();
    if (targets_ahead < options_.batch_targets && t + 1 < last) continue;
    for (const Batch& batch : ahead) {
      const std::vector<int64_t> ranks = rank_targets(scorer.queries(batch), scorer.table(), batch.labels);
      for (size_t i = 0; i < ranks.size(); ++i) {
        histogram.add(ranks[i]);
        if (each) each({batch.sessions[i], ranks[i]});
      }
    }
    if (progress_) progress_(targets_ahead);
    ahead.clear();
    targets_ahead = 0;
  }
  return histogram;
}

namespace {

// Collective. Runs `local` on every rank; if it failed anywhere, throws on all ranks what the first one that failed has to say.
template <typename Local>
void run_on_all(Communicator& comm, Local&& local) {
  std::string failure;
  int code = kExitDone;
  try {
    local();
  } catch (const std::exception& error) {
    failure = error.what();
    code = exit_code_of(error);
  }
  const std::vector<int> codes = comm.all_gather(code);
  const auto failed = std::find_if(codes.begin(), codes.end(), [](int c) { return c != kExitDone; });
  if (failed == codes.end()) return;
  const int rank = static_cast<int>(failed - codes.begin());
  throw Error(*failed, fmt::format("{}: {}", comm.describe(rank), comm.broadcast_text(rank, failure)));
}

}  // namespace

RankHistogram Evaluator::run(const Gru4Rec& model, Communicator& comm) const {
  RankHistogram mine(options_.max_k);
  run_on_all(comm, [&] { mine = run_part(model, comm.rank(), comm.size()); });
  std::vector<int64_t> values = mine.at;
  values.push_back(mine.targets);
  std::vector<int64_t> all(values.size() * comm.size());
  const std::vector<size_t> counts(comm.size(), values.size());
  comm.all_gather_v(std::span<const int64_t>(values), std::span<const size_t>(counts), std::span<int64_t>(all));
  RankHistogram sum(options_.max_k);
  for (int rank = 0; rank < comm.size(); ++rank) {
    const auto* from = all.data() + rank * values.size();
    for (size_t i = 0; i < sum.at.size(); ++i) sum.at[i] += from[i];
    sum.targets += from[sum.at.size()];
  }
  if (sum.targets != static_cast<int64_t>(targets_))
    throw BugError("{} targets were evaluated, the split has {}", sum.targets, targets_);
  return sum;
}

std::vector<TargetRank> Evaluator::ranks(const Gru4Rec& model, Communicator& comm) const {
  std::vector<TargetRank> mine;
  run_on_all(comm, [&] {
    run_part(model, comm.rank(), comm.size(), [&](const TargetRank& target) { mine.push_back(target); });
    // A tile comes in the order of its packed rows; stable, so that targets of one session keep theirs.
    std::stable_sort(mine.begin(), mine.end(), [](const TargetRank& a, const TargetRank& b) { return a.session < b.session; });
  });
  const std::vector<size_t> counts = comm.all_gather(mine.size());
  size_t total = 0;
  for (size_t count : counts) total += count;
  std::vector<TargetRank> all(total);
  comm.all_gather_v(std::span<const TargetRank>(mine), std::span<const size_t>(counts), std::span<TargetRank>(all));
  if (comm.rank() != 0) all.clear();
  return all;
}

}  // namespace gru4rec

// The plan of an epoch: which segments make which global batch, and how a batch is divided into replica shares.
//
// A store is divided into blocks of consecutive sessions of about 65,536 events. An epoch visits the blocks in a random order,
// 16 at a time (a window, about a million events); the segments of a window are shuffled together and cut into
// global batches. Data of up to 16 blocks is one window, shuffled as a whole. Memory: one window of segments (28 bytes each)
// and one table entry a block, whatever the size of the store.
//
// The segments of global batch b of an epoch are a pure function of (seed, epoch, batch size): replicas and ranks have no part
// in it. A share is a range of the batch in *store order within the window*, but for a segment or two near either end that
// neighbours exchanged to have equal numbers of targets: a step takes as long as the replica with the most. So replica r of R
// draws on about the r-th part of each window, and a rank reads little more than its part of the files.
//
// Local; one thread.
#pragma once

#include <cstdint>
#include <vector>

#include "gru4rec/base/options.h"
#include "gru4rec/data/segment.h"
#include "gru4rec/data/store.h"

namespace gru4rec {

struct PlanOptions {
  uint64_t seed = 0;
  uint64_t batch_targets = 2048;  // targets of a global batch; batches of a window are equal to within one segment
  uint32_t max_length = 50;       // inputs of a segment
  Augmentation augmentation = Augmentation::one_pass;
  uint32_t replicas = 1;
  double recent_fraction = 1.0;   // of the sessions with training targets, those whose training part ends last
  uint64_t block_events = 65536;  // tests make blocks and windows small
  uint64_t window_blocks = 16;
};

class EpochPlan {
 public:
  // Reads the shapes of all sessions once. Throws UserError if the store has no training target. `store` must outlive the plan.
  EpochPlan(const Store& store, const PlanOptions& options);

  // Number of global batches of an epoch.
  uint64_t batches(uint64_t epoch) const;

  // Targets of one epoch: every position [1, train_end) of every session (that is recent enough).
  uint64_t targets() const { return targets_; }

  // The segments of a global batch, in store order within the window.
  std::vector<Segment> batch(uint64_t epoch, uint64_t batch) { return find_batch(epoch, batch); }

  // The part of a global batch that one replica works on. The shares of a batch are disjoint and cover it. Each has the mean
  // number of targets to within one segment, and to within a few targets where shares have many segments of different lengths;
  // a share may be empty.
  std::vector<Segment> share(uint64_t epoch, uint64_t batch, uint32_t replica);

 private:
  struct Block {
    uint64_t first_session;
    uint64_t sessions;
    uint64_t targets;
  };
  const std::vector<Segment>& find_batch(uint64_t epoch, uint64_t batch);  // valid until the next call
  void find_recent();
  bool takes(uint64_t session, const Store::SessionShape& shape) const;
  void build_blocks();
  using BlockList = std::vector<uint64_t>;  // indices into blocks_
  BlockList block_order(uint64_t epoch) const;
  const std::vector<BlockList>& windows(uint64_t epoch) const;
  uint64_t window_batches(const BlockList& blocks) const;
  void load_window(uint64_t epoch, uint64_t window, const BlockList& blocks);

  const Store& store_;
  PlanOptions options_;
  std::vector<bool> recent_;  // by session; empty: all
  std::vector<Block> blocks_;
  uint64_t targets_ = 0;

  mutable uint64_t windows_epoch_ = UINT64_MAX;  // of which windows_ holds the windows
  mutable std::vector<BlockList> windows_;

  // The window in memory.
  uint64_t loaded_epoch_ = UINT64_MAX, loaded_window_ = UINT64_MAX;
  std::vector<std::vector<Segment>> window_;  // by batch

  // The batch that was asked for last.
  uint64_t owners_epoch_ = UINT64_MAX, owners_batch_ = UINT64_MAX;
  std::vector<uint32_t> owners_;
};

}  // namespace gru4rec

// The steps of ingest between reading and writing, on an EventTable. Internal to data/ingest. Local.
#pragma once

#include <bit>
#include <map>
#include <string>
#include <vector>

#include "gru4rec/base/options.h"
#include "gru4rec/data/event_table.h"

namespace gru4rec {

// A session as a range of `events` in Sessions: rows of the table, in time order.
struct SessionSpan {
  uint32_t id;  // code in the table's sessions[part]
  Part part;    // whole for leave_one_out and ratio
  uint64_t first;
  uint64_t count;
};

struct Sessions {
  std::vector<SessionSpan> spans;
  std::vector<uint64_t> events;  // rows; those that no span holds were dropped
  uint64_t event_count() const;  // of the spans
};

// Events dropped, by reason, in the order of the steps.
using Dropped = std::vector<std::pair<std::string, uint64_t>>;

// Where an event comes in the order of time that `order` asks for; those with equal places stay in the order of the file. With
// TimeOrder::recbole two times are equal if they are after normalisation to [0, 1] in float32, which is what RecBole sorts by;
// its bounds are those of the `rows` that the filters left.
class TimeRank {
 public:
  TimeRank(const EventTable& table, TimeOrder order, const std::vector<uint64_t>& rows);
  int64_t of(uint64_t row) const {
    if (order_ == TimeOrder::exact) return table_.time[row];
    const auto normalised = static_cast<float>((static_cast<double>(table_.time[row]) - low_) / width_);
    return std::bit_cast<int32_t>(normalised);  // rises with it, as it is not negative
  }

 private:
  const EventTable& table_;
  TimeOrder order_;
  double low_ = 0, width_ = 1;
};

// Rows that survive steps 1 to 3.
std::vector<uint64_t> filter_events(const EventTable& table, const Options& options, Dropped& dropped);

// Step 4, and the part of each session (step 6's sides of a temporal split).
Sessions form_sessions(const EventTable& table, const Options& options, const TimeRank& time, std::vector<uint64_t> rows);
void assign_parts(const EventTable& table, const Options& options, Sessions& sessions);

// Step 5.
void filter_sessions(const EventTable& table, const Options& options, Sessions& sessions, Dropped& dropped);

// Whole-session splits: training sessions first, then valid, then test, each by time of the last event.
void order_sessions(const TimeRank& time, Sessions& sessions);

// By item code: 1… by first appearance in time order, 0 for items without an event in training. Those that `names` has
// already, which are the first codes, keep their numbers; the names of the others are added.
std::vector<uint32_t> number_items(const EventTable& table, const TimeRank& time, const Sessions& sessions,
                                   std::vector<std::string>& names);

// Step 7.
void drop_unseen_events(const EventTable& table, const Options& options, const std::vector<uint32_t>& item_ids,
                        Sessions& sessions, Dropped& dropped);

}  // namespace gru4rec

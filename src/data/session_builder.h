// The steps of ingest between reading and writing, on an EventTable. Internal to data/ingest. Local.
#pragma once

#include <bit>
#include <string>
#include <utility>
#include <vector>

#include "gru4rec/base/column.h"
#include "gru4rec/base/options.h"
#include "gru4rec/data/columns.h"
#include "gru4rec/data/event_table.h"

namespace gru4rec {

// A session as a range of the events in Sessions, in time order.
struct SessionSpan {
  uint32_t id;  // code in the table's sessions[file]
  Part part;    // whole for leave_one_out and ratio
  Part file;    // where it was read
  uint64_t first;
  uint64_t count;
};
inline bool in_training(const SessionSpan& span) { return span.part == Part::whole || span.part == Part::train; }

// Numbers of rows, of 4 bytes each where these can also count the rows of the table.
class RowNumbers {
 public:
  void resize(uint64_t count, uint64_t table_rows) {
    if (table_rows >= uint64_t{1} << 32)
      wide_.resize(count);
    else
      narrow_.resize(count);
  }
  uint64_t operator[](uint64_t i) const { return wide_.empty() ? narrow_[i] : wide_[i]; }
  void set(uint64_t i, uint64_t row) {
    visit([&]<typename Number>(Column<Number>& numbers) { numbers[i] = static_cast<Number>(row); });
  }
  // Calls use(column) with that of the two that is in use.
  template <typename Use>
  void visit(Use use) {
    if (wide_.empty())
      use(narrow_);
    else
      use(wide_);
  }

 private:
  Column<uint32_t> narrow_;
  Column<uint64_t> wide_;
};

// Events session by session: columns of equal length, so that what follows goes through memory in order. Those that no span
// holds were dropped.
struct Sessions {
  std::vector<SessionSpan> spans;
  RowNumbers row;         // of the table
  Column<uint32_t> item;  // code in the table's items; at last its number in the store
  NearNumbers time;
  uint64_t event_count() const;  // of the spans
};

// Rows of a table, rising: all of them, or those listed.
class Rows {
 public:
  explicit Rows(uint64_t all) : count_(all), all_(true) {}
  explicit Rows(std::vector<uint64_t> listed) : count_(listed.size()), all_(false), listed_(std::move(listed)) {}

  uint64_t size() const { return count_; }
  std::vector<uint64_t> list() &&;

  template <typename Use>
  void for_each(Use use) const {
    for (uint64_t i = 0; i < count_; ++i) use(all_ ? i : listed_[i]);
  }
  template <typename Use>
  void for_each_backwards(Use use) const {
    for (uint64_t i = count_; i > 0; --i) use(all_ ? i - 1 : listed_[i - 1]);
  }

 private:
  uint64_t count_;
  bool all_;
  std::vector<uint64_t> listed_;
};

// Events dropped, by reason, in the order of the steps.
using Dropped = std::vector<std::pair<std::string, uint64_t>>;

// Where an event comes in the order of time that `order` asks for; those with equal places stay in the order of the file. With
// TimeOrder::recbole two times are equal if they are after normalisation to [0, 1] in float32, which is what RecBole sorts by;
// its bounds are those of the `rows` that the filters left.
class TimeRank {
 public:
  TimeRank(const EventTable& table, TimeOrder order, const Rows& rows);
  // Rises with the time, though not strictly.
  int64_t of(int64_t time) const {
    if (order_ == TimeOrder::exact) return time;
    const auto normalised = static_cast<float>((static_cast<double>(time) - low_) / width_);
    return std::bit_cast<int32_t>(normalised);  // rises with it, as it is not negative
  }

 private:
  TimeOrder order_;
  double low_ = 0, width_ = 1;
};

// Rows that survive steps 1 to 3.
Rows filter_events(const EventTable& table, const Options& options, Dropped& dropped);

// Step 4, and the part of each session (step 6's sides of a temporal split). Takes sessions and items out of the table: the
// columns of Sessions lie where they were.
Sessions form_sessions(EventTable& table, const Options& options, const TimeRank& time, Rows rows);
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
void drop_unseen_events(const Options& options, const std::vector<uint32_t>& item_ids, Sessions& sessions, Dropped& dropped);

}  // namespace gru4rec

#include "session_builder.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <tuple>

#include "gru4rec/base/error.h"

namespace gru4rec {
namespace {

constexpr double kSecondsPerDay = 86400;

void note(Dropped& dropped, const std::string& reason, uint64_t events) {
  if (events > 0) dropped.emplace_back(reason, events);
}

// A session's id among all parts: the same text in two files is two sessions.
uint64_t session_key(const EventTable& table, uint64_t row) {
  return static_cast<uint64_t>(table.part[row]) << 32 | table.session[row];
}

// Of the events of a user and item keeps the first or last by exact time, equal times in file order.
void remove_duplicates(const EventTable& table, const Options& options, std::vector<uint64_t>& rows) {
  if (options.rm_dup_inter == DuplicateRule::keep) return;
  const auto pair_of = [&](uint64_t row) { return std::pair(session_key(table, row), table.item[row]); };
  std::sort(rows.begin(), rows.end(), [&](uint64_t a, uint64_t b) {
    return std::tuple(pair_of(a), table.time[a], a) < std::tuple(pair_of(b), table.time[b], b);
  });
  const auto same_pair = [&](uint64_t a, uint64_t b) { return pair_of(a) == pair_of(b); };
  if (options.rm_dup_inter == DuplicateRule::first)
    rows.erase(std::unique(rows.begin(), rows.end(), same_pair), rows.end());
  else
    rows.erase(rows.begin(), std::unique(rows.rbegin(), rows.rend(), same_pair).base());
  std::sort(rows.begin(), rows.end());  // back to file order
}

// Drops the events of users and items with counts outside their intervals until nothing changes (RecBole,
// _filter_by_inter_num).
void filter_by_counts(const EventTable& table, const Options& options, std::vector<uint64_t>& rows, Dropped& dropped) {
  if (options.user_inter_num_interval.empty() && options.item_inter_num_interval.empty()) return;
  uint64_t by_user = 0, by_item = 0;
  while (true) {
    std::vector<uint64_t> users[kParts], items(table.items.size());
    for (size_t part = 0; part < kParts; ++part) users[part].resize(table.sessions[part].size());
    for (uint64_t row : rows) {
      ++users[static_cast<size_t>(table.part[row])][table.session[row]];
      ++items[table.item[row]];
    }
    const auto outside = [](const Intervals& wanted, uint64_t count) {
      return !wanted.empty() && !contained(static_cast<double>(count), wanted);
    };
    const size_t before = rows.size();
    std::erase_if(rows, [&](uint64_t row) {
      const bool bad_user =
          outside(options.user_inter_num_interval, users[static_cast<size_t>(table.part[row])][table.session[row]]);
      const bool bad_item = outside(options.item_inter_num_interval, items[table.item[row]]);
      by_user += bad_user;
      by_item += !bad_user && bad_item;
      return bad_user || bad_item;
    });
    if (rows.size() == before) break;
  }
  note(dropped, "user_inter_num_interval", by_user);
  note(dropped, "item_inter_num_interval", by_item);
}

int64_t end_time(const EventTable& table, const Sessions& sessions, const SessionSpan& span) {
  return table.time[sessions.events[span.first + span.count - 1]];
}

// The last sessions by end time among those in training so far become `part`: those that end after `limit`.
template <typename Belongs>
void move_to(Part part, Sessions& sessions, Belongs belongs) {
  for (SessionSpan& span : sessions.spans)
    if (span.part == Part::train && belongs(span)) span.part = part;
}

// A split by days takes times for seconds.
void check_seconds(const Options& options, int64_t time) {
  constexpr int64_t kYear5138 = 100'000'000'000;
  if (time > kYear5138)
    throw UserError(
        "a split by days needs {} in seconds; {} looks like milli- or microseconds. Convert the column, or split by a fraction "
        "of the sessions.",
        options.TIME_FIELD, time);
}

// Indices of the training sessions by end time, ties by the place of the last event in the file.
std::vector<size_t> training_by_end(const EventTable& table, const Sessions& sessions) {
  std::vector<size_t> order;
  for (size_t i = 0; i < sessions.spans.size(); ++i)
    if (sessions.spans[i].part == Part::train) order.push_back(i);
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    const auto key = [&](size_t i) {
      const SessionSpan& span = sessions.spans[i];
      return std::pair(end_time(table, sessions, span), sessions.events[span.first + span.count - 1]);
    };
    return key(a) < key(b);
  });
  return order;
}

// Compacts spans and events: keep_event says which rows stay; sessions shorter than `shortest` go.
template <typename Keep>
bool compact(Sessions& sessions, uint64_t shortest, Keep keep_event) {
  Sessions kept;
  kept.events.reserve(sessions.events.size());
  for (const SessionSpan& span : sessions.spans) {
    SessionSpan copy{span.id, span.part, kept.events.size(), 0};
    for (uint64_t i = span.first; i < span.first + span.count; ++i)
      if (keep_event(span, i, copy.first < kept.events.size() ? &kept.events.back() : nullptr))
        kept.events.push_back(sessions.events[i]);
    copy.count = kept.events.size() - copy.first;
    if (copy.count >= shortest && copy.count > 0)
      kept.spans.push_back(copy);
    else
      kept.events.erase(kept.events.begin() + static_cast<int64_t>(copy.first), kept.events.end());
  }
  const bool changed = kept.events.size() != sessions.events.size() || kept.spans.size() != sessions.spans.size();
  sessions = std::move(kept);
  return changed;
}

bool in_training(const SessionSpan& span) { return span.part == Part::whole || span.part == Part::train; }

}  // namespace

uint64_t Sessions::event_count() const { return events.size(); }

TimeRank::TimeRank(const EventTable& table, TimeOrder order, const std::vector<uint64_t>& rows) : table_(table), order_(order) {
  if (order_ == TimeOrder::exact || rows.empty()) return;
  const auto [low, high] =
      std::minmax_element(rows.begin(), rows.end(), [&](uint64_t a, uint64_t b) { return table.time[a] < table.time[b]; });
  low_ = static_cast<double>(table.time[*low]);
  width_ = table.time[*high] == table.time[*low] ? 1.0 : static_cast<double>(table.time[*high]) - low_;
}

bool TimeRank::before(uint64_t a, uint64_t b) const {
  if (order_ == TimeOrder::exact) return table_.time[a] < table_.time[b];
  const auto normalised = [&](uint64_t row) {
    return static_cast<float>((static_cast<double>(table_.time[row]) - low_) / width_);
  };
  return normalised(a) < normalised(b);
}

std::vector<uint64_t> filter_events(const EventTable& table, const Options& options, Dropped& dropped) {
  std::vector<uint64_t> rows(table.events());
  std::iota(rows.begin(), rows.end(), 0);
  size_t before = rows.size();
  remove_duplicates(table, options, rows);
  note(dropped, "rm_dup_inter", before - rows.size());
  before = rows.size();
  std::erase_if(rows, [&](uint64_t row) { return !table.in_range[row]; });
  note(dropped, "val_interval", before - rows.size());
  filter_by_counts(table, options, rows, dropped);
  return rows;
}

Sessions form_sessions(const EventTable& table, const Options& options, const TimeRank& time, std::vector<uint64_t> rows) {
  std::stable_sort(rows.begin(), rows.end(), [&](uint64_t a, uint64_t b) {
    const uint64_t key_a = session_key(table, a), key_b = session_key(table, b);
    return key_a != key_b ? key_a < key_b : time.before(a, b);
  });
  Sessions sessions;
  const double gap = options.session_gap * static_cast<double>(table.time_scale);
  for (uint64_t i = 0; i < rows.size(); ++i) {
    const bool same_id = i > 0 && session_key(table, rows[i]) == session_key(table, rows[i - 1]);
    const bool near =
        !(gap > 0) ||
        (same_id && static_cast<double>(table.time[rows[i]]) - static_cast<double>(table.time[rows[i - 1]]) <= gap);
    if (!same_id || !near) sessions.spans.push_back({table.session[rows[i]], table.part[rows[i]], i, 0});
    ++sessions.spans.back().count;
  }
  sessions.events = std::move(rows);
  return sessions;
}

void assign_parts(const EventTable& table, const Options& options, Sessions& sessions) {
  const SplitOptions& split = options.split;
  if (split.kind == SplitKind::leave_one_out || split.kind == SplitKind::ratio) return;
  for (SessionSpan& span : sessions.spans)
    if (span.part == Part::whole) span.part = Part::train;
  if (split.temporal_days) {
    int64_t last = std::numeric_limits<int64_t>::min();
    for (const SessionSpan& span : sessions.spans)
      if (span.part == Part::train) last = std::max(last, end_time(table, sessions, span));
    check_seconds(options, last / table.time_scale);
    const auto after = [&](double days) {
      return [&, days](const SessionSpan& span) {
        return static_cast<double>(end_time(table, sessions, span)) >
               static_cast<double>(last) - days * kSecondsPerDay * static_cast<double>(table.time_scale);
      };
    };
    if (split.temporal_test > 0) move_to(Part::test, sessions, after(split.temporal_test));
    if (split.temporal_valid > 0) move_to(Part::valid, sessions, after(split.temporal_test + split.temporal_valid));
    return;
  }
  const std::vector<size_t> order = training_by_end(table, sessions);
  const auto total = static_cast<double>(order.size());
  const auto test = static_cast<size_t>(total * split.temporal_test);
  const auto valid = static_cast<size_t>(total * split.temporal_valid);
  for (size_t i = 0; i < test; ++i) sessions.spans[order[order.size() - 1 - i]].part = Part::test;
  for (size_t i = test; i < test + valid; ++i) sessions.spans[order[order.size() - 1 - i]].part = Part::valid;
}

void filter_sessions(const EventTable& table, const Options& options, Sessions& sessions, Dropped& dropped) {
  uint64_t merged = 0, rare = 0, total = sessions.event_count();
  const uint64_t before = total;
  while (true) {
    std::vector<uint64_t> support(table.items.size());
    for (const SessionSpan& span : sessions.spans)
      if (in_training(span))
        for (uint64_t i = span.first; i < span.first + span.count; ++i) ++support[table.item[sessions.events[i]]];
    // Items of valid and test that training has too rarely are unseen there, not dropped: drop_unseen decides about them.
    const bool changed = compact(sessions, static_cast<uint64_t>(options.min_session_length),
                                 [&](const SessionSpan& span, uint64_t i, const uint64_t* previous) {
                                   const uint32_t item = table.item[sessions.events[i]];
                                   if (in_training(span) && support[item] < static_cast<uint64_t>(options.min_item_support)) {
                                     ++rare;
                                     return false;
                                   }
                                   if (options.merge_repeats && previous && table.item[*previous] == item) {
                                     ++merged;
                                     return false;
                                   }
                                   return true;
                                 });
    if (!changed) break;
  }
  total = before - sessions.event_count();
  note(dropped, "merge_repeats", merged);
  note(dropped, "min_item_support", rare);
  note(dropped, "min_session_length", total - merged - rare);
}

void order_sessions(const TimeRank& time, Sessions& sessions) {
  const auto last = [&](const SessionSpan& span) { return sessions.events[span.first + span.count - 1]; };
  std::sort(sessions.spans.begin(), sessions.spans.end(), [&](const SessionSpan& a, const SessionSpan& b) {
    if (a.part != b.part) return a.part < b.part;
    if (time.before(last(a), last(b))) return true;
    if (time.before(last(b), last(a))) return false;
    return last(a) < last(b);
  });
}

std::vector<uint32_t> number_items(const EventTable& table, const TimeRank& time, const Sessions& sessions,
                                   std::vector<std::string>& names) {
  constexpr uint64_t kNever = std::numeric_limits<uint64_t>::max();
  const auto earlier = [&](uint64_t a, uint64_t b) { return time.before(a, b) || (!time.before(b, a) && a < b); };
  std::vector<uint64_t> first(table.items.size(), kNever);  // row of each item's first event in training
  for (const SessionSpan& span : sessions.spans) {
    if (!in_training(span)) continue;
    for (uint64_t i = span.first; i < span.first + span.count; ++i) {
      const uint64_t row = sessions.events[i];
      uint64_t& so_far = first[table.item[row]];
      if (so_far == kNever || earlier(row, so_far)) so_far = row;
    }
  }
  std::erase(first, kNever);
  std::sort(first.begin(), first.end(), earlier);
  std::vector<uint32_t> ids(table.items.size(), 0);
  for (uint64_t row : first) {
    names.push_back(table.items.text(table.item[row]));
    ids[table.item[row]] = static_cast<uint32_t>(names.size());
  }
  return ids;
}

void drop_unseen_events(const EventTable& table, const Options& options, const std::vector<uint32_t>& item_ids,
                        Sessions& sessions, Dropped& dropped) {
  const uint64_t before = sessions.event_count();
  // Training sessions have no unseen items; what their neighbours leave behind in valid and test obeys the filters of step 5.
  compact(sessions, static_cast<uint64_t>(options.min_session_length),
          [&](const SessionSpan&, uint64_t i, const uint64_t* previous) {
            const uint32_t item = table.item[sessions.events[i]];
            return item_ids[item] != 0 && !(options.merge_repeats && previous && table.item[*previous] == item);
          });
  note(dropped, "drop_unseen", before - sessions.event_count());
}

}  // namespace gru4rec

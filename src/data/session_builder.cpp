#include "session_builder.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <tuple>
#include <utility>

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

// Rows by the session's key, those of one session in the order they came in: counts, then each row to its place.
std::vector<uint64_t> grouped_by_session(const EventTable& table, std::vector<uint64_t> rows) {
  std::vector<uint64_t> next[kParts];  // [part][code] how many rows, then where its next row goes
  for (size_t part = 0; part < kParts; ++part) next[part].resize(table.sessions[part].size());
  const auto of = [&](uint64_t row) -> uint64_t& { return next[static_cast<size_t>(table.part[row])][table.session[row]]; };
  for (uint64_t row : rows) ++of(row);
  uint64_t first = 0;
  for (std::vector<uint64_t>& part : next)
    for (uint64_t& place : part) first += std::exchange(place, first);
  std::vector<uint64_t> grouped(rows.size());
  for (uint64_t row : rows) grouped[of(row)++] = row;
  return grouped;
}

void sort_by_time(const TimeRank& time, std::vector<uint64_t>& rows, uint64_t first, uint64_t end) {
  const auto begin = rows.begin() + static_cast<int64_t>(first), stop = rows.begin() + static_cast<int64_t>(end);
  const auto earlier = [&](uint64_t a, uint64_t b) { return time.of(a) < time.of(b); };
  if (!std::is_sorted(begin, stop, earlier)) std::stable_sort(begin, stop, earlier);
}

// Spans by what they are ordered by: a time, and for equal ones the place of the last event in the file.
struct SpanPlace {
  int64_t time;
  uint64_t last_row;
  uint64_t span;
  auto operator<=>(const SpanPlace&) const = default;
};

uint64_t last_row(const Sessions& sessions, const SessionSpan& span) { return sessions.events[span.first + span.count - 1]; }

template <typename TimeOf>
std::vector<SpanPlace> places_of(const Sessions& sessions, Part part, TimeOf time_of) {
  std::vector<SpanPlace> places;
  for (uint64_t i = 0; i < sessions.spans.size(); ++i) {
    if (sessions.spans[i].part != part) continue;
    const uint64_t row = last_row(sessions, sessions.spans[i]);
    places.push_back({time_of(row), row, i});
  }
  return places;
}

int64_t end_time(const EventTable& table, const Sessions& sessions, const SessionSpan& span) {
  return table.time[last_row(sessions, span)];
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

// Drops events and sessions, each session within its own range of the events: keep_event says which rows stay, given the one
// kept before it in the session or null; sessions shorter than `shortest` go. Returns whether anything went.
template <typename Keep>
bool compact(Sessions& sessions, uint64_t shortest, Keep keep_event) {
  auto& [spans, events] = sessions;
  uint64_t spans_kept = 0;
  bool changed = false;
  for (const SessionSpan& span : spans) {
    const uint64_t end = span.first + span.count;
    uint64_t kept = span.first;
    for (uint64_t i = span.first; i < end; ++i)
      if (keep_event(span, events[i], kept > span.first ? &events[kept - 1] : nullptr)) events[kept++] = events[i];
    const uint64_t count = kept - span.first;
    const bool stays = count >= shortest && count > 0;
    changed = changed || !stays || kept < end;
    if (stays) spans[spans_kept++] = {span.id, span.part, span.first, count};
  }
  spans.resize(spans_kept);
  return changed;
}

bool in_training(const SessionSpan& span) { return span.part == Part::whole || span.part == Part::train; }

// [item] events in training.
std::vector<uint64_t> training_support(const EventTable& table, const Sessions& sessions) {
  std::vector<uint64_t> support(table.items.size());
  for (const SessionSpan& span : sessions.spans)
    if (in_training(span))
      for (uint64_t i = span.first; i < span.first + span.count; ++i) ++support[table.item[sessions.events[i]]];
  return support;
}

}  // namespace

uint64_t Sessions::event_count() const {
  uint64_t count = 0;
  for (const SessionSpan& span : spans) count += span.count;
  return count;
}

TimeRank::TimeRank(const EventTable& table, TimeOrder order, const std::vector<uint64_t>& rows) : table_(table), order_(order) {
  if (order_ == TimeOrder::exact || rows.empty()) return;
  const auto [low, high] =
      std::minmax_element(rows.begin(), rows.end(), [&](uint64_t a, uint64_t b) { return table.time[a] < table.time[b]; });
  low_ = static_cast<double>(table.time[*low]);
  width_ = table.time[*high] == table.time[*low] ? 1.0 : static_cast<double>(table.time[*high]) - low_;
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
  Sessions sessions;
  sessions.events = grouped_by_session(table, std::move(rows));
  const std::vector<uint64_t>& events = sessions.events;
  const double gap = options.session_gap * static_cast<double>(table.time_scale);
  const auto far = [&](uint64_t a, uint64_t b) {
    if (b == a + 1 && b < table.goes_on.size() && table.goes_on[b]) return false;
    return gap > 0 && static_cast<double>(table.time[b]) - static_cast<double>(table.time[a]) > gap;
  };
  for (uint64_t first = 0, end = 0; first < events.size(); first = end) {
    const uint64_t key = session_key(table, events[first]);
    while (end < events.size() && session_key(table, events[end]) == key) ++end;
    sort_by_time(time, sessions.events, first, end);
    for (uint64_t i = first; i < end; ++i) {
      if (i == first || far(events[i - 1], events[i]))
        sessions.spans.push_back({table.session[events[i]], table.part[events[i]], i, 0});
      ++sessions.spans.back().count;
    }
  }
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
  std::vector<SpanPlace> places = places_of(sessions, Part::train, [&](uint64_t row) { return table.time[row]; });
  const auto total = static_cast<double>(places.size());
  const auto move_last = [&](Part part, double share) {  // and forgets them
    const auto first = places.end() - static_cast<int64_t>(total * share);
    std::nth_element(places.begin(), first, places.end());
    std::for_each(first, places.end(), [&](const SpanPlace& place) { sessions.spans[place.span].part = part; });
    places.erase(first, places.end());
  };
  move_last(Part::test, split.temporal_test);
  move_last(Part::valid, split.temporal_valid);
}

void filter_sessions(const EventTable& table, const Options& options, Sessions& sessions, Dropped& dropped) {
  uint64_t merged = 0, rare = 0, total = sessions.event_count();
  const uint64_t before = total;
  const auto least_support = static_cast<uint64_t>(options.min_item_support);
  const bool by_support = least_support > 1;
  bool again = true;
  while (again) {
    const std::vector<uint64_t> support = by_support ? training_support(table, sessions) : std::vector<uint64_t>();
    // Items of valid and test that training has too rarely are unseen there, not dropped: drop_unseen decides about them.
    const bool changed = compact(sessions, static_cast<uint64_t>(options.min_session_length),
                                 [&](const SessionSpan& span, uint64_t row, const uint64_t* previous) {
                                   const uint32_t item = table.item[row];
                                   if (by_support && in_training(span) && support[item] < least_support) {
                                     ++rare;
                                     return false;
                                   }
                                   if (options.merge_repeats && previous && table.item[*previous] == item) {
                                     ++merged;
                                     return false;
                                   }
                                   return true;
                                 });
    again = changed && by_support;  // what goes changes nothing but the support of others
  }
  total = before - sessions.event_count();
  note(dropped, "merge_repeats", merged);
  note(dropped, "min_item_support", rare);
  note(dropped, "min_session_length", total - merged - rare);
}

void order_sessions(const TimeRank& time, Sessions& sessions) {
  std::vector<SessionSpan> ordered;
  ordered.reserve(sessions.spans.size());
  for (Part part : {Part::whole, Part::train, Part::valid, Part::test}) {
    std::vector<SpanPlace> places = places_of(sessions, part, [&](uint64_t row) { return time.of(row); });
    std::sort(places.begin(), places.end());
    for (const SpanPlace& place : places) ordered.push_back(sessions.spans[place.span]);
  }
  sessions.spans = std::move(ordered);
}

std::vector<uint32_t> number_items(const EventTable& table, const TimeRank& time, const Sessions& sessions,
                                   std::vector<std::string>& names) {
  struct First {
    int64_t time;
    uint64_t row = UINT64_MAX;  // of no event in training
    auto operator<=>(const First&) const = default;
  };
  std::vector<First> firsts(table.items.size(), {std::numeric_limits<int64_t>::max()});
  for (const SessionSpan& span : sessions.spans) {
    if (!in_training(span)) continue;
    for (uint64_t i = span.first; i < span.first + span.count; ++i) {
      const uint64_t row = sessions.events[i];
      First& first = firsts[table.item[row]];
      first = std::min(first, {time.of(row), row});
    }
  }
  std::erase_if(firsts, [](const First& first) { return first.row == UINT64_MAX; });
  std::sort(firsts.begin(), firsts.end());
  std::vector<uint32_t> ids(table.items.size(), 0);
  const size_t known = names.size();
  for (size_t item = 0; item < known; ++item) ids[item] = static_cast<uint32_t>(item) + 1;
  for (const First& first : firsts) {
    const uint32_t item = table.item[first.row];
    if (item < known) continue;
    names.push_back(table.items.text(item));
    ids[item] = static_cast<uint32_t>(names.size());
  }
  return ids;
}

void drop_unseen_events(const EventTable& table, const Options& options, const std::vector<uint32_t>& item_ids,
                        Sessions& sessions, Dropped& dropped) {
  const uint64_t before = sessions.event_count();
  // Training sessions have no unseen items; what their neighbours leave behind in valid and test obeys the filters of step 5.
  compact(sessions, static_cast<uint64_t>(options.min_session_length),
          [&](const SessionSpan&, uint64_t row, const uint64_t* previous) {
            const uint32_t item = table.item[row];
            return item_ids[item] != 0 && !(options.merge_repeats && previous && table.item[*previous] == item);
          });
  note(dropped, "drop_unseen", before - sessions.event_count());
}

}  // namespace gru4rec

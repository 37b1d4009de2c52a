#include "session_builder.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <ranges>
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

// Events session by session, those of one session in the order they came in, and a span each of the sessions that have events.
// The sessions are in the order of their last rows: of a file in the order of time this is that of a store, so that the steps
// that follow, which go by the order of sessions, go through memory in order. A column of the table that has been read makes
// room for one of the sessions.
Sessions grouped_by_session(EventTable& table, const Rows& rows) {
  Sessions sessions;
  sessions.row.resize(rows.size(), table.events());
  sessions.row.visit([&]<typename Number>(Column<Number>& numbers) {
    std::vector<Number> next[kParts];  // [part][code] how many events, then where its next one goes
    for (size_t part = 0; part < kParts; ++part) next[part].resize(table.sessions[part].size());
    const auto of = [&](uint64_t row) -> Number& { return next[static_cast<size_t>(table.part[row])][table.session[row]]; };
    std::vector<Number> last_rows;  // falling
    rows.for_each_backwards([&](uint64_t row) {
      if (of(row)++ == 0) last_rows.push_back(static_cast<Number>(row));
    });
    sessions.spans.reserve(last_rows.size());
    Number first = 0;
    for (const uint64_t row : std::views::reverse(last_rows)) {
      const Number count = std::exchange(of(row), first);
      sessions.spans.push_back({table.session[row], table.part[row], table.part[row], first, count});
      first += count;
    }
    rows.for_each([&](uint64_t row) { numbers[of(row)++] = static_cast<Number>(row); });
    sessions.item = std::exchange(table.session, {});
    sessions.item.resize(rows.size());
    for (size_t place = 0; place < numbers.size(); ++place) sessions.item[place] = table.item[numbers[place]];
    sessions.time = NearNumbers(table.time, numbers, std::exchange(table.item, {}));
  });
  return sessions;
}

// Events [first, end), those of equal rank as they are.
void sort_by_time(const TimeRank& time, Sessions& sessions, uint64_t first, uint64_t end) {
  if (sessions.time.rise(first, end)) return;  // and so do the ranks
  struct Event {
    int64_t rank;
    uint64_t number;  // in the session
    uint64_t row;
    uint32_t item;
    int64_t time;
  };
  std::vector<Event> events;
  events.reserve(end - first);
  for (uint64_t i = first; i < end; ++i)
    events.push_back({time.of(sessions.time[i]), i - first, sessions.row[i], sessions.item[i], sessions.time[i]});
  std::ranges::sort(events, {}, [](const Event& event) { return std::pair(event.rank, event.number); });
  for (uint64_t i = first; const Event& event : events) {
    sessions.row.set(i, event.row);
    sessions.item[i] = event.item;
    sessions.time.set(i++, event.time);
  }
}

// Sessions between whose events more time lies than session_gap become several.
void divide_at_gaps(const EventTable& table, const Options& options, Sessions& sessions) {
  const double gap = options.session_gap * static_cast<double>(table.time_scale);
  const auto far = [&](uint64_t a, uint64_t b) {
    const uint64_t row = sessions.row[b];
    if (row == sessions.row[a] + 1 && row < table.goes_on.size() && table.goes_on[row]) return false;
    return static_cast<double>(sessions.time[b]) - static_cast<double>(sessions.time[a]) > gap;
  };
  std::vector<SessionSpan> divided;
  for (const SessionSpan& span : sessions.spans)
    for (uint64_t i = span.first; i < span.first + span.count; ++i) {
      if (i == span.first || far(i - 1, i)) divided.push_back({span.id, span.part, span.file, i, 0});
      ++divided.back().count;
    }
  sessions.spans = std::move(divided);
}

// Spans by what they are ordered by: a time, and for equal ones the place of the last event in the file.
struct SpanPlace {
  int64_t time;
  uint64_t last_row;
  uint64_t span;
  auto operator<=>(const SpanPlace&) const = default;
};

int64_t end_time(const Sessions& sessions, const SessionSpan& span) { return sessions.time[span.first + span.count - 1]; }
uint64_t last_row(const Sessions& sessions, const SessionSpan& span) { return sessions.row[span.first + span.count - 1]; }

template <typename TimeOf>
std::vector<SpanPlace> places_of(const Sessions& sessions, Part part, TimeOf time_of) {
  std::vector<SpanPlace> places;
  places.reserve(sessions.spans.size());
  for (uint64_t i = 0; i < sessions.spans.size(); ++i) {
    const SessionSpan& span = sessions.spans[i];
    if (span.part != part) continue;
    places.push_back({time_of(end_time(sessions, span)), last_row(sessions, span), i});
  }
  return places;
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

// Drops events and sessions, each session within its own range of the events: keep_item says whether an event stays, given its
// item and that of the one kept before it in the session, or null; sessions shorter than `shortest` go. Returns whether
// anything went.
template <typename Keep>
bool compact(Sessions& sessions, uint64_t shortest, Keep keep_item) {
  auto& [spans, row, item, time] = sessions;
  uint64_t spans_kept = 0;
  bool changed = false;
  for (const SessionSpan& span : spans) {
    const uint64_t end = span.first + span.count;
    uint64_t kept = span.first;
    for (uint64_t i = span.first; i < end; ++i) {
      if (!keep_item(span, item[i], kept > span.first ? &item[kept - 1] : nullptr)) continue;
      row.set(kept, row[i]);
      item[kept] = item[i];
      time.set(kept++, time[i]);
    }
    const uint64_t count = kept - span.first;
    const bool stays = count >= shortest && count > 0;
    changed = changed || !stays || kept < end;
    if (stays) spans[spans_kept++] = {span.id, span.part, span.file, span.first, count};
  }
  spans.resize(spans_kept);
  return changed;
}

// [item] events in training.
std::vector<uint64_t> training_support(const EventTable& table, const Sessions& sessions) {
  std::vector<uint64_t> support(table.items.size());
  for (const SessionSpan& span : sessions.spans)
    if (in_training(span))
      for (uint64_t i = span.first; i < span.first + span.count; ++i) ++support[sessions.item[i]];
  return support;
}

}  // namespace

uint64_t Sessions::event_count() const {
  uint64_t count = 0;
  for (const SessionSpan& span : spans) count += span.count;
  return count;
}

std::vector<uint64_t> Rows::list() && {
  if (all_) {
    listed_.resize(count_);
    std::iota(listed_.begin(), listed_.end(), 0);
  }
  return std::move(listed_);
}

TimeRank::TimeRank(const EventTable& table, TimeOrder order, const Rows& rows) : order_(order) {
  if (order_ == TimeOrder::exact || rows.size() == 0) return;
  int64_t low = std::numeric_limits<int64_t>::max(), high = std::numeric_limits<int64_t>::min();
  rows.for_each([&](uint64_t row) {
    low = std::min(low, table.time[row]);
    high = std::max(high, table.time[row]);
  });
  low_ = static_cast<double>(low);
  width_ = high == low ? 1.0 : static_cast<double>(high) - low_;
}

Rows filter_events(const EventTable& table, const Options& options, Dropped& dropped) {
  if (options.rm_dup_inter == DuplicateRule::keep && table.in_range.all(true) && options.user_inter_num_interval.empty() &&
      options.item_inter_num_interval.empty())
    return Rows(table.events());
  std::vector<uint64_t> rows = Rows(table.events()).list();
  size_t before = rows.size();
  if (options.rm_dup_inter != DuplicateRule::keep) remove_duplicates(table, options, rows);
  note(dropped, "rm_dup_inter", before - rows.size());
  before = rows.size();
  std::erase_if(rows, [&](uint64_t row) { return !table.in_range[row]; });
  note(dropped, "val_interval", before - rows.size());
  filter_by_counts(table, options, rows, dropped);
  return Rows(std::move(rows));
}

Sessions form_sessions(EventTable& table, const Options& options, const TimeRank& time, Rows rows) {
  Sessions sessions = grouped_by_session(table, rows);
  rows = Rows(0);  // memory that the next steps may have
  for (const SessionSpan& span : sessions.spans) sort_by_time(time, sessions, span.first, span.first + span.count);
  if (options.session_gap > 0) divide_at_gaps(table, options, sessions);
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
      if (span.part == Part::train) last = std::max(last, end_time(sessions, span));
    check_seconds(options, last / table.time_scale);
    const auto after = [&](double days) {
      return [&, days](const SessionSpan& span) {
        return static_cast<double>(end_time(sessions, span)) >
               static_cast<double>(last) - days * kSecondsPerDay * static_cast<double>(table.time_scale);
      };
    };
    if (split.temporal_test > 0) move_to(Part::test, sessions, after(split.temporal_test));
    if (split.temporal_valid > 0) move_to(Part::valid, sessions, after(split.temporal_test + split.temporal_valid));
    return;
  }
  auto training = sessions.spans | std::views::filter([](const SessionSpan& span) { return span.part == Part::train; });
  const auto total = static_cast<double>(std::ranges::distance(training));
  const auto place_of = [&](const SessionSpan& span) { return std::pair(end_time(sessions, span), last_row(sessions, span)); };
  const bool in_order = std::ranges::is_sorted(training, {}, place_of);
  std::vector<SpanPlace> places;
  if (!in_order) places = places_of(sessions, Part::train, std::identity());
  const auto move_last = [&](Part part, double share) {  // and forgets their places
    auto count = static_cast<int64_t>(total * share);
    if (in_order) {
      for (auto span = sessions.spans.rbegin(); count > 0; ++span)
        if (span->part == Part::train) span->part = part, --count;
      return;
    }
    const auto first = places.end() - count;
    std::nth_element(places.begin(), first, places.end());
    std::for_each(first, places.end(), [&](const SpanPlace& place) { sessions.spans[place.span].part = part; });
    places.erase(first, places.end());
  };
  move_last(Part::test, split.temporal_test);
  move_last(Part::valid, split.temporal_valid);
}

void filter_sessions(const EventTable& table, const Options& options, Sessions& sessions, Dropped& dropped) {
  uint64_t merged = 0, rare = 0, too_short = 0;
  const auto least_support = static_cast<uint64_t>(options.min_item_support);
  const bool by_support = least_support > 1;
  bool again = by_support || options.merge_repeats;
  const uint64_t before = again ? sessions.event_count() : 0;
  if (!again)
    std::erase_if(sessions.spans, [&](const SessionSpan& span) {
      const bool goes = span.count < static_cast<uint64_t>(options.min_session_length);
      if (goes) too_short += span.count;
      return goes;
    });
  while (again) {
    const std::vector<uint64_t> support = by_support ? training_support(table, sessions) : std::vector<uint64_t>();
    // Items of valid and test that training has too rarely are unseen there, not dropped: drop_unseen decides about them.
    const bool changed = compact(sessions, static_cast<uint64_t>(options.min_session_length),
                                 [&](const SessionSpan& span, uint32_t item, const uint32_t* previous) {
                                   if (by_support && in_training(span) && support[item] < least_support) {
                                     ++rare;
                                     return false;
                                   }
                                   if (options.merge_repeats && previous && *previous == item) {
                                     ++merged;
                                     return false;
                                   }
                                   return true;
                                 });
    again = changed && by_support;  // what goes changes nothing but the support of others
    if (!again) too_short = before - sessions.event_count() - merged - rare;
  }
  note(dropped, "merge_repeats", merged);
  note(dropped, "min_item_support", rare);
  note(dropped, "min_session_length", too_short);
}

void order_sessions(const TimeRank& time, Sessions& sessions) {
  const auto place_of = [&](const SessionSpan& span) {
    return std::tuple(span.part, time.of(end_time(sessions, span)), last_row(sessions, span));
  };
  if (std::ranges::is_sorted(sessions.spans, {}, place_of)) return;
  std::vector<SessionSpan> ordered;
  ordered.reserve(sessions.spans.size());
  for (Part part : {Part::whole, Part::train, Part::valid, Part::test}) {
    std::vector<SpanPlace> places = places_of(sessions, part, [&](int64_t when) { return time.of(when); });
    std::sort(places.begin(), places.end());
    for (const SpanPlace& place : places) ordered.push_back(sessions.spans[place.span]);
  }
  sessions.spans = std::move(ordered);
}

std::vector<uint32_t> number_items(const EventTable& table, const TimeRank& time, const Sessions& sessions,
                                   std::vector<std::string>& names) {
  struct First {
    int64_t time = std::numeric_limits<int64_t>::max();
    uint64_t row = UINT64_MAX;  // of no event in training
  };
  const auto place_of = [&](const First& first) { return std::pair(time.of(first.time), first.row); };
  std::vector<First> firsts(table.items.size());
  for (const SessionSpan& span : sessions.spans) {
    if (!in_training(span)) continue;
    for (uint64_t i = span.first; i < span.first + span.count; ++i) {
      First& first = firsts[sessions.item[i]];
      const First other{sessions.time[i], sessions.row[i]};
      if (other.time >= first.time && other.row >= first.row) continue;  // and so is the rank of its time
      if (first.row == UINT64_MAX || place_of(other) < place_of(first)) first = other;
    }
  }
  struct Appearance {
    std::pair<int64_t, uint64_t> place;
    uint32_t item;
  };
  std::vector<Appearance> order;
  order.reserve(firsts.size());
  for (uint32_t item = 0; item < firsts.size(); ++item)
    if (firsts[item].row != UINT64_MAX) order.push_back({place_of(firsts[item]), item});
  std::ranges::sort(order, {}, &Appearance::place);
  std::vector<uint32_t> ids(table.items.size(), 0);
  const size_t known = names.size();
  names.reserve(known + order.size());
  for (size_t item = 0; item < known; ++item) ids[item] = static_cast<uint32_t>(item) + 1;
  for (const Appearance& first : order) {
    if (first.item < known) continue;
    names.push_back(table.items.text(first.item));
    ids[first.item] = static_cast<uint32_t>(names.size());
  }
  return ids;
}

void drop_unseen_events(const Options& options, const std::vector<uint32_t>& item_ids, Sessions& sessions, Dropped& dropped) {
  const uint64_t before = sessions.event_count();
  // Training sessions have no unseen items; what their neighbours leave behind in valid and test obeys the filters of step 5.
  compact(sessions, static_cast<uint64_t>(options.min_session_length),
          [&](const SessionSpan&, uint32_t item, const uint32_t* previous) {
            return item_ids[item] != 0 && !(options.merge_repeats && previous && *previous == item);
          });
  note(dropped, "drop_unseen", before - sessions.event_count());
}

}  // namespace gru4rec

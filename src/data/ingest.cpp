#include "gru4rec/data/ingest.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <numeric>
#include <ranges>
#include <utility>

#include "gru4rec/base/config.h"
#include "gru4rec/base/error.h"
#include "ingest_steps.h"

namespace gru4rec {
namespace {

namespace fs = std::filesystem;

}  // namespace

std::vector<InputFile> input_files(const Options& options) {
  const fs::path folder(options.data_path);
  std::vector<InputFile> files;
  if (!options.benchmark_filename.empty()) {
    const Part parts[] = {Part::train, Part::valid, Part::test};
    for (size_t i = 0; i < options.benchmark_filename.size() && i < 3; ++i)
      files.push_back(
          {folder / options.dataset / fmt::format("{}.{}.inter", options.dataset, options.benchmark_filename[i]), parts[i]});
  } else if (options.train_file.empty()) {
    files.push_back({folder / options.dataset / (options.dataset + ".inter"), Part::whole});
  } else {
    const bool divided = !options.valid_file.empty() || !options.test_file.empty();
    files.push_back({folder / options.train_file, divided ? Part::train : Part::whole});
    if (!options.valid_file.empty()) files.push_back({folder / options.valid_file, Part::valid});
    if (!options.test_file.empty()) files.push_back({folder / options.test_file, Part::test});
  }
  return files;
}

namespace {

// Files made for train, valid and test are their own split, whatever eval_args says of one file.
Options with_split_of_files(Options options, const std::vector<InputFile>& files) {
  if (files.size() > 1 && options.split.kind != SplitKind::files) {
    options.split = {};
    options.split.kind = SplitKind::files;
  }
  if (!options.valid_file.empty() && options.split.temporal_valid > 0)
    throw UserError(
        "valid is given twice: as valid_file {} and as the last training sessions by eval_args. Leave out one of them.",
        options.valid_file);
  if (files.size() == 1 && options.split.kind == SplitKind::files && options.split.temporal_valid == 0)
    throw UserError(
        "eval_args says that train, valid and test are given as files, but only {} is. Name test_file or valid_file, or "
        "choose another split.",
        files.front().path.string());
  return options;
}

}  // namespace

void read_files(const Options& options, const std::vector<InputFile>& files, EventTable& table, const ReadProgress& progress) {
  const EventFormat format{
      .session_column = options.SESSION_ID_FIELD.empty() ? options.USER_ID_FIELD : options.SESSION_ID_FIELD,
      .item_column = options.ITEM_ID_FIELD,
      .time_column = options.TIME_FIELD,
      .val_interval = options.val_interval,
      .separator = options.field_separator.front()};
  for (const InputFile& file : files) read_events(file.path, file.part, format, table, progress);
}

namespace {

// How many of a session's targets are valid and test with RS, as RecBole counts (dataset.py, _calcu_split_ids): valid and test
// are rounded down and the rest is train, but a part that would get nothing takes one from train, test first, while train has
// more than one.
std::pair<uint32_t, uint32_t> ratio_counts(const std::vector<double>& ratio, uint32_t targets) {
  const double total = std::accumulate(ratio.begin(), ratio.end(), 0.0);
  uint32_t counts[3];  // train, valid, test
  for (size_t i : {1, 2}) counts[i] = static_cast<uint32_t>(ratio[i] / total * targets);
  counts[0] = targets - counts[1] - counts[2];
  for (size_t i : {2, 1}) {
    if (counts[0] <= 1) break;
    const double share = ratio[i] / total * targets;
    if (share > 0 && share < 1) ++counts[i], --counts[0];
  }
  return {counts[1], counts[2]};
}

struct Cuts {
  uint32_t train_end;
  uint32_t valid_end;
};

// Where the targets of a session are divided; see data/store.h.
Cuts cuts_of(const SplitOptions& split, Part part, uint64_t events) {
  const auto n = static_cast<uint32_t>(events);
  switch (part) {
    case Part::train:
      return {n, n};
    case Part::valid:
      return {1, n};
    case Part::test:
      return {1, 1};
    case Part::whole:
      break;
  }
  if (n <= 2) return {n, n};
  if (split.kind == SplitKind::leave_one_out) return n == 3 ? Cuts{2, 2} : Cuts{n - 2, n - 1};
  const auto [valid, test] = ratio_counts(split.ratio, n - 1);
  return {n - valid - test, n - test};
}

// Whether a session has an event from row `first` on.
bool any_from(const Sessions& sessions, uint64_t first) {
  return std::ranges::any_of(sessions.spans, [&](const SessionSpan& span) {
    const auto events = std::views::iota(span.first, span.first + span.count);
    return std::ranges::any_of(events, [&](uint64_t i) { return sessions.row[i] >= first; });
  });
}

// Targets of valid and test that training does not have. Every item of a training session has an id.
uint64_t count_unseen_targets(const Options& options, const Sessions& sessions, const std::vector<uint32_t>& ids) {
  uint64_t unseen = 0;
  for (const SessionSpan& span : sessions.spans) {
    if (in_training(span)) continue;
    for (uint64_t p = std::max(1u, cuts_of(options.split, span.part, span.count).train_end); p < span.count; ++p)
      unseen += ids[sessions.item[span.first + p]] == 0;
  }
  return unseen;
}

// Sessions as the store has them, one at a time, but for their times. Items are numbers, which lie where the sessions have
// them.
class Records {
 public:
  Records(const Options& options, const EventTable& table, const Sessions& sessions)
      : options_(options), table_(table), sessions_(sessions) {}

  // Its id is valid until the next call.
  SessionRecord of(const SessionSpan& span) {
    const Cuts cuts = cuts_of(options_.split, span.part, span.count);
    id_ = table_.sessions[static_cast<size_t>(span.file)].text(span.id);
    return {id_, std::span(sessions_.item).subspan(span.first, span.count), {}, cuts.train_end, cuts.valid_end};
  }

 private:
  const Options& options_;
  const EventTable& table_;
  const Sessions& sessions_;
  std::string id_;
};

// The shards of a former store, from the first on, whose sessions are just those that the new one begins with.
std::vector<StoreInfo::Shard> unchanged_shards(const Store& former, const Sessions& sessions, Records& records) {
  std::vector<StoreInfo::Shard> kept;
  uint64_t first = 0;
  for (const StoreInfo::Shard& shard : former.info().shards) {
    uint64_t same = 0;
    former.visit_sessions(first, shard.sessions, [&](const SessionRecord& was) {
      if (first + same >= sessions.spans.size()) return false;
      const SessionSpan& span = sessions.spans[first + same];
      const SessionRecord is = records.of(span);
      if (was.id != is.id || was.train_end != is.train_end || was.valid_end != is.valid_end ||
          !std::ranges::equal(was.items, is.items))
        return false;
      for (uint64_t i = 0; i < span.count; ++i)
        if (was.times[i] != sessions.time[span.first + i]) return false;
      ++same;
      return true;
    });
    if (same < shard.sessions) break;
    kept.push_back(shard);
    first += same;
  }
  return kept;
}

UnseenItems unseen_items(const EventTable& table, const Sessions& sessions, const std::vector<uint32_t>& ids) {
  UnseenItems unseen;
  std::map<uint32_t, uint32_t> index;  // by code
  for (const SessionSpan& span : sessions.spans) {
    if (in_training(span)) continue;  // whose items all have ids
    for (uint64_t i = span.first; i < span.first + span.count; ++i) {
      const uint32_t item = sessions.item[i];
      if (ids[item] != 0) continue;
      const auto [known, is_new] = index.emplace(item, static_cast<uint32_t>(unseen.names.size()));
      if (is_new) unseen.names.push_back(table.items.text(item));
      unseen.events.push_back(known->second);
    }
  }
  return unseen;
}

StoreInfo write_store(const Options& options, const EventTable& table, const Sessions& sessions, uint64_t events,
                      const std::vector<std::string>& names, const UnseenItems& unseen, StoreInfo info, const Former* former) {
  Records records(options, table, sessions);
  const std::vector<StoreInfo::Shard> kept =
      former ? unchanged_shards(*former->store, sessions, records) : std::vector<StoreInfo::Shard>();
  uint64_t kept_events = 0;
  for (const StoreInfo::Shard& shard : kept) kept_events += shard.events;
  const auto wanted = options.shards - static_cast<int64_t>(kept.size());
  StoreWriter writer(options.store, wanted, events - kept_events, kept);
  bool past_training = false;
  for (const SessionSpan& span : sessions.spans) {
    // What is not trained on yet will be after the next append, and then no shard before it has to change.
    if (former && (span.part == Part::valid || span.part == Part::test) && !std::exchange(past_training, true))
      writer.end_shard();
    writer.add_lasting(records.of(span), sessions.time, span.first);
  }
  return writer.commit(std::move(info), names, unseen);
}

nlohmann::json length_statistics(const Sessions& sessions, uint64_t events) {
  std::vector<uint64_t> lengths;
  lengths.reserve(sessions.spans.size());
  for (const SessionSpan& span : sessions.spans) lengths.push_back(span.count);
  const auto [shortest, longest] = std::ranges::minmax(lengths);
  const auto median = lengths.begin() + static_cast<int64_t>(lengths.size() / 2);
  std::nth_element(lengths.begin(), median, lengths.end());
  return {{"shortest", shortest},
          {"median", *median},
          {"mean", static_cast<double>(events) / static_cast<double>(lengths.size())},
          {"longest", longest}};
}

}  // namespace

IngestReport ingest(const Options& given, const ReadProgress& progress) {
  const std::vector<InputFile> files = input_files(given);
  const Options options = with_split_of_files(given, files);
  EventTable table;
  for (const InputFile& file : files) {
    const size_t before = table.events();
    read_files(options, {file}, table, progress);
    if (table.events() == before) throw UserError("{} has a header and no events. Check the file.", file.path.string());
  }
  return *make_store(options, table, nullptr);
}

std::optional<IngestReport> make_store(const Options& options, EventTable& table, const Former* former) {
  const uint64_t events_read = table.events();
  const uint64_t former_events = former ? former->events : 0;
  Dropped dropped;
  Rows rows = filter_events(table, options, dropped);
  // RecBole removes duplicates from rows sorted by exact time and leaves them so: equal in float32 then means in exact order.
  const bool exact = options.rm_dup_inter != DuplicateRule::keep;
  const TimeRank time(table, exact ? TimeOrder::exact : options.time_order, rows);
  Sessions sessions = form_sessions(table, options, time, std::move(rows));
  table.forget_events();
  assign_parts(table, options, sessions);
  filter_sessions(table, options, sessions, dropped);
  if (former && !any_from(sessions, former_events)) return std::nullopt;
  order_sessions(time, sessions);
  std::vector<std::string> names;
  if (former) names = former->store->item_names();
  const std::vector<uint32_t> ids = number_items(table, time, sessions, names);
  if (options.drop_unseen) drop_unseen_events(options, ids, sessions, dropped);
  if (former && !any_from(sessions, former_events)) return std::nullopt;
  if (names.empty())
    throw UserError("of {} events read, the filters and the split leave none to train on ({}). Loosen them.", events_read,
                    fmt::join(
                        [&] {
                          std::vector<std::string> parts;
                          for (const auto& [reason, count] : dropped) parts.push_back(fmt::format("{}: {}", reason, count));
                          return parts;
                        }(),
                        ", "));

  sessions.row = RowNumbers();  // which nothing asks for any more, and much is written from here on
  const uint64_t events = sessions.event_count();
  uint64_t ids_read = 0;
  for (const Interner& part : table.sessions) ids_read += part.size();
  nlohmann::json statistics = {{"events_read", events_read - former_events},
                               {"time_scale", table.time_scale},
                               {"lengths", length_statistics(sessions, events)},
                               {"density", static_cast<double>(events) / static_cast<double>(sessions.spans.size()) /
                                               static_cast<double>(names.size())}};
  if (!former) {  // of the new files alone nobody counts them
    statistics[options.SESSION_ID_FIELD.empty() ? "users_read" : "sessions_read"] = ids_read;
    statistics["items_read"] = table.items.size();
  }
  statistics["dropped"] = nlohmann::json::object();
  for (const auto& [reason, count] : dropped) statistics["dropped"][reason] = count;
  statistics["unseen_targets"] = count_unseen_targets(options, sessions, ids);
  if (options.split.kind == SplitKind::files) {  // an append has to know where each session came from
    std::map<Part, uint64_t> of_file;
    for (const SessionSpan& span : sessions.spans) ++of_file[span.file];
    statistics["sessions_of_files"] = {of_file[Part::whole] + of_file[Part::train], of_file[Part::valid], of_file[Part::test]};
  }

  StoreInfo info;
  info.dataset = options.dataset;
  const bool whole_sessions = options.split.kind == SplitKind::temporal || options.split.kind == SplitKind::files;
  info.protocol = whole_sessions ? Protocol::next_item : Protocol::leave_one_out;
  if (former) {
    const StoreInfo& was = former->store->info();
    info.dataset = was.dataset;
    info.grown_from = was.grown_from;
    info.grown_from.push_back(was.data_digest);
    statistics["former"] = {{"events", was.events}, {"sessions", was.sessions}, {"items", was.catalogue}};
    statistics["already_there"] = former->already_there;
    statistics["late"] = former->late;
  }
  info.ingest_json = nlohmann::json({{"options", to_yaml(options)}, {"statistics", statistics}})
                         .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);  // a path may be no UTF-8
  const UnseenItems unseen = unseen_items(table, sessions, ids);
  for (uint32_t& item : sessions.item) item = ids[item];
  return IngestReport{write_store(options, table, sessions, events, names, unseen, std::move(info), former), statistics};
}

std::optional<Options> ingest_options(const StoreInfo& store) {
  const auto ingested = nlohmann::json::parse(store.ingest_json, nullptr, /*allow_exceptions=*/false);
  if (!ingested.is_object() || !ingested.contains("options") || !ingested["options"].is_string()) return std::nullopt;
  return options_from_yaml(ingested["options"].get<std::string>(), "options of the store");
}

std::string IngestReport::text() const {
  std::string text;
  const auto line = [&](std::string_view name, const auto& value) { text += fmt::format("  {:<26} {:>14}\n", name, value); };
  if (statistics.contains("former")) {
    for (const char* name : {"events", "sessions", "items"})
      line(fmt::format("{} before", name), statistics["former"][name].template get<uint64_t>());
    line("read: already there", statistics["already_there"].template get<uint64_t>());
    line("read: older than newest", statistics["late"].template get<uint64_t>());
  }
  if (const int64_t scale = statistics["time_scale"].get<int64_t>(); scale != 1) line("time scale", scale);
  for (const char* name : {"events_read", "users_read", "sessions_read", "items_read"})
    if (statistics.contains(name)) {
      std::string words = name;
      std::replace(words.begin(), words.end(), '_', ' ');
      line(words, statistics[name].template get<uint64_t>());
    }
  for (const auto& [reason, count] : statistics["dropped"].items()) line("dropped: " + reason, count.template get<uint64_t>());
  line("events", store.events);
  line("sessions", store.sessions);
  line("items", store.catalogue);
  const auto& lengths = statistics["lengths"];
  line("session length: shortest", lengths["shortest"].template get<uint64_t>());
  line("session length: median", lengths["median"].template get<uint64_t>());
  line("session length: mean", fmt::format("{:.2f}", lengths["mean"].template get<double>()));
  line("session length: longest", lengths["longest"].template get<uint64_t>());
  line("density", fmt::format("{:.6f}", statistics["density"].template get<double>()));
  line("targets: train", store.train_targets);
  line("targets: valid", store.valid_targets);
  line("targets: test", store.test_targets);
  line("unseen in training", statistics["unseen_targets"].template get<uint64_t>());
  line("shards", store.shards.size());
  return text;
}

}  // namespace gru4rec

#include <fmt/ranges.h>

#include <algorithm>
#include <limits>
#include <tuple>

#include "gru4rec/base/config.h"
#include "gru4rec/base/error.h"
#include "ingest_steps.h"

namespace gru4rec {
namespace {

// How a store was made.
struct Making {
  Options options;
  int64_t time_scale = 1;
  std::vector<uint64_t> sessions_of_files;  // of a split of files: of train, valid and test, which lie in this order
};
Making making_of(const Store& store, const std::string& folder) {
  const auto json = nlohmann::json::parse(store.info().ingest_json, nullptr, /*allow_exceptions=*/false);
  try {
    Making made{.options = ingest_options(store.info()).value(),
                .time_scale = json.at("statistics").at("time_scale").get<int64_t>(),
                .sessions_of_files = {}};
    if (made.options.split.kind == SplitKind::files)
      json.at("statistics").at("sessions_of_files").get_to(made.sessions_of_files);
    return made;
  } catch (const std::exception&) {
    throw UserError(
        "cannot append to {}: its manifest does not say with which options it was made, wanted a store that ingest wrote. Run "
        "ingest on all data.",
        folder);
  }
}

// Columns, filters and the split must be those of the store; where the new files lie and how they are written is theirs.
void require_same_options(const Options& made, const Options& given) {
  const std::vector<std::string> changed = data_differences(made, given);
  if (!changed.empty())
    throw UserError(
        "cannot append to {}: it was made with other options ({}), wanted those of the store. Pass them, or run ingest on all "
        "data.",
        given.store, fmt::join(changed, "; "));
}

// The part of the input that a session of a store came from, for a split of files; of others all is one.
Part part_of(const Making& made, uint64_t session) {
  if (made.sessions_of_files.empty()) return Part::whole;
  if (session < made.sessions_of_files[0]) return Part::train;
  return session < made.sessions_of_files[0] + made.sessions_of_files[1] ? Part::valid : Part::test;
}

// Fills an empty table with the events of a store: its items are the first codes, in the order of their numbers.
void read_back(const Store& store, const Making& made, EventTable& table) {
  for (const std::string& name : store.item_names()) table.items.code(name);
  const UnseenItems unseen = store.unseen_items();
  size_t next_unseen = 0;
  uint64_t index = 0;
  table.reserve(store.info().events);
  table.in_range.append(store.info().events, true);
  store.visit_sessions(0, store.info().sessions, [&](const SessionRecord& session) {
    const Part part = part_of(made, index++);
    const uint32_t id = table.sessions[static_cast<size_t>(part)].code(session.id);
    for (size_t i = 0; i < session.items.size(); ++i) {
      const uint32_t item = session.items[i];
      table.session.push_back(id);
      table.item.push_back(item > 0 ? item - 1 : table.items.code(unseen.names[unseen.events[next_unseen++]]));
      table.goes_on.push_back(i > 0);
    }
    table.time.append(session.times);
    table.part.append(session.items.size(), part);
    return true;
  });
}

// Drops the new events, those from row `first` on, that are among the old ones. Returns how many.
uint64_t drop_known(EventTable& table, uint64_t first) {
  const auto event = [&](uint64_t row) {
    return std::tuple(table.time[row], table.part[row], table.session[row], table.item[row]);
  };
  std::vector<uint64_t> order(table.events() - first);
  for (uint64_t i = 0; i < order.size(); ++i) order[i] = first + i;
  std::sort(order.begin(), order.end(), [&](uint64_t a, uint64_t b) { return event(a) < event(b); });
  std::vector<bool> known(order.size());
  uint64_t dropped = 0;
  for (uint64_t row = 0; row < first; ++row) {
    const auto [begin, end] = std::ranges::equal_range(order, event(row), {}, event);
    for (const uint64_t same : std::ranges::subrange(begin, end))
      if (!known[same - first]) known[same - first] = true, ++dropped;
  }
  table.drop(first, known);
  return dropped;
}

uint64_t count_late(const EventTable& table, uint64_t first) {
  int64_t newest = std::numeric_limits<int64_t>::min();
  for (uint64_t row = 0; row < first; ++row) newest = std::max(newest, table.time[row]);
  uint64_t late = 0;
  for (uint64_t row = first; row < table.events(); ++row) late += table.time[row] < newest;
  return late;
}

}  // namespace

AppendReport append(const Options& given, const ReadProgress& progress) {
  if (!is_store(given.store))
    throw UserError("cannot append to {}: there is no store, wanted one that ingest wrote. Run ingest without --append first.",
                    given.store);
  const Store store(given.store);
  const Making made = making_of(store, given.store);
  std::vector<InputFile> files = input_files(given);
  Options options = given;
  if (files.size() > 1) options.split = made.options.split;  // as files are divided, whatever eval_args says of one file
  if (made.options.split.kind == SplitKind::files)
    for (InputFile& file : files)
      if (file.part == Part::whole) file.part = Part::train;
  if (files.size() > 1 && made.options.split.kind != SplitKind::files)
    throw UserError(
        "cannot append to {}: it was divided by eval_args and not by files, and the new data comes as {} files. Pass one "
        "train_file.",
        given.store, files.size());
  require_same_options(made.options, options);

  EventTable table;
  table.time_scale = made.time_scale;
  read_back(store, made, table);
  AppendReport report;
  const uint64_t before = table.events();
  read_files(options, files, table, progress);
  report.events_read = table.events() - before;
  report.already_there = drop_known(table, before);
  report.late = count_late(table, before);
  report.ingest.store = store.info();
  if (table.events() == before) return report;
  const Former former{&store, before, report.already_there, report.late};
  if (auto made_anew = make_store(options, table, &former)) {
    report.ingest = std::move(*made_anew);
    report.grown = true;
  }
  return report;
}

}  // namespace gru4rec

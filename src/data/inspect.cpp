#include "gru4rec/data/inspect.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "gru4rec/base/hash.h"

namespace gru4rec {

namespace {

std::string protocol_text(Protocol protocol) {
  if (protocol == Protocol::leave_one_out) return "leave_one_out (a target sees its last MAX_ITEM_LIST_LENGTH events)";
  return "next_item (a session is read whole)";
}

std::string ingest_text(const std::string& json) {
  if (json.empty()) return "not written by ingest\n";
  const auto parsed = nlohmann::json::parse(json, nullptr, false);
  return "ingest\n" + (parsed.is_discarded() ? json : parsed.dump(2)) + "\n";
}

}  // namespace

std::string describe_store(const Store& store) {
  const StoreInfo& info = store.info();
  const auto sessions = static_cast<double>(info.sessions), events = static_cast<double>(info.events);
  std::string text = fmt::format("session store   {}\n", info.dataset);
  text += fmt::format("protocol        {}\n", protocol_text(info.protocol));
  text += fmt::format("sessions        {}\n", info.sessions);
  text += fmt::format("events          {}  ({:.2f} a session)\n", info.events, sessions > 0 ? events / sessions : 0.0);
  text += fmt::format("items           {}\n", info.catalogue);
  text +=
      fmt::format("targets         train {}  valid {}  test {}\n", info.train_targets, info.valid_targets, info.test_targets);
  text += fmt::format("data digest     {}\n", hex_text(info.data_digest));
  for (const uint64_t digest : info.grown_from) text += fmt::format("grown from      {}\n", hex_text(digest));
  for (const StoreInfo::Shard& shard : info.shards) {
    text += fmt::format("shard           {}  sessions {}  events {}\n", shard.file, shard.sessions, shard.events);
  }
  return text + ingest_text(info.ingest_json);
}

}  // namespace gru4rec

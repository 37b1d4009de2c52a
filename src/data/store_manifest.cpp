#include "store_manifest.h"

#include "gru4rec/base/hdf5_texts.h"

namespace gru4rec {

namespace {

Protocol protocol_of(const Hdf5File& file) {
  const std::string name = file.read_attribute<std::string>("/", "protocol");
  for (Protocol protocol : {Protocol::leave_one_out, Protocol::next_item}) {
    if (name == protocol_name(protocol)) return protocol;
  }
  throw UserError("{} names protocol '{}', it has to be leave_one_out or next_item. Write it again.", file.path().string(),
                  name);
}

// A shard lies in the folder of its manifest; a name that leads elsewhere is not followed.
void check_file_name(const Hdf5File& file, const std::string& name) {
  if (name.empty() || name.starts_with('.') || name.find('/') != std::string::npos || name.find('\0') != std::string::npos) {
    throw UserError("{} names a shard '{}'; it has to be a file name without a folder. Write it again.", file.path().string(),
                    name);
  }
}

void expect_equal(const Hdf5File& file, const char* what, uint64_t found, uint64_t wanted) {
  if (found == wanted) return;
  throw UserError("{} contradicts itself: {} is {} by its shards, {} by its total. Seal it again: gru4rec inspect --seal {}",
                  file.path().string(), what, found, wanted, file.path().string());
}

}  // namespace

StoreInfo read_manifest_head(const Hdf5File& file) {
  StoreInfo info;
  info.dataset = file.read_attribute<std::string>("/", "dataset");
  info.protocol = protocol_of(file);
  if (file.has("/ingest_json")) info.ingest_json = file.read_text("/ingest_json");
  if (file.has(kGrownFrom)) info.grown_from = file.read<uint64_t>(kGrownFrom);
  const uint64_t offsets = file.array("/item_name_offsets").elements();
  if (offsets < 2) throw UserError("{} has no items. Write it again with /item_names.", file.path().string());
  info.catalogue = offsets - 1;
  for (std::string& name : read_texts(file, "/shards/files", "/shards/file_offsets")) {
    check_file_name(file, name);
    info.shards.push_back({std::move(name), 0, 0, 0});
  }
  if (info.shards.empty()) throw UserError("{} names no shard. Write it again with /shards/files.", file.path().string());
  return info;
}

StoreInfo read_manifest(const Hdf5File& file) {
  StoreInfo info = read_manifest_head(file);
  const auto sessions = file.read<uint64_t>("/shards/sessions");
  const auto events = file.read<uint64_t>("/shards/events");
  const auto digests = file.read<uint64_t>("/shards/digests");
  const size_t shards = info.shards.size();
  expect_equal(file, "the number of shards", sessions.size(), shards);
  expect_equal(file, "the number of shards", events.size(), shards);
  expect_equal(file, "the number of shards", digests.size(), shards);
  uint64_t session_sum = 0, event_sum = 0;
  for (size_t s = 0; s < shards; ++s) {
    info.shards[s].sessions = sessions[s];
    info.shards[s].events = events[s];
    info.shards[s].digest = digests[s];
    session_sum += sessions[s];
    event_sum += events[s];
  }
  info.sessions = file.read_attribute<uint64_t>("/", "sessions");
  info.events = file.read_attribute<uint64_t>("/", "events");
  info.train_targets = file.read_attribute<uint64_t>("/", "train_targets");
  info.valid_targets = file.read_attribute<uint64_t>("/", "valid_targets");
  info.test_targets = file.read_attribute<uint64_t>("/", "test_targets");
  info.data_digest = file.read_attribute<uint64_t>("/", "data_digest");
  expect_equal(file, "the number of sessions", session_sum, info.sessions);
  expect_equal(file, "the number of events", event_sum, info.events);
  expect_equal(file, "the size of the catalogue", info.catalogue, file.read_attribute<uint64_t>("/", "catalogue"));
  return info;
}

std::vector<std::string> read_item_names(const Hdf5File& file, uint64_t catalogue) {
  std::vector<std::string> names = read_texts(file, "/item_names", "/item_name_offsets");
  expect_equal(file, "the number of item names", names.size(), catalogue);
  return names;
}

UnseenItems read_unseen_items(const Hdf5File& file) {
  UnseenItems unseen;
  if (!file.has(kUnseenEvents)) return unseen;
  unseen.names = read_texts(file, kUnseenNames, kUnseenNameOffsets);
  unseen.events = file.read<uint32_t>(kUnseenEvents);
  for (const uint32_t name : unseen.events)
    if (name >= unseen.names.size())
      throw UserError("{} gives an event the name {} of {} in {}. Write it again.", file.path().string(), name,
                      unseen.names.size(), kUnseenNames);
  return unseen;
}

}  // namespace gru4rec

#include "store_layout.h"

namespace gru4rec {

void ContentDigest::add(const SessionRecord& session) {
  digest_.update(session.id).update<uint64_t>(session.items.size()).update(session.items).update(session.times);
  digest_.update(session.train_end).update(session.valid_end);
}

void ContentDigest::add_vocabulary(Protocol protocol, std::span<const std::string> item_names) {
  digest_.update(protocol).update<uint64_t>(item_names.size());
  for (const std::string& name : item_names) digest_.update(std::string_view(name));
}

void FlatTexts::add(std::string_view text) {
  bytes += text;
  offsets.push_back(bytes.size());
}

void write_texts(Hdf5File& file, const std::string& bytes_name, const std::string& offsets_name, const FlatTexts& texts) {
  file.write_text(bytes_name, texts.bytes);
  file.write(offsets_name, texts.offsets);
}

std::vector<std::string> read_texts(const Hdf5File& file, const std::string& bytes_name, const std::string& offsets_name) {
  const std::string bytes = file.read_text(bytes_name);
  const auto offsets = file.read<uint64_t>(offsets_name);
  if (offsets.empty() || offsets.front() != 0 || offsets.back() != bytes.size()) {
    throw UserError("{} of {} has to start at 0 and end at {}, the length of {}. Write the file again.", offsets_name,
                    file.path().string(), bytes.size(), bytes_name);
  }
  std::vector<std::string> texts;
  texts.reserve(offsets.size() - 1);
  for (size_t i = 0; i + 1 < offsets.size(); ++i) {
    if (offsets[i + 1] < offsets[i] || offsets[i + 1] > bytes.size()) {
      throw UserError("{} of {} falls or leaves {} at index {}. Write the file again.", offsets_name, file.path().string(),
                      bytes_name, i + 1);
    }
    texts.push_back(bytes.substr(offsets[i], offsets[i + 1] - offsets[i]));
  }
  return texts;
}

std::string protocol_name(Protocol protocol) { return protocol == Protocol::leave_one_out ? "leave_one_out" : "next_item"; }

void write_manifest_counts(Hdf5File& file, const StoreInfo& info) {
  FlatTexts files;
  std::vector<uint64_t> sessions, events, digests;
  for (const StoreInfo::Shard& shard : info.shards) {
    files.add(shard.file);
    sessions.push_back(shard.sessions);
    events.push_back(shard.events);
    digests.push_back(shard.digest);
  }
  file.remove("/shards");
  write_texts(file, "/shards/files", "/shards/file_offsets", files);
  file.write("/shards/sessions", sessions);
  file.write("/shards/events", events);
  file.write("/shards/digests", digests);
  file.write_attribute("/", "sessions", info.sessions);
  file.write_attribute("/", "events", info.events);
  file.write_attribute("/", "catalogue", info.catalogue);
  file.write_attribute("/", "train_targets", info.train_targets);
  file.write_attribute("/", "valid_targets", info.valid_targets);
  file.write_attribute("/", "test_targets", info.test_targets);
  file.write_attribute("/", "data_digest", info.data_digest);
}

}  // namespace gru4rec

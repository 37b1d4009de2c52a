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

std::string protocol_name(Protocol protocol) { return protocol == Protocol::leave_one_out ? "leave_one_out" : "next_item"; }

}  // namespace gru4rec

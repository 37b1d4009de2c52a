#include "commands.h"
#include "gru4rec/base/error.h"
#include "gru4rec/base/hash.h"
#include "gru4rec/data/inspect.h"
#include "gru4rec/data/store.h"
#include "gru4rec/train/checkpoint.h"

namespace gru4rec {
int run_inspect(const InspectRequest& request) {
  if (!std::filesystem::exists(request.path))
    throw UserError("{} does not exist. Pass a store's folder, a run's folder, or a checkpoint.", request.path.string());
  if (request.seal) {
    seal_store(request.path);
    fmt::print("sealed {}\n", request.path.string());
    return kExitDone;
  }
  if (is_store(request.path)) {
    Store store(request.path);
    if (request.verify) store.verify();
    fmt::print("{}", request.digest ? hex_text(store.info().data_digest) + "\n" : describe_store(store));
  } else {
    const std::filesystem::path file = newest_checkpoint_at(request.path);  // reading one verifies all of it
    fmt::print("{}", request.digest ? hex_text(read_checkpoint_info(file).digest) + "\n" : describe_checkpoint(file));
  }
  if (request.verify && !request.digest) fmt::print("verified: every checksum holds\n");
  return kExitDone;
}

}  // namespace gru4rec

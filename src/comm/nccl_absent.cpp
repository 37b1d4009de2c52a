// In place of nccl.cpp where this program is built without NCCL.
#include "gru4rec/base/error.h"
#include "gru4rec/comm/world.h"

namespace gru4rec {

std::string why_no_nccl(Communicator&, int) { return "this program was built without NCCL"; }

std::string nccl_version() { return {}; }

std::unique_ptr<Communicator> make_nccl(std::shared_ptr<Communicator> host, int device) {
  throw UserError(
      "gpu_sum: got nccl, but {}. Build it with NCCL (launch/setup.sh --cuda, cmake --preset cuda), or set gpu_sum to host.",
      why_no_nccl(*host, device));
}

}  // namespace gru4rec

// The world of one: every message is to itself and is delivered by Communicator before it gets here.
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "gru4rec/base/host_name.h"
#include "gru4rec/comm/world.h"

namespace gru4rec {
namespace {

struct NothingUnderWay : Transfer {
  bool advance(double) override { return true; }
  std::vector<int> missing() const override { return {}; }
};

class SingleCommunicator : public Communicator {
 public:
  explicit SingleCommunicator(const CommOptions& options)
      : Communicator("single", 0, {RankInfo{host_name(), getpid(), 0}}, options) {}

  [[noreturn]] void abort(int exit_code) override {
    std::fflush(nullptr);
    std::_Exit(exit_code);
  }

 protected:
  std::unique_ptr<Transfer> post(const char*, std::span<const Outgoing>, std::span<const Incoming>) override {
    return std::make_unique<NothingUnderWay>();
  }
  bool roll_called() override { return false; }
  Answers roll_call(const Whereabouts& mine, double) override { return {mine}; }
};

}  // namespace

std::unique_ptr<Communicator> make_single(const CommOptions& options) { return std::make_unique<SingleCommunicator>(options); }

}  // namespace gru4rec

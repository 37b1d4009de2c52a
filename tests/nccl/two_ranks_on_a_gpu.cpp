// Two ranks on one GPU, through the real NCCL, which takes them for two hosts: the ordered sum has the reference tree's bits,
// the native one is that but for rounding, and messages to oneself, to others and in the memory of the host arrive.
//
//   two_ranks_on_a_gpu --there        0 where a GPU and NCCL are, otherwise 77 and the reason
//   mpirun -np 2 two_ranks_on_a_gpu
#include <ATen/Context.h>
#include <ATen/ops/empty.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "../ranks/comm_laws.h"
#include "gru4rec/base/error.h"
#include "gru4rec/comm/world.h"
#include "gru4rec/model/device.h"
#include "gru4rec/train/device_memory.h"

namespace gru4rec {
namespace {

constexpr std::size_t kLength = 20'003;

bool gpu_and_nccl_are_there() {
  const auto alone = make_single();
  std::string missing;
  if (!at::hasCUDA())
    missing = "no GPU is visible, or LibTorch has no CUDA";
  else
    missing = why_no_nccl(*alone, compute_device(DeviceKind::cuda, 0).index());
  if (!missing.empty()) std::printf("skipped: %s\n", missing.c_str());
  return missing.empty();
}

at::Tensor gradient_of(int replica, at::Device device) {
  const at::Tensor values = at::empty({static_cast<int64_t>(kLength)}, at::kFloat);
  for (std::size_t i = 0; i < kLength; ++i) values.data_ptr<float>()[i] = laws::gradient_at(replica, i);
  return uploaded(values, device);
}

void expect_tree(const at::Tensor& sum, int replicas, double slack) {
  const at::Tensor got = downloaded(sum);
  for (std::size_t i = 0; i < kLength; ++i) {
    const float wanted = laws::reference_sum(i, 0, replicas), value = got.data_ptr<float>()[i];
    double size = 0.0;
    for (int replica = 0; replica < replicas; ++replica) size += std::abs(static_cast<double>(laws::gradient_at(replica, i)));
    if (slack == 0.0 ? !laws::same_bits(value, wanted) : std::abs(static_cast<double>(value) - wanted) > slack * size)
      throw BugError("element {} of the sum is {}, wanted {}", i, value, wanted);
  }
}

void check_sums(Communicator& comm, at::Device device) {
  DeviceMemory memory(device);
  const ReplicaLayout layout(5, comm.size());
  OrderedSum sum(layout, comm.rank(), kLength, memory);
  for (const bool native : {false, true, false}) {
    for (const int replica : layout.replicas_of(comm.rank())) {
      tensor_over(sum.begin(replica), device).add_(gradient_of(replica, device));
      sum.end(replica);
    }
    const std::span<float> total = native ? sum.reduce_natively(comm) : sum.reduce(comm);
    expect_tree(tensor_over(total, device), layout.replicas(), native ? 1e-6 : 0.0);
  }
}

// What the first rank has arrives at both, through the memory of the device.
void check_own_messages(Communicator& comm, at::Device device) {
  const at::Tensor mine = gradient_of(comm.rank(), device);
  const at::Tensor all = at::empty({2, static_cast<int64_t>(kLength)}, mine.options());
  const std::vector<std::size_t> counts(2, kLength);
  DeviceMemory(device).wait();
  comm.all_gather_v(std::span<const float>(mine.data_ptr<float>(), kLength), std::span<const std::size_t>(counts),
                    std::span<float>(all.data_ptr<float>(), 2 * kLength));
  for (int rank = 0; rank < 2; ++rank)
    if (!downloaded(all[rank]).equal(downloaded(gradient_of(rank, device))))
      throw BugError("rank {} did not get what rank {} sent", comm.rank(), rank);
}

void run(MpiEnvironment& environment) {
  std::shared_ptr<Communicator> world = make_world(environment, {.timeout = 120.0});
  setenv("NCCL_HOSTID", fmt::format("test-host-{}", world->rank()).c_str(), 1);
  const at::Device device = compute_device(DeviceKind::cuda, 0);
  const std::unique_ptr<Communicator> comm = make_nccl(world, device.index());
  if (comm->size() != 2) throw BugError("started on {} ranks, wanted 2", comm->size());
  laws::all_agreements(*comm);
  check_own_messages(*comm, device);
  check_sums(*comm, device);
  if (testing::Test::HasFailure()) throw BugError("a law of the host's memory does not hold");
  environment.finalize(*comm);
}

}  // namespace
}  // namespace gru4rec

int main(int argc, char** argv) {
  if (argc == 2 && std::strcmp(argv[1], "--there") == 0) return gru4rec::gpu_and_nccl_are_there() ? 0 : 77;
  testing::InitGoogleTest(&argc, argv);
  gru4rec::MpiEnvironment environment;
  try {
    gru4rec::run(environment);
    std::puts("two ranks on a GPU: done");
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    environment.abort(gru4rec::exit_code_of(error));
  }
}

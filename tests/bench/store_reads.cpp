// What a rank reads of a large store in one epoch, and how much memory that takes.
//
//   store_reads make FOLDER GIGABYTES        writes a store of made-up sessions
//   store_reads read FOLDER RANK WORLD       walks one epoch's shares of rank RANK as training does, without the arithmetic
//
// `read` prints the bytes the kernel handed out (/proc/self/io), the store's own count, and the peak of resident memory.
#include <fmt/format.h>
#include <sys/resource.h>

#include <cstdlib>
#include <fstream>
#include <string>

#include "gru4rec/base/random.h"
#include "gru4rec/data/batch.h"
#include "gru4rec/data/plan.h"
#include "gru4rec/data/store.h"

namespace {

using namespace gru4rec;

constexpr uint64_t kCatalogue = 100000;
constexpr uint64_t kEventBytes = sizeof(uint32_t) + sizeof(int64_t);

void make(const std::string& folder, double gigabytes) {
  const auto events = static_cast<uint64_t>(gigabytes * 1e9 / kEventBytes);
  StoreWriter writer(folder, 4, events);
  std::vector<uint32_t> items;
  std::vector<int64_t> times;
  uint64_t written = 0;
  for (uint64_t session = 0; written < events; ++session) {
    const Stream random{1, Purpose::block_order, session};
    const uint64_t length = 2 + random.below(0, 38);
    items.clear();
    times.clear();
    for (uint64_t i = 0; i < length; ++i) {
      items.push_back(static_cast<uint32_t>(1 + random.below(1 + i, kCatalogue)));
      times.push_back(static_cast<int64_t>(session * 100 + i));
    }
    writer.add({std::to_string(session), items, times, static_cast<uint32_t>(length), static_cast<uint32_t>(length)});
    written += length;
  }
  std::vector<std::string> names;
  for (uint64_t i = 1; i <= kCatalogue; ++i) names.push_back(std::to_string(i));
  StoreInfo info;
  info.dataset = "made-up";
  info.protocol = Protocol::next_item;
  info.ingest_json = "{}";
  info = writer.commit(info, names);
  fmt::print("{} sessions, {} events\n", info.sessions, info.events);
}

uint64_t bytes_read_by_process() {
  std::ifstream io("/proc/self/io");
  for (std::string name; io >> name;) {
    uint64_t value = 0;
    io >> value;
    if (name == "rchar:") return value;
  }
  return 0;
}

void read(const std::string& folder, uint32_t rank, uint32_t world) {
  const Store store(folder);
  EpochPlan plan(store, {.seed = 1, .batch_targets = 8192, .replicas = world});
  const uint64_t planned = store.bytes_read();
  ItemReader items(store);
  uint64_t targets = 0;
  std::vector<uint32_t> events;
  for (uint64_t b = 0; b < plan.batches(0); ++b) {
    for (const Segment& segment : plan.share(0, b, rank)) {
      events.resize(segment.end - segment.begin);
      items.read(segment.first_event + segment.begin, events);
      targets += segment.targets();
    }
  }
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const double item_bytes = static_cast<double>(store.info().events) * sizeof(uint32_t);
  fmt::print(
      "rank {} of {}: {} targets, {:.0f} MB read by the process, {:.0f} MB by the store ({:.0f} MB of them to plan before the "
      "epoch), "
      "items of the store {:.0f} MB, peak memory {:.0f} MB\n",
      rank, world, targets, static_cast<double>(bytes_read_by_process()) / 1e6, static_cast<double>(store.bytes_read()) / 1e6,
      static_cast<double>(planned) / 1e6, item_bytes / 1e6, static_cast<double>(usage.ru_maxrss) / 1e3);
}

}  // namespace

int main(int argc, char** argv) {
  const std::string command = argc > 1 ? argv[1] : "";
  if (command == "make" && argc == 4) {
    make(argv[2], std::atof(argv[3]));
  } else if (command == "read" && argc == 5) {
    read(argv[2], static_cast<uint32_t>(std::atoi(argv[3])), static_cast<uint32_t>(std::atoi(argv[4])));
  } else {
    fmt::print(stderr, "usage: store_reads make FOLDER GIGABYTES | store_reads read FOLDER RANK WORLD\n");
    return 2;
  }
}

#include "gru4rec/comm/agreement.h"

#include <algorithm>
#include <cstring>
#include <span>

#include "gru4rec/comm/ordered_sum.h"
#include "text.h"

namespace gru4rec {
namespace {

// What travels: this record, then a double a replica, for as many replicas as the rank with most of them has.
struct Record {
  int64_t step;
  int64_t targets;
  int32_t stop_signal;
  int32_t error_code;
  int32_t failed;
  int32_t non_finite;
  char text[StepReport::kTextBytes];
};

// The longest beginning of `text` within the limit that does not end inside a UTF-8 character.
std::string_view shortened(std::string_view text, std::size_t limit) {
  if (text.size() <= limit) return text;
  while (limit > 0 && (static_cast<unsigned char>(text[limit]) & 0xC0U) == 0x80U) --limit;
  return text.substr(0, limit);
}

Record record_of(const StepReport& report) {
  Record record{};
  record.step = report.step;
  record.targets = report.targets;
  record.stop_signal = report.stop_signal;
  record.error_code = report.error_code;
  record.failed = !report.error.empty() || report.non_finite;
  record.non_finite = report.non_finite;
  const std::string_view text = shortened(report.error, sizeof record.text - 1);
  std::memcpy(record.text, text.data(), text.size());
  return record;
}

std::vector<double> losses_of(const Communicator& comm, const ReplicaLayout& layout, const StepReport& report) {
  std::vector<double> losses = report.losses;
  const auto wanted = static_cast<std::size_t>(layout.replicas_of(comm.rank()).size());
  if (report.error.empty() && !report.non_finite && losses.size() != wanted)
    throw BugError("the report of step {} on rank {} has {} losses; wanted one for each of its {} replicas", report.step,
                   comm.rank(), losses.size(), wanted);
  losses.resize(wanted, 0.0);
  return losses;
}

void check_steps(const Communicator& comm, const std::vector<Record>& records) {
  for (std::size_t rank = 1; rank < records.size(); ++rank)
    if (records[rank].step != records[0].step)
      throw BugError("the ranks are not at the same step: {} is at {}, {} at {}", comm.describe(0), records[0].step,
                     comm.describe(static_cast<int>(rank)), records[rank].step);
}

}  // namespace

Agreement agree(Communicator& comm, const ReplicaLayout& layout, const StepReport& report) {
  int most = 0;
  for (int rank = 0; rank < comm.size(); ++rank) most = std::max(most, layout.replicas_of(rank).size());
  const std::size_t bytes = sizeof(Record) + static_cast<std::size_t>(most) * sizeof(double);
  const Record own = record_of(report);
  const std::vector<double> losses = losses_of(comm, layout, report);
  std::vector<std::byte> mine(bytes), arrived(static_cast<std::size_t>(comm.size()) * bytes);
  std::memcpy(mine.data(), &own, sizeof own);
  std::memcpy(mine.data() + sizeof own, losses.data(), losses.size() * sizeof(double));
  comm.all_gather("agreement", std::span<const std::byte>(mine), std::span<std::byte>(arrived));

  std::vector<Record> records(static_cast<std::size_t>(comm.size()));
  std::vector<double> all_losses(static_cast<std::size_t>(layout.replicas()));
  for (int rank = 0; rank < comm.size(); ++rank) {
    const std::byte* from = arrived.data() + static_cast<std::size_t>(rank) * bytes;
    const auto block = layout.replicas_of(rank);
    std::memcpy(&records[static_cast<std::size_t>(rank)], from, sizeof(Record));
    std::memcpy(&all_losses[static_cast<std::size_t>(block.first)], from + sizeof(Record),
                static_cast<std::size_t>(block.size()) * sizeof(double));
  }
  check_steps(comm, records);

  Agreement all;
  all.step = report.step;
  all.loss = tree_sum(std::span<const double>(all_losses));
  for (int rank = 0; rank < comm.size(); ++rank) {
    const Record& record = records[static_cast<std::size_t>(rank)];
    all.targets += record.targets;
    all.stop = std::max(all.stop, static_cast<int>(record.stop_signal));
    if (record.failed)
      all.failures.push_back({rank, comm.describe(rank), record.non_finite != 0, record.error_code, std::string(record.text)});
  }
  return all;
}

Error Agreement::error() const {
  if (failures.empty()) return BugError("Agreement::error() of step {}, in which no rank failed", step);
  std::vector<std::string> lines;
  for (const Failure& failure : failures) {
    const std::string kind = failure.non_finite ? "a loss or gradient is not finite" : "";
    lines.push_back(
        fmt::format("{}: {}{}{}", failure.who, kind, kind.empty() || failure.text.empty() ? "" : ": ", failure.text));
  }
  return Error(failures.front().exit_code,
               fmt::format("step {} failed on {} and was not applied. {}", step,
                           failures.size() == 1 ? "one rank" : fmt::format("{} ranks", failures.size()), join(lines, " | ")));
}

void require_equal(Communicator& comm, const std::string& what, const std::string& value, const std::string& advice) {
  const std::vector<std::string> values = comm.all_gather_text(value);
  std::vector<std::string> differing;
  for (int rank = 1; rank < comm.size(); ++rank)
    if (values[static_cast<std::size_t>(rank)] != values[0])
      differing.push_back(fmt::format("{} has {}", comm.describe(rank), values[static_cast<std::size_t>(rank)]));
  if (differing.empty()) return;
  throw UserError("{} differs between ranks: {} has {}; {}. {}", what, comm.describe(0), values[0], join(differing, "; "),
                  advice);
}

}  // namespace gru4rec

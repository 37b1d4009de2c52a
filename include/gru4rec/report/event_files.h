// Event files of TensorBoard: what `tensorboard --logdir FOLDER` shows. A file is a sequence of records
//
//   u64 length, u32 masked crc32c of these 8 bytes, `length` bytes, u32 masked crc32c of those        (little endian)
//
// each of which is a protobuf message Event: https://github.com/tensorflow/tensorboard, compat/proto/event.proto and
// summary.proto. Local; one thread.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace gru4rec {

struct Scalar {
  std::string tag;  // "valid/mrr@10"; TensorBoard groups by what is before the slash
  double value;     // kept as a float
};

double seconds_since_1970();

// The event files of one run. Each start of it writes a file of its own, so that a TensorBoard that is looking on goes on with
// the new one.
//
//   EventFiles events(run / "tensorboard");
//   events.cut([&](int64_t step, const std::string&) { return step <= resumed; });
//   events.add(step, {{{"train/loss", loss}}});
class EventFiles {
 public:
  // Touches nothing; the folder and a file are made by the first add().
  explicit EventFiles(std::filesystem::path folder) : folder_(std::move(folder)) {}

  // One event with these scalars, of the time given (seconds since 1970). Buffered: flush() hands everything to the operating
  // system. Both throw SurroundingsError. The destructor hands on what it can, and is silent.
  void add(int64_t step, std::span<const Scalar> scalars, double time = seconds_since_1970());
  void flush();

  // Removes from the files that are there the events of which a scalar is not to be kept, and a record that was not written to
  // its end with all behind it. Files of which nothing is left are removed. To be called before the first add().
  void cut(const std::function<bool(int64_t step, const std::string& tag)>& keep) const;

 private:
  void open();

  std::filesystem::path folder_;
  std::filesystem::path path_;
  std::ofstream out_;
};

// Castagnoli's checksum, as in RFC 3720, B.4.
uint32_t crc32c(std::span<const char> bytes);

}  // namespace gru4rec

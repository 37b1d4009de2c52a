// Options to try, in the format of RecBole's hyper.test (https://recbole.io/docs/user_guide/usage/parameter_tuning.html): a
// line an option, `KEY KIND VALUES` with blanks between; # begins a comment. The kinds are those of hyperopt:
//
//   learning_rate choice [0.01,0.005,0.001]     one of these
//   dropout_prob uniform 0,0.5                  low, high
//   train_batch_size quniform 512,4096,256      low, high, step: round(uniform / step) · step
//   weight_decay loguniform -12,-4              e to the power of a number from low to high
//
// Local; no store or checkpoint is touched.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "gru4rec/base/config.h"

namespace gru4rec {

// A value for each key, in the order of the file.
using SearchPoint = std::vector<Override>;

class SearchSpace {
 public:
  // Throws SurroundingsError if the file cannot be read, UserError with file and line for what is wrong in it.
  static SearchSpace read(const std::filesystem::path& file);

  std::vector<std::string> keys() const;
  // Whether every key has a list to choose from.
  bool finite() const;
  // Of a finite space all points, the values of the last key changing fastest. Throws UserError above a million.
  std::vector<SearchPoint> every() const;
  // `count` points that differ, drawn at random: point i is the same whatever the count. Fewer, where a finite space has no
  // more.
  std::vector<SearchPoint> random(int64_t count, uint64_t seed) const;

 private:
  enum class Kind { choice, uniform, quniform, loguniform };
  struct Dimension {
    std::string key;
    std::string place;  // of its line
    Kind kind;
    std::vector<std::string> choices;  // as on a command line
    double low = 0, high = 0, step = 0;
  };
  static Dimension dimension_of(const std::string& key, const std::string& kind, const std::string& values);
  static std::string drawn(const Dimension& dimension, uint64_t draw, uint64_t seed);

  std::vector<Dimension> dimensions_;
};

}  // namespace gru4rec

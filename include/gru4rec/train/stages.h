// A training command as the runs it stands for, one after the other. Local; no files are touched.
#pragma once

#include <string>
#include <vector>

#include "gru4rec/base/options.h"

namespace gru4rec {

// A run of its own: neither its teacher is `auto` nor has it an adapt_fraction.
struct Stage {
  std::string name;
  Options options;
  bool continues = false;  // begins with the best weights of the stage before it
};

// teacher: auto puts the training of the teacher in RUN_DIR/teacher before the run itself, adapt_fraction an adaptation to
// recent sessions in RUN_DIR/adapted behind it (Tan, Xu and Liu 2016, sections 3.3 and 3.2). Each stage is the run that its
// options alone would make, with the same bits.
//
//   for (const Stage& stage : stages_of(options)) train(stage.options);
std::vector<Stage> stages_of(const Options& options);

}  // namespace gru4rec

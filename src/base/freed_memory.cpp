#include "gru4rec/base/freed_memory.h"

#include <malloc.h>

namespace gru4rec {

void keep_freed_memory() {
  mallopt(M_MMAP_THRESHOLD, 32 << 20);  // the largest there is
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
}

}  // namespace gru4rec

// What the C library does with memory that is freed.
#pragma once

namespace gru4rec {

// Makes it keep what is freed, up to 1 GiB, for the next time, and take blocks of up to 32 MiB from there: a training step
// frees and asks for the same again, and pages that went back to the system cost more to fault in than the arithmetic on them
// takes (as seen on virtual machines). Local, for the whole process; call it first in `main`.
void keep_freed_memory();

}  // namespace gru4rec

// How the process holds its memory. All is Local.
#pragma once

#include <cstddef>
#include <vector>

namespace gru4rec {

// Makes the C library keep what is freed, up to 1 GiB, for the next time, and take blocks of up to 32 MiB from there: a
// training step frees and asks for the same again, and pages that went back to the system cost more to fault in than the
// arithmetic on them takes (as seen on virtual machines). For the whole process; call it first in `main`.
void keep_freed_memory();

// Asks for the next 256 MiB of the heap in huge pages: for a process that goes over the same memory again and again. One that
// writes its memory once pays more for them than it gains where a host takes back what is freed (docs/performance.md, Ingest).
// After keep_freed_memory().
void grow_heap_in_huge_pages();

// Asks for huge pages (of 2 MiB) wherever a whole one fits into [memory, memory + bytes): for large blocks that are read again
// and again, before they are written for the first time. A system without them, or one that is told never to give any
// (/sys/kernel/mm/transparent_hugepage/enabled), goes on with small ones.
void want_huge_pages(void* memory, std::size_t bytes);
// values.reserve(floats); memory that is new is asked for in huge pages.
void reserve_in_huge_pages(std::vector<float>& values, std::size_t floats);

}  // namespace gru4rec

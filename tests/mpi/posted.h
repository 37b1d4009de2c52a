// What a thread has posted at MPI since it last cleared this: s for a send, r for a receive, in the order of the calls.
#pragma once

#include <string>

extern thread_local std::string posted;

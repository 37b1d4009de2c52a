// Memory that could not be had, told so that a user knows what to do. Local; any thread.
#pragma once

#include <exception>
#include <string>

namespace gru4rec {

// True for std::bad_alloc, and for LibTorch's own error where its allocator failed, on the host or on a GPU.
bool is_out_of_memory(const std::exception& error) noexcept;

// The text of an error for people: its own, and where memory ran out what could be done about it.
std::string explain(const std::exception& error);

}  // namespace gru4rec

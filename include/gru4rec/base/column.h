// A long array of numbers that is written before it is read: what resize() adds to it has no values yet. Zeros in it would be
// pages that the processor goes through once more.
#pragma once

#include <memory>
#include <new>
#include <utility>
#include <vector>

namespace gru4rec {

template <typename T>
struct WithoutValues : std::allocator<T> {
  template <typename U>
  struct rebind {
    using other = WithoutValues<U>;
  };
  WithoutValues() = default;
  template <typename U>
  WithoutValues(const WithoutValues<U>& other) : std::allocator<T>(other) {}
  template <typename... Values>
  void construct(T* at, Values&&... values) {
    if constexpr (sizeof...(Values) == 0)
      ::new (at) T;
    else
      std::construct_at(at, std::forward<Values>(values)...);
  }
};

template <typename T>
using Column = std::vector<T, WithoutValues<T>>;

}  // namespace gru4rec

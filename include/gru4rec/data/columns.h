// Columns of events that are kept as small as their values allow: of memory that is written once, the faults of its pages cost
// more than the arithmetic on it. All is Local; one thread.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <utility>

#include "gru4rec/base/column.h"

namespace gru4rec {

// A column of which most often all values are equal: then it holds one.
template <typename T>
class UniformColumn {
 public:
  size_t size() const { return size_; }
  T operator[](size_t i) const { return values_.empty() ? value_ : values_[i]; }
  // Whether there is nothing but `value`, as far as that is known without a look at each.
  bool all(T value) const { return size_ == 0 || (values_.empty() && value_ == value); }

  void append(size_t count, T value) {
    if (size_ == 0) value_ = value;
    if (!all(value)) hold_each();
    size_ += count;
    if (!values_.empty()) values_.resize(size_, value);
  }
  void set(size_t i, T value) {
    if (all(value)) return;
    hold_each();
    values_[i] = value;
  }
  // To no more than there are.
  void shrink(size_t size) {
    size_ = size;
    if (!values_.empty()) values_.resize(size);
  }

 private:
  void hold_each() {
    if (values_.empty()) values_.assign(size_, value_);
  }

  size_t size_ = 0;
  T value_ = {};
  Column<T> values_;  // empty: all are value_
};

// Whole numbers that most often lie close together, as times do: of 4 bytes each as long as all lie within 2^31 of the first,
// of 8 from then on.
class NearNumbers {
  // use(column), of the two the one that is in use.
  template <typename Use>
  auto visit(Use use) {
    return wide_.empty() ? use(near_) : use(wide_);
  }
  template <typename Use>
  auto visit(Use use) const {
    return wide_.empty() ? use(near_) : use(wide_);
  }

 public:
  NearNumbers() = default;
  // numbers[places[0]], numbers[places[1]], …; where these have 4 bytes, in `memory`, which has room for so many.
  template <typename Place>
  NearNumbers(const NearNumbers& numbers, const Column<Place>& places, Column<uint32_t> memory) : first_(numbers.first_) {
    const auto take = [&](auto& own, const auto& others) {
      own.resize(places.size());
      for (size_t i = 0; i < places.size(); ++i) own[i] = others[places[i]];
    };
    if (numbers.wide_.empty())
      take(near_ = std::move(memory), numbers.near_);
    else
      take(wide_, numbers.wide_);
  }

  size_t size() const { return near_.size() + wide_.size(); }
  int64_t operator[](size_t i) const {
    return visit([&](const auto& column) { return whole(column[i]); });
  }
  // `count` of them from `first` on as int64_t, wherever `out` points.
  void copy(size_t first, size_t count, char* out) const {
    visit([&](const auto& column) {
      for (size_t i = 0; i < count; ++i) {
        const int64_t number = whole(column[first + i]);
        std::memcpy(out + i * sizeof number, &number, sizeof number);
      }
    });
  }
  // Whether none of [first, last) is less than the one before it.
  bool rise(size_t first, size_t last) const {
    return visit([&](const auto& column) {
      const auto some = std::span(column).subspan(first, last - first);
      return std::ranges::is_sorted(some, {}, [&](auto number) { return whole(number); });
    });
  }

  void reserve(size_t size) {
    visit([&](auto& column) { column.reserve(size); });
  }
  void append(std::span<const int64_t> values) {
    if (size() == 0 && !values.empty()) first_ = values.front();
    if (!wide_.empty() || !std::ranges::all_of(values, [&](int64_t value) { return is_near(value); })) {
      if (wide_.empty()) widen();
      wide_.insert(wide_.end(), values.begin(), values.end());
      return;
    }
    const size_t before = near_.size();
    near_.resize(before + values.size());
    for (size_t i = 0; i < values.size(); ++i) near_[before + i] = static_cast<uint32_t>(values[i] - first_);
  }
  void set(size_t i, int64_t value) {
    if (wide_.empty() && !is_near(value)) widen();
    if (wide_.empty())
      near_[i] = static_cast<uint32_t>(value - first_);
    else
      wide_[i] = value;
  }
  // To no more than there are.
  void shrink(size_t size) {
    visit([&](auto& column) { column.resize(size); });
  }

 private:
  int64_t whole(uint32_t near) const { return first_ + static_cast<int32_t>(near); }
  int64_t whole(int64_t wide) const { return wide; }
  bool is_near(int64_t value) const {
    int64_t difference = 0;
    return !__builtin_sub_overflow(value, first_, &difference) && difference == static_cast<int32_t>(difference);
  }
  void widen() {
    wide_.reserve(near_.capacity());
    for (const uint32_t near : near_) wide_.push_back(whole(near));
    Column<uint32_t>().swap(near_);
  }

  int64_t first_ = 0;
  Column<uint32_t> near_;  // less first_, as int32_t
  Column<int64_t> wide_;   // in place of near_, once a number lies too far off
};

}  // namespace gru4rec

// Texts as numbers, for ids of sessions and items.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "gru4rec/base/random.h"

namespace gru4rec {

// Texts numbered 0, 1, 2 … by first appearance; each is kept once. Most ids are whole numbers: a text that is just what an
// int64_t prints as is kept as that number, and a number is the text it prints as.
//
//   ids.code("7") == ids.code(7);      ids.text(ids.code(7)) == "7";      ids.code("07") != ids.code(7);
//
// Where most numbers lie close together, as counted ids do, their codes are in an array over that range (the window), of 4
// bytes a number; all others are in a table of open addresses, of 16 bytes and at most half full. Local; one thread.
class Interner {
 public:
  // An id as it is looked up. Refers to the text it was made of. Who has many makes their keys and fetches their places first,
  // so that these come into the cache side by side.
  class Key {
   public:
    Key() = default;
    explicit Key(int64_t number) : id_(number) {}
    explicit Key(std::string_view text);

   private:
    friend class Interner;
    int64_t id_ = 0;  // the number, or a hash of the text
    bool is_number_ = true;
    std::string_view text_;
  };

  uint32_t code(const Key& key) {
    if (!in_window(key)) return code_beyond(key);
    uint32_t& code = window_[place_in_window(key.id_)];
    if (code == kFree) code = add(key);
    return code;
  }
  uint32_t code(std::string_view text) { return code(Key(text)); }
  uint32_t code(int64_t number) { return code(Key(number)); }
  // Fetches into the cache what code() will look at.
  void fetch(const Key& key) const {
    if (in_window(key))
      __builtin_prefetch(&window_[place_in_window(key.id_)]);
    else if (!places_.empty())
      __builtin_prefetch(&places_[home(key.id_) & (places_.size() - 1)]);
  }

  std::string text(uint32_t code) const;
  size_t size() const { return ids_.size(); }

 private:
  static constexpr uint32_t kFree = UINT32_MAX;
  struct Place {
    int64_t id = 0;
    uint32_t code = kFree;
    bool is_number = false;
  };

  size_t place_in_window(int64_t number) const { return static_cast<uint64_t>(number) - window_first_; }
  bool in_window(const Key& key) const { return key.is_number_ && place_in_window(key.id_) < window_.size(); }
  // Where the search for an id begins, before it is cut to the number of places.
  static size_t home(int64_t id) { return mix64(static_cast<uint64_t>(id)); }
  uint32_t add(const Key& key);
  uint32_t code_beyond(const Key& key);
  void look_for_window();
  void deal_places(size_t places);
  Place& free_place(int64_t id);

  std::vector<int64_t> ids_;     // [code] the number, or where in texts_ the text is
  std::vector<bool> is_number_;  // [code]
  std::deque<std::string> texts_;
  std::vector<uint32_t> window_;  // [number - window_first_] code
  uint64_t window_first_ = 0;     // modulo 2^64
  size_t next_look_ = 1024;       // for a window, when there are so many ids
  std::vector<Place> places_;     // their number is a power of two
  size_t taken_ = 0;              // of them
};

}  // namespace gru4rec

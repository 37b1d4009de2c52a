#include "bf16_tiles.h"

#include <ATen/Parallel.h>
#include <immintrin.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cctype>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <limits>
#include <new>
#include <string>
#include <string_view>

#include "gru4rec/base/instruction_sets.h"
#include "vector_math.h"

// The instructions are chosen by name, function by function; the rest of the file is for every processor. Those of AMX are in
// Tiles and tile_block() only, which are entered where it is there.
#define GRU4REC_BF16 \
  [[gnu::target("amx-tile,amx-bf16,avx512f,avx512vl,avx512dq,avx512bw,avx512bf16,avx2,fma,prefer-vector-width=512")]]

namespace gru4rec::bf16 {
namespace {

constexpr int64_t kLanes = 16;             // fp32 values of a vector; rows of a tile register; pairs of bf16 in one of its rows
constexpr float kLargestSum = 8886110.5f;  // e^16
constexpr int64_t kPanelStride = 2 * kUnit;  // values of one pair of depths in a panel of a right operand

// Row i of a left operand [m, k], from column `at` on, a multiple of kUnit.
int64_t left_at(int64_t i, int64_t at, int64_t k) { return i / kLanes * kLanes * padded(k) + at * kLanes + i % kLanes * kUnit; }

// A panel of a right operand [k, n].
int64_t panel_at(int64_t panel, int64_t k) { return panel * panel_values(k); }

struct alignas(64) TileConfiguration {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

// What oneDNN is held to by train/determinism.h or by the user, as oneDNN reads it; empty: nothing.
std::string limit_of_onednn() {
  for (const char* name : {"ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"})
    if (const char* value = std::getenv(name); value && *value) {
      std::string limit = value;
      std::ranges::transform(limit, limit.begin(), [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
      return limit;
    }
  return {};
}

bool is_one_of(std::string_view name, std::initializer_list<std::string_view> names) {
  return std::ranges::find(names, name) != names.end();
}

// All eight registers of this thread, whole, for as long as this lives.
class Tiles {
 public:
  Tiles() {
    if (multiplier() == Multiplier::tiles) take();
  }
  ~Tiles() {
    if (multiplier() == Multiplier::tiles) release();
  }
  Tiles(const Tiles&) = delete;
  Tiles& operator=(const Tiles&) = delete;

 private:
  GRU4REC_BF16 void take() {
    static const TileConfiguration configuration;
    _tile_loadconfig(&configuration);
  }
  GRU4REC_BF16 void release() { _tile_release(); }
};

struct Nothing {
  void operator()(int64_t, int64_t) const {}
};

// block() by the tile registers, which multiply on their own while this goes on.
template <bool kAdd, bool kUpper, typename Meanwhile>
GRU4REC_BF16 GRU4REC_INLINE void tile_block(const Value* left, const Value* panel, int64_t k, float* out, int64_t stride,
                                            const Meanwhile& meanwhile) {
  const int64_t out_bytes = stride * static_cast<int64_t>(sizeof(float));
  constexpr int64_t left_bytes = kUnit * sizeof(Value), panel_bytes = kPanelStride * sizeof(Value);
  if constexpr (kAdd) {
    _tile_loadd(0, out, out_bytes);
    _tile_loadd(1, out + kLanes, out_bytes);
    if constexpr (!kUpper) {
      _tile_loadd(2, out + kLanes * stride, out_bytes);
      _tile_loadd(3, out + kLanes * stride + kLanes, out_bytes);
    }
  } else {
    _tile_zero(0);
    _tile_zero(1);
    if constexpr (!kUpper) {
      _tile_zero(2);
      _tile_zero(3);
    }
  }
  for (int64_t depth = 0; depth < k; depth += kUnit) {
    const Value* pairs = panel + depth * kUnit;
    _tile_loadd(4, left + depth * kLanes, left_bytes);
    _tile_loadd(6, pairs, panel_bytes);
    _tile_loadd(7, pairs + kUnit, panel_bytes);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    if constexpr (!kUpper) {
      _tile_loadd(5, left + kLanes * (k + depth), left_bytes);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
    meanwhile(depth / kUnit, k / kUnit);
  }
  _tile_stored(0, out, out_bytes);
  _tile_stored(1, out + kLanes, out_bytes);
  if constexpr (!kUpper) {
    _tile_stored(2, out + kLanes * stride, out_bytes);
    _tile_stored(3, out + kLanes * stride + kLanes, out_bytes);
  }
}

constexpr int kStripRows = 8;  // their sums take 16 of the 32 vector registers

// out [kStripRows, 32] = left · panel, or += .
template <bool kAdd>
GRU4REC_BF16 void strip(const Value* left, const Value* panel, int64_t k, float* out, int64_t stride) {
  __m512 low[kStripRows], high[kStripRows];
  for (int i = 0; i < kStripRows; ++i) {
    low[i] = kAdd ? _mm512_loadu_ps(out + i * stride) : _mm512_setzero_ps();
    high[i] = kAdd ? _mm512_loadu_ps(out + i * stride + kLanes) : _mm512_setzero_ps();
  }
  for (int64_t depth = 0; depth < k; depth += kUnit) {
    const Value* rows = left + depth * kLanes;
    for (const Value *pair = panel + depth * kUnit, *end = pair + kLanes * kPanelStride; pair < end;
         pair += kPanelStride, rows += 2) {
      const auto first = reinterpret_cast<__m512bh>(_mm512_loadu_si512(pair));
      const auto second = reinterpret_cast<__m512bh>(_mm512_loadu_si512(pair + kUnit));
#pragma GCC unroll 8
      for (int i = 0; i < kStripRows; ++i) {
        int32_t both;
        std::memcpy(&both, rows + i * kUnit, sizeof both);
        const auto value = reinterpret_cast<__m512bh>(_mm512_set1_epi32(both));
        low[i] = _mm512_dpbf16_ps(low[i], value, first);
        high[i] = _mm512_dpbf16_ps(high[i], value, second);
      }
    }
  }
  for (int i = 0; i < kStripRows; ++i) {
    _mm512_storeu_ps(out + i * stride, low[i]);
    _mm512_storeu_ps(out + i * stride + kLanes, high[i]);
  }
}

// out [32, 32] = left [32, k] · panel [k, 32], or += . With `upper` the first 16 rows only. `meanwhile` is other work, called
// with the number of each part of the product and how many there are.
template <bool kAdd, bool kUpper, typename Meanwhile = Nothing>
GRU4REC_BF16 GRU4REC_INLINE void block(const Value* left, const Value* panel, int64_t k, float* out, int64_t stride,
                                       const Meanwhile& meanwhile = {}) {
  if (multiplier() == Multiplier::tiles) return tile_block<kAdd, kUpper>(left, panel, k, out, stride, meanwhile);
  constexpr int64_t strips = (kUpper ? kLanes : kUnit) / kStripRows, of_group = kLanes / kStripRows;
  for (int64_t i = 0; i < strips; ++i) {
    strip<kAdd>(left + i / of_group * kLanes * k + i % of_group * kStripRows * kUnit, panel, k, out + i * kStripRows * stride,
                stride);
    meanwhile(i, strips);
  }
}

__mmask16 lanes(int64_t count) { return static_cast<__mmask16>(count >= kLanes ? 0xffff : count <= 0 ? 0 : (1 << count) - 1); }

// 16 × 16 values of 32 bits.
GRU4REC_BF16 GRU4REC_INLINE void transpose(__m512i (&r)[16]) {
  __m512i t[16];
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  for (int i = 0; i < 16; i += 8)
    for (int j = 0; j < 4; ++j) {
      t[i + j] = _mm512_shuffle_i32x4(r[i + j], r[i + j + 4], 0x88);
      t[i + j + 4] = _mm512_shuffle_i32x4(r[i + j], r[i + j + 4], 0xdd);
    }
  for (int j = 0; j < 8; ++j) {
    r[j] = _mm512_shuffle_i32x4(t[j], t[j + 8], 0x88);
    r[j + 8] = _mm512_shuffle_i32x4(t[j], t[j + 8], 0xdd);
  }
}

// The values `at`, at + 1, … at + 15 of row i, zeros beyond the matrix.
GRU4REC_BF16 GRU4REC_INLINE __m512 load(const Matrix& a, int64_t i, int64_t at) {
  return i < a.rows ? _mm512_maskz_loadu_ps(lanes(a.columns - at), a.values + i * a.stride + at) : _mm512_setzero_ps();
}

// low[j] and high[j] side by side, for 16 columns.
GRU4REC_BF16 GRU4REC_INLINE __m512i interleaved(__m512 low, __m512 high) {
  alignas(64) static constexpr uint16_t order[32] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                                     8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  return _mm512_permutexvar_epi16(_mm512_load_si512(order), reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low)));
}

// 32 values of a row, which are 16 pairs.
GRU4REC_BF16 GRU4REC_INLINE __m512i pairs_of(const Matrix& a, int64_t i, int64_t at) {
  return reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(load(a, i, at + kLanes), load(a, i, at)));
}

GRU4REC_BF16 void fill_left(const Matrix& a, Value* out) {
  const int64_t depth = padded(a.columns), whole = a.columns / kUnit * kUnit;
  for (int64_t i = 0; i < a.rows; ++i) {
    const float* from = a.values + i * a.stride;
    Value* to = out + left_at(i, 0, depth);
    for (int64_t at = 0; at < whole; at += kUnit)
      _mm512_storeu_si512(to + at * kLanes, reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(_mm512_loadu_ps(from + at + kLanes),
                                                                                          _mm512_loadu_ps(from + at))));
    if (whole < depth) _mm512_storeu_si512(to + whole * kLanes, pairs_of(a, i, whole));
  }
  for (int64_t i = a.rows; i < padded(a.rows); ++i)
    for (int64_t at = 0; at < depth; at += kUnit) _mm512_storeu_si512(out + left_at(i, at, depth), _mm512_setzero_si512());
}

GRU4REC_BF16 void fill_left_transposed(const Matrix& a, const float* factor, Value* out) {
  const int64_t depth = padded(a.rows);
  for (int64_t at = 0; at < padded(a.columns); at += kLanes)
    for (int64_t i = 0; i < depth; i += kLanes) {
      for (int64_t k = i + kLanes; k < std::min(i + 2 * kLanes, a.rows); ++k)
        _mm_prefetch(a.values + k * a.stride + at, _MM_HINT_T0);
      __m512i values[16];
      for (int64_t k = 0; k < kLanes; ++k) {
        const __m512 row = load(a, i + k, at);
        values[k] = _mm512_castps_si512(factor && i + k < a.rows ? _mm512_mul_ps(row, _mm512_set1_ps(factor[i + k])) : row);
      }
      transpose(values);
      for (int64_t k = 0; k < kLanes; ++k)
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + left_at(at + k, i / kUnit * kUnit, depth) + i % kUnit),
                            reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(_mm512_castsi512_ps(values[k]))));
    }
}

// Some rows of one panel after the other: whole panels lie too far apart for a cache to take a row of each.
GRU4REC_BF16 void fill_right(const Matrix& a, Value* out) {
  constexpr int64_t kRowsAtOnce = 64;
  for (int64_t first = 0; first < padded(a.rows); first += kRowsAtOnce)
    for (int64_t column = 0; column < padded(a.columns); column += kUnit) {
      Value* panel = out + panel_at(column / kUnit, a.rows) + first * kUnit;
      for (int64_t i = first; i < std::min(first + kRowsAtOnce, padded(a.rows)); i += 2, panel += kPanelStride) {
        _mm512_storeu_si512(panel, interleaved(load(a, i, column), load(a, i + 1, column)));
        _mm512_storeu_si512(panel + kUnit, interleaved(load(a, i, column + kLanes), load(a, i + 1, column + kLanes)));
      }
    }
}

GRU4REC_BF16 void fill_right_transposed(const Matrix& a, Value* out) {
  for (int64_t i = 0; i < padded(a.rows); i += kLanes) {
    Value* to = out + panel_at(i / kUnit, a.columns) + 2 * (i % kUnit);
    for (int64_t at = 0; at < padded(a.columns); at += kUnit) {
      __m512i values[16];
      for (int64_t k = 0; k < kLanes; ++k) values[k] = pairs_of(a, i + k, at);
      transpose(values);
      for (int64_t k = 0; k < kLanes; ++k) _mm512_storeu_si512(to + (at / 2 + k) * kPanelStride, values[k]);
    }
  }
}

// Which values of two rows a pair of rows of a panel has: those of the first 16 columns, and those of the others.
struct alignas(64) PairOrder {
  uint16_t low[32], high[32];
};
constexpr PairOrder kPairOrder = [] {
  PairOrder order{};
  for (uint16_t j = 0; j < 16; ++j) {
    order.low[2 * j] = j;
    order.low[2 * j + 1] = static_cast<uint16_t>(32 + j);
    order.high[2 * j] = static_cast<uint16_t>(16 + j);
    order.high[2 * j + 1] = static_cast<uint16_t>(48 + j);
  }
  return order;
}();

// kUnit values of each of two rows, to a panel. `far`: past the caches, with a store that only _mm_sfence() puts in order.
GRU4REC_BF16 GRU4REC_INLINE void put_pair(__m512i even, __m512i odd, Value* out, bool far) {
  const __m512i low = _mm512_permutex2var_epi16(even, _mm512_load_si512(kPairOrder.low), odd);
  const __m512i high = _mm512_permutex2var_epi16(even, _mm512_load_si512(kPairOrder.high), odd);
  if (far) {
    _mm512_stream_si512(reinterpret_cast<__m512i*>(out), low);
    _mm512_stream_si512(reinterpret_cast<__m512i*>(out + kUnit), high);
  } else {
    _mm512_storeu_si512(out, low);
    _mm512_storeu_si512(out + kUnit, high);
  }
}

// One panel of a right operand of `rows` rows; row_of(i) is where the kUnit values of row i are.
template <typename RowOf>
GRU4REC_BF16 GRU4REC_INLINE void fill_panel(int64_t rows, const RowOf& row_of, Value* out, bool far = false) {
  constexpr int64_t kAhead = 2 * kLanes;  // rows: they lie too far apart for the processor to see a pattern
  int64_t i = 0;
  for (; i + 1 < rows; i += 2, out += kPanelStride) {
    for (int64_t next = i + kAhead; next < std::min(i + kAhead + 2, rows); ++next) _mm_prefetch(row_of(next), _MM_HINT_T0);
    put_pair(_mm512_loadu_si512(row_of(i)), _mm512_loadu_si512(row_of(i + 1)), out, far);
  }
  for (const __m512i zeros = _mm512_setzero_si512(); i < padded(rows); i += 2, out += kPanelStride)
    put_pair(i < rows ? _mm512_loadu_si512(row_of(i)) : zeros, zeros, out, far);
}

// Of the right operand [rows, columns] that has the values of a left one: the columns from `at` on.
GRU4REC_BF16 void fill_right_of_left(const Value* left, int64_t rows, int64_t columns, int64_t at, Value* out,
                                     bool far = false) {
  const auto row_of = [&](int64_t i) { return left + left_at(i, at, columns); };
  fill_panel(rows, row_of, out, far);
}

GRU4REC_BF16 void fill_rounded(const Matrix& a, Value* out, int64_t stride) {
  for (int64_t i = 0; i < a.rows; ++i)
    for (int64_t at = 0; at < a.columns; at += kUnit) _mm512_storeu_si512(out + i * stride + at, pairs_of(a, i, at));
}

GRU4REC_BF16 void fill_left_of_rows(const Value* from, int64_t stride, int64_t rows, int64_t columns, Value* out, int64_t depth,
                                    int64_t first) {
  for (int64_t i = 0; i < padded(rows); ++i)
    for (int64_t at = 0; at < columns; at += kUnit)
      _mm512_storeu_si512(out + left_at(i, first + at, depth),
                          i < rows ? _mm512_loadu_si512(from + i * stride + at) : _mm512_setzero_si512());
}

GRU4REC_BF16 void fill_right_of_rows(const Value* from, int64_t stride, int64_t rows, int64_t columns, Value* out) {
  for (int64_t at = 0; at < columns; at += kUnit, out += panel_values(rows)) {
    const auto row_of = [&](int64_t i) { return from + i * stride + at; };
    fill_panel(rows, row_of, out);
  }
}

// out[j][i] += block[i][j] for 16 × 16 values, of which `rows` × `columns` are wanted.
GRU4REC_BF16 void add_transposed(const float* block, int64_t rows, int64_t columns, float* out, int64_t stride) {
  __m512i values[16];
  for (int64_t k = 0; k < kLanes; ++k) values[k] = _mm512_loadu_si512(block + k * kUnit);
  transpose(values);
  const __mmask16 wanted = lanes(rows);
  for (int64_t k = 0; k < std::min(columns, kLanes); ++k) {
    float* to = out + k * stride;
    _mm512_mask_storeu_ps(to, wanted, _mm512_add_ps(_mm512_maskz_loadu_ps(wanted, to), _mm512_castsi512_ps(values[k])));
  }
}

GRU4REC_BF16 void put(const float* from, const Product& p, int64_t rows, int64_t row, int64_t column) {
  const int64_t columns = std::min(kUnit, p.n - column);
  if (p.store == Store::add_transposed) {
    for (int64_t i = 0; i < rows; i += kLanes)
      for (int64_t j = 0; j < columns; j += kLanes)
        add_transposed(from + i * kUnit + j, rows - i, columns - j, p.out + (column + j) * p.stride + row + i, p.stride);
    return;
  }
  for (int64_t i = 0; i < rows; ++i) {
    float* to = p.out + (row + i) * p.stride + column;
    for (int64_t j = 0; j < columns; j += kLanes) {
      const __mmask16 wanted = lanes(columns - j);
      __m512 value = _mm512_loadu_ps(from + i * kUnit + j);
      if (p.store == Store::add) value = _mm512_add_ps(value, _mm512_maskz_loadu_ps(wanted, to + j));
      _mm512_mask_storeu_ps(to + j, wanted, value);
    }
  }
}

// Fetches what the next blocks take while this one multiplies, into the second cache: large operands come from far.
struct Prefetch {
  const Value* from;
  int64_t values;
  GRU4REC_BF16 GRU4REC_INLINE void operator()(int64_t part, int64_t parts) const {
    for (int64_t at = values * part / parts / kUnit; at < values * (part + 1) / parts / kUnit; ++at)
      _mm_prefetch(from + at * kUnit, _MM_HINT_T1);
  }
};

// The rows of one group of kUnit, columns of the panels [first, last).
GRU4REC_BF16 void multiply_group(const Product& p, int64_t row, int64_t first_panel, int64_t last_panel) {
  const int64_t depth = padded(p.k), rows = std::min(kUnit, p.m - row);
  const Value* left = p.left + row * depth;
  alignas(64) float result[kUnit * kUnit];
  for (int64_t panel = first_panel; panel < last_panel; ++panel) {
    const Value* right = p.right + panel_at(panel, p.k);
    const int64_t column = panel * kUnit;
    const bool whole = column + kUnit <= p.n && (rows == kUnit || rows == kLanes);
    const int64_t share = kUnit * depth / (last_panel - first_panel);
    const Prefetch next{left + kUnit * depth + share * (panel - first_panel), row + kUnit < p.m ? share : 0};
    if (whole && p.store != Store::add_transposed) {
      float* out = p.out + row * p.stride + column;
      if (rows == kUnit)
        p.store == Store::add ? block<true, false>(left, right, depth, out, p.stride, next)
                              : block<false, false>(left, right, depth, out, p.stride, next);
      else
        p.store == Store::add ? block<true, true>(left, right, depth, out, p.stride)
                              : block<false, true>(left, right, depth, out, p.stride);
      continue;
    }
    if (p.store == Store::add_transposed)
      for (int64_t j = column; j < std::min(column + kUnit, p.n); ++j) {
        _mm_prefetch(p.out + j * p.stride + row, _MM_HINT_T0);
        _mm_prefetch(p.out + j * p.stride + row + kLanes, _MM_HINT_T0);
      }
    const int64_t of_group = kUnit * depth / (padded(p.m) / kUnit);
    const Prefetch ahead{p.ahead ? p.ahead + row / kUnit * of_group : nullptr, p.ahead ? of_group : 0};
    rows > kLanes ? block<false, false>(left, right, depth, result, kUnit, ahead)
                  : block<false, true>(left, right, depth, result, kUnit, ahead);
    put(result, p, rows, row, column);
  }
}

GRU4REC_BF16 GRU4REC_INLINE __m512 all(float value) { return _mm512_set1_ps(value); }

// As exp_of of vector_math.h, but what is less than the smallest normal number is that number.
GRU4REC_BF16 GRU4REC_INLINE __m512 exp_of(__m512 x) {
  const __m512 round = all(12582912.0f);
  const __m512 y = _mm512_max_ps(all(-87.0f), x);  // in this order NaN stays NaN
  const __m512 n = _mm512_sub_ps(_mm512_fmadd_ps(y, all(1.44269504088896341f), round), round);
  __m512 r = _mm512_fmadd_ps(n, all(-0.693359375f), y);
  r = _mm512_fmadd_ps(n, all(2.12194440e-4f), r);
  __m512 p = all(1.9875691500e-4f);
  p = _mm512_fmadd_ps(p, r, all(1.3981999507e-3f));
  p = _mm512_fmadd_ps(p, r, all(8.3334519073e-3f));
  p = _mm512_fmadd_ps(p, r, all(4.1665795894e-2f));
  p = _mm512_fmadd_ps(p, r, all(1.6666665459e-1f));
  p = _mm512_fmadd_ps(p, r, all(5.0000001201e-1f));
  p = _mm512_add_ps(_mm512_fmadd_ps(p, _mm512_mul_ps(r, r), r), all(1.0f));
  return _mm512_scalef_ps(p, n);
}

// exp(score - max) of kUnit columns from `score` on, of which `columns` are there, as bf16; to `sum` their sum by lane.
GRU4REC_BF16 GRU4REC_INLINE __m512i exponentials_of_unit(const float* score, int64_t columns, __m512 max, __m512& sum) {
  const __mmask16 low = lanes(columns), high = lanes(columns - kLanes);
  const __m512 first = _mm512_maskz_mov_ps(low, exp_of(_mm512_sub_ps(_mm512_loadu_ps(score), max)));
  const __m512 second = _mm512_maskz_mov_ps(high, exp_of(_mm512_sub_ps(_mm512_loadu_ps(score + kLanes), max)));
  sum = _mm512_add_ps(sum, _mm512_add_ps(first, second));
  return reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(second, first));
}

GRU4REC_BF16 float largest_of(const float* score, int64_t columns) {
  const __m512 lowest = all(-std::numeric_limits<float>::infinity());
  __m512 largest = lowest;
  for (int64_t j = 0; j < columns; j += kLanes)
    largest = _mm512_max_ps(largest, _mm512_mask_loadu_ps(lowest, lanes(columns - j), score + j));
  return _mm512_reduce_max_ps(largest);
}

// One row of scores, its exponentials to a row of a left operand; their sum.
GRU4REC_BF16 float exponentials_of_row(const float* score, int64_t columns, float max, Value* out) {
  __m512 sum = _mm512_setzero_ps();
  for (int64_t j = 0; j < columns; j += kUnit)
    _mm512_storeu_si512(out + j * kLanes, exponentials_of_unit(score + j, columns - j, all(max), sum));
  return _mm512_reduce_add_ps(sum);
}

// The exponentials of one panel of a group of kUnit rows, some rows at a time.
struct PanelExponentials {
  const float* scores;  // [kUnit, kUnit]
  int64_t columns;      // of the panel that are there
  const float* max;     // [kUnit]
  float* sums;          // [kUnit, kLanes]
  Value* out;           // the panel in the first row of a left operand
  int64_t next_group;   // values from there to the same place kLanes rows further
  Value* laid_out;      // the first row of a panel of a right operand, or null
  bool far;

  GRU4REC_BF16 GRU4REC_INLINE void operator()(int64_t part, int64_t parts) const {
    for (int64_t pair = kUnit / 2 * part / parts; pair < kUnit / 2 * (part + 1) / parts; ++pair) {
      const __m512i even = row(2 * pair), odd = row(2 * pair + 1);
      if (laid_out) put_pair(even, odd, laid_out + pair * kPanelStride, far);
    }
  }

 private:
  GRU4REC_BF16 GRU4REC_INLINE __m512i row(int64_t i) const {
    __m512 sum = _mm512_load_ps(sums + i * kLanes);
    const __m512i values = exponentials_of_unit(scores + i * kUnit, columns, all(max[i]), sum);
    _mm512_store_ps(sums + i * kLanes, sum);
    _mm512_storeu_si512(out + i / kLanes * next_group + i % kLanes * kUnit, values);
    return values;
  }
};

// What holds the scores of a group: [kUnit, columns].
float* score_memory(int64_t columns) {
  thread_local std::unique_ptr<float[]> memory;
  thread_local int64_t held = 0;
  if (held < kUnit * columns) {
    memory = std::make_unique<float[]>(static_cast<size_t>(kUnit * columns));
    held = kUnit * columns;
  }
  return memory.get();
}

// Where row `first` of the panel from column `at` on is in tile.laid_out.
Value* laid_out_at(const Exponentials& tile, int64_t first, int64_t at) {
  return tile.laid_out + panel_at(at / kUnit, tile.rows) + first * kUnit;
}

// Of the label of a row, or -1 where the tile does not have it.
int64_t column_of_label(const Exponentials& tile, int64_t row) {
  const int64_t column = tile.labels[row] - tile.first_item;
  return column >= 0 && column < tile.columns ? column : -1;
}

// The scores of the labels that are among the kUnit columns from `at` on. label [kUnit]: columns, or -1.
GRU4REC_BF16 void take_scores(const int32_t* label, int64_t at, const float* scores, float* target) {
  const __m512i first = _mm512_set1_epi32(static_cast<int32_t>(at)), width = _mm512_set1_epi32(kUnit);
  for (int64_t half = 0; half < kUnit; half += kLanes) {
    const __m512i place = _mm512_sub_epi32(_mm512_load_si512(label + half), first);
    for (uint32_t here = _mm512_cmplt_epu32_mask(place, width); here; here &= here - 1) {
      const int64_t i = half + std::countr_zero(here);
      target[i] = scores[i * kUnit + label[i] - at];
    }
  }
}

// Scores of a group, and their exponentials with tile.near subtracted; the sums of those, and the scores of the labels. Scores
// of two panels at a time are held: more would not stay in the nearest cache beside what they become. Only whole groups are
// laid out.
GRU4REC_BF16 void exponentials_meanwhile(const Exponentials& tile, int64_t first) {
  const int64_t rows = std::min(kUnit, tile.rows - first), columns = padded(tile.columns), depth = padded(tile.depth);
  alignas(64) float sums[kUnit * kLanes] = {}, near[kUnit] = {}, scores[2][kUnit * kUnit];
  alignas(64) int32_t label[kUnit];  // the column, or -1
  std::copy_n(tile.near + first, rows, near);
  for (int64_t i = 0; i < kUnit; ++i) {
    label[i] = i < rows ? static_cast<int32_t>(column_of_label(tile, first + i)) : -1;
    if (i < rows) tile.target[first + i] = 0.0f;
  }
  float* target = tile.target + first;
  const auto scores_at = [&](int64_t at) { return scores[at / kUnit % 2]; };
  const auto of_panel = [&](int64_t at) {
    return PanelExponentials{.scores = scores_at(at),
                             .columns = tile.columns - at,
                             .max = near,
                             .sums = sums,
                             .out = tile.out + left_at(first, at, columns),
                             .next_group = kLanes * columns,
                             .laid_out = tile.laid_out && rows == kUnit ? laid_out_at(tile, first, at) : nullptr,
                             .far = tile.far};
  };
  const Value* left = tile.queries + first * depth;
  block<false, false>(left, tile.items, depth, scores_at(0), kUnit);
  take_scores(label, 0, scores_at(0), target);
  for (int64_t at = kUnit; at < columns; at += kUnit) {
    block<false, false>(left, tile.items + panel_at(at / kUnit, tile.depth), depth, scores_at(at), kUnit, of_panel(at - kUnit));
    take_scores(label, at, scores_at(at), target);
  }
  of_panel(columns - kUnit)(0, 1);
  for (int64_t i = 0; i < rows; ++i) tile.sum[first + i] = _mm512_reduce_add_ps(_mm512_load_ps(sums + i * kLanes));
}

// The same with the largest score subtracted, of those rows whose sum with tile.near is too large, or of all without it. Scores
// are made again where there is tile.near: that is rare. Nothing is laid out.
GRU4REC_BF16 void exponentials_with_own_maximum(const Exponentials& tile, int64_t first) {
  const int64_t rows = std::min(kUnit, tile.rows - first), columns = padded(tile.columns), depth = padded(tile.depth);
  float* scores = score_memory(columns);
  for (int64_t at = 0; at < columns; at += kUnit)
    block<false, false>(tile.queries + first * depth, tile.items + panel_at(at / kUnit, tile.depth), depth, scores + at,
                        columns);
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t row = first + i, label = column_of_label(tile, row);
    const float* score = scores + i * columns;
    if (tile.near && tile.sum[row] <= kLargestSum) continue;
    tile.target[row] = label >= 0 ? score[label] : 0.0f;
    tile.max[row] = largest_of(score, tile.columns);
    tile.sum[row] = exponentials_of_row(score, tile.columns, tile.max[row], tile.out + left_at(row, 0, columns));
  }
}

// All that is made of a group, with the padding of both operands. Whether a row has another maximum than tile.near.
GRU4REC_BF16 bool exponentials_of_group(const Exponentials& tile, int64_t first) {
  const int64_t rows = std::min(kUnit, tile.rows - first), columns = padded(tile.columns);
  bool other = !tile.near;
  if (tile.near) {
    exponentials_meanwhile(tile, first);
    for (int64_t row = first; row < first + rows; ++row) {
      tile.max[row] = tile.near[row];
      other = other || !(tile.sum[row] <= kLargestSum);  // or it is NaN
    }
  }
  if (other) exponentials_with_own_maximum(tile, first);
  for (int64_t i = rows; i < kUnit; ++i)
    for (int64_t at = 0; at < columns; at += kUnit)
      std::memset(tile.out + left_at(first + i, at, columns), 0, kUnit * sizeof(Value));
  if (tile.laid_out && (other || rows < kUnit))
    for (int64_t at = 0; at < columns; at += kUnit)
      fill_right_of_left(tile.out + left_at(first, 0, columns), rows, columns, at, laid_out_at(tile, first, at), tile.far);
  return other;
}

// How many parts of a product a thread is woken for, if one takes so many multiplications.
int64_t at_least(int64_t multiplications) { return 1 + (int64_t{1} << 21) / multiplications; }

}  // namespace

Multiplier multiplier() {
  static const Multiplier found = [] {
    const std::string limit = limit_of_onednn();
    const bool less_than_bf16 =
        is_one_of(limit, {"SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI"});
    const bool less_than_tiles = is_one_of(limit, {"AVX512_CORE_BF16", "AVX512_CORE_FP16", "AVX10_1_512"});
    if (less_than_bf16 || !has_bf16_vectors()) return Multiplier::none;
    return has_tiles() && !less_than_tiles ? Multiplier::tiles : Multiplier::vectors;
  }();
  return found;
}

void Values::Free::operator()(Value* memory) const { std::free(memory); }

Value* Values::reserve(int64_t count) {
  if (count > size_) {
    const auto bytes = static_cast<size_t>(padded(count)) * sizeof(Value);
    memory_.reset(static_cast<Value*>(std::aligned_alloc(64, bytes)));
    if (!memory_) throw std::bad_alloc();
    size_ = padded(count);
  }
  return memory_.get();
}

void left_of(const Matrix& matrix, Value* out) { fill_left(matrix, out); }
void left_of_transposed(const Matrix& matrix, const float* factor, Value* out) { fill_left_transposed(matrix, factor, out); }
void right_of(const Matrix& matrix, Value* out) { fill_right(matrix, out); }
void right_of_transposed(const Matrix& matrix, Value* out) { fill_right_transposed(matrix, out); }
void round_rows(const Matrix& matrix, Value* out, int64_t stride) { fill_rounded(matrix, out, stride); }
void left_of_rows(const Value* from, int64_t stride, int64_t rows, int64_t columns, Value* out, int64_t depth, int64_t at) {
  fill_left_of_rows(from, stride, rows, columns, out, depth, at);
}
void right_of_rows(const Value* from, int64_t stride, int64_t rows, int64_t columns, Value* out) {
  fill_right_of_rows(from, stride, rows, columns, out);
}

void multiply(const Product& product) {
  const int64_t groups = padded(product.m) / kUnit, panels = padded(product.n) / kUnit;
  // A panel is used by all rows while it is in cache.
  at::parallel_for(0, groups, at_least(kUnit * padded(product.n) * padded(product.k)), [&](int64_t first, int64_t last) {
    const Tiles tiles;
    for (int64_t group = first; group < last; ++group) multiply_group(product, group * kUnit, 0, panels);
  });
}

void add_item_gradients(const ItemGradients& tile) {
  const int64_t panels = padded(tile.columns) / kUnit, depth = padded(tile.rows);
  at::parallel_for(0, panels, at_least(kUnit * depth * padded(tile.depth)), [&](int64_t first, int64_t last) {
    const Tiles tiles;
    thread_local Values memory;
    Value* of_made = tile.laid_out ? nullptr : memory.reserve(depth * kUnit);
    for (int64_t panel = first; panel < last; ++panel) {
      const int64_t at = panel * kUnit;
      if (!tile.laid_out) fill_right_of_left(tile.made, tile.rows, tile.columns, at, of_made);
      const Value* right = tile.laid_out ? tile.laid_out + panel_at(panel, tile.rows) : of_made;
      const Product product{.left = tile.queries,
                            .right = right,
                            .m = tile.depth,
                            .n = std::min(kUnit, tile.columns - at),
                            .k = tile.rows,
                            .out = tile.out + at * tile.stride,
                            .stride = tile.stride,
                            .store = Store::add_transposed,
                            .ahead = tile.laid_out ? right + panel_values(tile.rows) : nullptr};
      for (int64_t row = 0; row < tile.depth; row += kUnit) multiply_group(product, row, 0, 1);
    }
  });
}

bool exponentials(const Exponentials& tile) {
  std::atomic<bool> other = false;
  at::parallel_for(0, padded(tile.rows) / kUnit, 1 + 32768 / (kUnit * padded(tile.columns)), [&](int64_t first, int64_t last) {
    const Tiles tiles;
    for (int64_t group = first; group < last; ++group)
      if (exponentials_of_group(tile, group * kUnit)) other = true;
    if (tile.laid_out && tile.far) _mm_sfence();
  });
  return other;
}

}  // namespace gru4rec::bf16

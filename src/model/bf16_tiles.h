// Products of bf16 matrices in the tile registers of AMX, or by the bf16 instructions of AVX-512: fp32 sums of products of bf16
// pairs, in an order that depends on the shapes alone, so that the bits are those of every other run and number of threads on
// processors of the same capability (train/determinism.h) and maker.
//
// Operands lie in memory as both take them. Their rows, columns and depths are rounded up to kUnit; what is beyond the matrix
// is zero.
//   left   [m, k]  groups of 16 rows; in a group, kUnit columns after kUnit columns, row after row
//   right  [k, n]  panels of kUnit columns; in a panel pair after pair of k: b[2p][j], b[2p + 1][j] for each column j
// Everything here is Local and needs a multiplier(). A register of AMX holds 16 rows of 64 bytes (Intel SDM, TDPBF16PS; without
// AMX, VDPBF16PS).
#pragma once

#include <c10/util/BFloat16.h>

#include <cstdint>
#include <memory>

namespace gru4rec::bf16 {

using Value = c10::BFloat16;
constexpr int64_t kUnit = 32;

constexpr int64_t padded(int64_t count) { return (count + kUnit - 1) / kUnit * kUnit; }

// What multiplies bf16 here: nothing, the vector instructions of AVX-512, or the tile registers of AMX, within the instruction
// set that train/determinism.h pins for oneDNN. Found out once.
enum class Multiplier { none, vectors, tiles };
Multiplier multiplier();

// Memory that grows and stays: given back to the system and faulted in again it would cost as much as much of the arithmetic.
class Values {
 public:
  // At least `count` values, 64-byte aligned; what they were is lost.
  Value* reserve(int64_t count);
  const Value* values() const { return memory_.get(); }
  Value* values() { return memory_.get(); }

 private:
  struct Free {
    void operator()(Value* memory) const;
  };
  std::unique_ptr<Value[], Free> memory_;
  int64_t size_ = 0;
};

// Rows of fp32 values with `stride` from one to the next.
struct Matrix {
  const float* values;
  int64_t rows, columns, stride;
};

// out [padded(rows), padded(columns)], a left operand: the matrix, rounded to nearest, ties to even.
void left_of(const Matrix& matrix, Value* out);
// out [padded(columns), padded(rows)], a left operand: the transposed matrix; row i of the matrix is multiplied by factor[i]
// (or 1, if there are none) before it is rounded.
void left_of_transposed(const Matrix& matrix, const float* factor, Value* out);
// out [padded(rows), padded(columns)], a right operand.
void right_of(const Matrix& matrix, Value* out);
// out [padded(columns), padded(rows)], a right operand: the transposed matrix.
void right_of_transposed(const Matrix& matrix, Value* out);
// Values of a right operand of depth k from one group of kUnit columns to the next.
constexpr int64_t panel_values(int64_t k) { return padded(k) * kUnit; }

// Rows of bf16 values, `stride` from one to the next, a multiple of kUnit: what several operands are made of. Columns of an
// operand are given in values and begin at a multiple of kUnit.
// out: the matrix, rounded to nearest, ties to even, with zeros up to padded(columns).
void round_rows(const Matrix& matrix, Value* out, int64_t stride);
// The columns [at, at + columns) of a left operand [padded(rows), depth], from as many columns of the rows.
void left_of_rows(const Value* from, int64_t stride, int64_t rows, int64_t columns, Value* out, int64_t depth, int64_t at);
// out [padded(rows), padded(columns)], a right operand.
void right_of_rows(const Value* from, int64_t stride, int64_t rows, int64_t columns, Value* out);

// Where a product goes.
enum class Store { replace, add, add_transposed };

// out [m, n] = left · right, or += ; with add_transposed out[j][i] += (left · right)[i][j].
struct Product {
  const Value* left;
  const Value* right;
  int64_t m, n, k;  // of the matrices, without padding
  float* out;
  int64_t stride;  // of out
  Store store = Store::replace;
  const Value* ahead = nullptr;  // with add_transposed: panel_values(k) values that are soon wanted, or null. They are only
                                 // fetched, and may lie beyond what is there.
};
// By the threads of this rank, as all that follows.
void multiply(const Product& product);

// Scores of the queries of a chunk with the items of a tile, and their exponentials.
struct Exponentials {
  const Value* queries;  // left operand [rows, depth]
  const Value* items;    // right operand [depth, columns]
  int64_t rows, columns, depth;
  const int64_t* labels;  // [rows] table rows
  int64_t first_item;     // table row of the tile's first column
  const float* near;      // [rows] what to subtract where it is near enough to the largest score; or null
  Value* out;             // left operand [padded(rows), padded(columns)]: exp(score - max), rounded
  Value* laid_out;        // right operand of the same shape, for add_item_gradients(), 64-byte aligned; or null
  bool far;               // laid_out is not wanted before much else was in the caches: it goes past them (non-temporal stores)
  float* max;             // [rows] near[i] where the exponentials are small enough with it, else the largest score
  float* sum;             // [rows] of the exponentials, before they are rounded
  float* target;          // [rows] the score of the label, else 0
};
// Whether max is another than near. With a value to subtract known beforehand the exponentials of some columns are taken while
// the scores of the next ones are made. Near enough: the sum is at most e^16, and so is far from overflow; a
// score far below it counts for nothing beside those it came from.
bool exponentials(const Exponentials& tile);

// What a tile adds to the gradients of its items: out[j][e] += Σ_i exponentials[i][j] · queries[e][i].
struct ItemGradients {
  const Value* queries;   // left operand [depth, rows], multiplied by their factors
  const Value* laid_out;  // right operand; or else
  const Value* made;      // left operand [rows, columns]; both as exponentials() left them
  int64_t rows, columns, depth;
  float* out;  // [columns, depth], rows `stride` apart
  int64_t stride;
};
void add_item_gradients(const ItemGradients& tile);

}  // namespace gru4rec::bf16

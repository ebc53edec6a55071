// pack_bf16.h: operands of tile_bf16.h from floats (rounded on the way) or bf16 in memory, and results back.
#pragma once
#include "tile_bf16.h"

namespace thalweg {

// Numbers that are floats or bf16. Both kinds share the code that walks over them.
struct NumbersBf16 {
  const void* p;
  bool is_float;
  NumbersBf16(const float* q) : p(q), is_float(true) {}
  NumbersBf16(const Bf16* q) : p(q), is_float(false) {}
  NumbersBf16 from(int64_t i) const {
    NumbersBf16 n = *this;
    n.p = static_cast<const std::byte*>(p) + i * (is_float ? 4 : 2);
    return n;
  }
};

// Element (k, j) = numbers[k k_step + j j_step].
struct OperandBf16 {
  NumbersBf16 numbers;
  int64_t k_step, j_step;
};
enum class PackForm { rows, pairs };  // tiles of A, tiles of B
// K in [k, k + count) of the n <= kSide rows or columns from j on, into divide_up(count, kGroup) tiles; zeros
// elsewhere.
void pack_bf16(const OperandBf16&, int64_t k, int64_t count, int64_t j, int n, PackForm, Bf16* to);

// Tiles of B for any number of columns, `step` elements from each to the next.
void pack_pairs_bf16(const OperandBf16&, int64_t k, int64_t count, int64_t j, int64_t n, Bf16* to, int64_t step);

void copy_bf16(const NumbersBf16& from, int64_t n, Bf16* to);  // rounds n numbers

// to[i room + j] = from[i step + j] for the n numbers of each of the `count` runs, zero for j in [n, room); room is a
// multiple of kGroup.
void spread_bf16(const Bf16* from, int64_t step, int64_t count, int64_t n, int64_t room, Bf16* to);
// Turns the quads of n numbers (a multiple of 4), as operands have them, where they are turned.
void turn_bf16(Bf16* p, int64_t n);
// Pairs of k for tiles of B (an even number where quads are turned). Where they are not: to[2 (i kSide + j) + h] =
// from[(2 i + h) k_step + j] for n <= kSide columns, zeros beyond.
void pair_bf16(const Bf16* from, int64_t k_step, int64_t pairs, int n, Bf16* to);

bool finite(const Bf16* p, int64_t n);

// Rows of a block of sums on their way to C.
struct OutBf16 {
  void* p;
  bool is_float;
  OutBf16(float* q) : p(q), is_float(true) {}
  OutBf16(Bf16* q) : p(q), is_float(false) {}
  std::byte* bytes() const { return static_cast<std::byte*>(p); }
  OutBf16 from(int64_t i) const {
    OutBf16 n = *this;
    n.p = static_cast<std::byte*>(p) + i * (is_float ? 4 : 2);
    return n;
  }
};
// to[i step + j] = bias[j] + sum(i, j), or added to it, for the n <= kSide columns of `rows` rows of a tile. far:
// floats at multiples of 64 bytes may go past the caches (stream.h).
void put_tile(const float* sum, int rows, int n, const float* bias, bool accumulate, const OutBf16& to, int64_t step,
              bool far = false);

}  // namespace thalweg

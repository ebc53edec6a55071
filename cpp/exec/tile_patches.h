// tile_patches.h: the register tile of weight gradients of few channels, where lanes are all taps of a pixel:
//   acc(i, l) = fma(A(i, k), B(k, l), acc(i, l))   for rows i (outputs) and pixels k
// Each kernel row is a few neighbouring numbers of x. What some pixels in turn read of it is loaded once, and their
// patches are picked from it in registers: no patch is written down, as those of conv_patches.h are.
#pragma once
#include "conv.h"
#include "tile.h"

namespace thalweg {

template <class T>
struct PatchTaps {
  static constexpr int64_t kRows = 8;               // at most, of a tile
  static constexpr int64_t kPieces = 4, kHeld = 3;  // kernel rows of a vector, at most; pixels of a load, at least
  int64_t count, row, down, step;  // kernel rows; numbers of one, to the next one, and from pixel to pixel

  // Tap (r, j) is lane r row + j; line: numbers of a row of x.
  static PatchTaps of(const Conv& v, int64_t line) { return {v.kh, v.kw * v.c, v.dilation_h * line, v.stride_w * v.c}; }
  static bool can(const Conv& v) {
    const PatchTaps taps = of(v, 0);
    constexpr int64_t W = kLanes<T>;
    return kPicksFast && v.groups == 1 && v.dilation_w == 1 && v.kh > 1 && taps.row < W && taps.held() >= kHeld &&
           v.kh * taps.row <= 2 * W && (W - 2) / taps.row + 2 <= kPieces;
  }
  int64_t held() const { return (kLanes<T> - row) / step + 1; }
  int64_t vectors() const { return divide_up(count * row, kLanes<T>); }
  int64_t first_row(int64_t vector) const { return vector * kLanes<T> / row; }
  int64_t pieces(int64_t vector) const {  // kernel rows that a vector touches
    return vector < vectors() ? std::min(count, divide_up((vector + 1) * kLanes<T>, row)) - first_row(vector) : 0;
  }
};

// A(i, k) = a[segment.a + k a_step + i], as of form columns; kernel row r of pixel k begins at
// b[segment.b + k step + r down]. Sums go to slots.
template <class T>
void patch_tile(const TileCall<T>&, const PatchTaps<T>&, int outputs);

}  // namespace thalweg

// tile_depthwise.h: the register tiles of depthwise convolutions, where each channel j is a product of its own. Forward
// and to the input:
//   acc(g, i, j) = fma(A(g, i, k, j), B(k, j), acc(g, i, j))   for up to kDepthSide groups g of up to kDepthSide rows i
// Rows are neighbouring pixels and K their taps: A(g, i, k) is x(i + k) where stride and dilation are 1, and stays in a
// register for kDepthSide of them. To the weight it is the other way round. Sums follow the orders of tile.h.
#pragma once
#include "tile.h"

namespace thalweg {

inline constexpr int kDepthSide = kVectorBytes > 16 ? 3 : 2;
inline constexpr int kDepthVectors = kRegisters / 16;
template <class T>
inline constexpr int kDepthPanel = kDepthVectors * kLanes<T>;  // channels at a time
template <class T>
inline constexpr int kDepthSize = kDepthSide * kDepthSide * kDepthPanel<T>;  // numbers of a slot

template <class T>
struct DepthwiseCall {
  const T* a = nullptr;  // A(g, i, k, j) = a[segment.a + g a_group + i a_row + k a_step + j]
  int64_t a_group = 0, a_row = 0, a_step = 0;
  const T* b = nullptr;  // B(k, j) = b[segment.b + k b_step + j]
  int64_t b_step = 0;
  SumOrder order;      // all its chains
  T* stack = nullptr;  // slots of kDepthSize elements, [g][i][kDepthPanel]
  int64_t channels = 0;
  T* out = nullptr;  // the last chain's sum goes to out[g out_group + i out_row + j], not to its slot:
  int64_t out_group = 0, out_row = 0;
  const T* bias = nullptr;  // + bias[j], where not null
  bool accumulate = false;  // + what out holds
};

// To the weight, where x lies: sums over output pixels of a block of taps, of up to kDepthSide rows (groups) of up to
// kDepthSide of them.
//   acc(r, s, j) = fma(x(image, p step_h + r tap_h + top, q step_w + s tap_w + left, j), d_y(pixel, j), acc(r, s, j))
// x outside the image counts as +0.
template <class T>
struct DepthWeightCall {
  const T *x = nullptr, *d_y = nullptr;            // of the first channel
  int64_t h = 0, w = 0, x_image = 0, x_pixel = 0;  // of x: rows, columns; numbers from image to image, pixel to pixel
  int64_t rows = 0, cols = 0, y_pixel = 0;         // of d_y
  int64_t step_h = 1, step_w = 1, tap_h = 1, tap_w = 1, top = 0, left = 0;
  SumOrder order;      // segment.a: output pixel, counted over all images; b = a y_pixel
  T* stack = nullptr;  // slots of kDepthSize elements, [r][s][kDepthPanel]
  int64_t channels = 0;
  const std::byte* ahead = nullptr;  // read soon after: asked for, and moved on, with every kDepthSide pixels
  int ahead_lines = 0;               // by so many lines
};
// For all channels, kDepthPanel at a time in the same slots. Nothing behind the last channel is read or written.
template <class T>
void depthwise_weight_tile(DepthWeightCall<T>&, int taps_high, int taps_wide);

// An axis of pixels: how many, and how far apart they lie in A and out.
struct PixelAxis {
  int64_t count, a, out;
};
// Every pixel of a block of images, in tiles, for all channels as above. The steps of rows and groups are set here.
template <class T>
void depthwise_pixels(DepthwiseCall<T>, PixelAxis images, PixelAxis rows, PixelAxis cols);

}  // namespace thalweg

// conv.h: convolutions on planes of float or double; images (N, H, W, C), weights (out, kh, kw, C / groups).
//   y(n, p, q, o) = bias(o) + sum_{r, s, c} x(n, p stride_h + r dilation_h - pad_top, ..., g c_g + c) w(o, r, s, c)
// Bits: the K of an output pixel is its taps and input channels in the order kh, kw, in, cut every kKBlock, each block
// a chain of fma from zero, the blocks added in order: the bits of a matmul over these K. The K of a pixel of d_x is
// the taps that the stride lets reach it, kh and kw falling, then out, in blocks likewise. Taps outside the image count
// where blocks end, but add nothing. A weight gradient takes one image as a leaf (K = its output pixels in order, in
// blocks likewise, x outside the image +0); images fold in the tree of shards.h inside a shard, then the shards fold.
// Nothing depends on tile, vector width, threads, ranks or instruction set. Float ones with 3x3 weights that move by
// one pixel have the sums of conv_winograd.h instead, where it pays.
#pragma once
#include "follow.h"
#include "shards.h"

namespace thalweg {

struct Conv {
  int64_t n, h, w, c;   // input
  int64_t out, kh, kw;  // output channels, kernel
  int64_t stride_h = 1, stride_w = 1, pad_top = 0, pad_bottom = 0, pad_left = 0, pad_right = 0;
  int64_t dilation_h = 1, dilation_w = 1, groups = 1;
  bool direct = false;  // not by conv_winograd.h, even where it pays
  int64_t out_h() const { return (h + pad_top + pad_bottom - dilation_h * (kh - 1) - 1) / stride_h + 1; }
  int64_t out_w() const { return (w + pad_left + pad_right - dilation_w * (kw - 1) - 1) / stride_w + 1; }
  int64_t group_in() const { return c / groups; }
  int64_t group_out() const { return out / groups; }
  double flops() const { return 2.0 * n * out_h() * out_w() * out * kh * kw * group_in(); }
};
// accumulate: the result is added to what y, d_x or d_w holds, one addition per element.
template <class T>
void conv_forward(const Exec&, const Conv&, const T* x, const T* weight, const T* bias, T* y, bool accumulate,
                  const Follow& follow = {});
template <class T>
void conv_backward_input(const Exec&, const Conv&, const T* d_y, const T* weight, T* d_x, bool accumulate,
                         const Follow& follow = {});
template <class T>
void conv_backward_weight(const Exec&, const Conv&, const Shards&, const T* x, const T* d_y, T* d_w, bool accumulate);

}  // namespace thalweg

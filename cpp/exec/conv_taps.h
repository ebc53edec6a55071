// conv_taps.h: the form that convolution forward and backward to the input share: each output pixel of a grid is a
// weighted sum of source pixels (taps), each tap a contiguous run of channels.
//   out(n, p, q, g, j) = bias + sum over taps (r, s) and channels k of
//                        source(n, p step_h + row(r), q step_w + col(s), g, k) weight(g, r, s, k, j)
// K runs over r, s, k in this order, cut every kKBlock; source pixels outside the image count, but add nothing.
#pragma once
#include <numeric>

#include "conv.h"

namespace thalweg {

// Tap i of an axis reads the source at offset + i offset_step and uses kernel position kernel + i kernel_step.
struct TapAxis {
  int64_t count, offset, offset_step, kernel, kernel_step;
};

struct TapConv {
  int64_t n, in_h, in_w, in_c;         // source images
  int64_t rows, cols, step_h, step_w;  // grid of output pixels
  TapAxis tap_h, tap_w;
  int64_t out_image, out_row, out_col;         // strides of the output, in elements
  int64_t groups, group_in, group_out;         // channels of a group
  int64_t w_group, w_row, w_col, w_in, w_out;  // strides of the weight
  int64_t taps() const { return tap_h.count * tap_w.count; }
  int64_t k() const { return taps() * group_in; }
  int64_t weight_at(int64_t r, int64_t s) const {  // tap (r, s) of the first group, input and output
    return (tap_h.kernel + r * tap_h.kernel_step) * w_row + (tap_w.kernel + s * tap_w.kernel_step) * w_col;
  }
  bool depthwise() const { return group_in == 1 && group_out == 1 && groups > 1; }
  double flops() const { return 2.0 * double(n * rows * cols) * double(groups * group_out) * double(k() + 1); }
};

// y from x: K of an output pixel is kh, kw, in.
inline TapConv forward_taps(const Conv& v) {
  const int64_t rows = v.out_h(), cols = v.out_w(), in = v.group_in();
  return {.n = v.n,
          .in_h = v.h,
          .in_w = v.w,
          .in_c = v.c,
          .rows = rows,
          .cols = cols,
          .step_h = v.stride_h,
          .step_w = v.stride_w,
          .tap_h = {v.kh, -v.pad_top, v.dilation_h, 0, 1},
          .tap_w = {v.kw, -v.pad_left, v.dilation_w, 0, 1},
          .out_image = rows * cols * v.out,
          .out_row = cols * v.out,
          .out_col = v.out,
          .groups = v.groups,
          .group_in = in,
          .group_out = v.group_out(),
          .w_group = v.group_out() * v.kh * v.kw * in,
          .w_row = v.kw * in,
          .w_col = in,
          .w_in = 1,
          .w_out = v.kh * v.kw * in};
}

// d_x from d_y. An input pixel gathers from the output pixels whose windows hold it, so with a stride its taps depend
// on its position modulo the stride: each such phase is a convolution of step 1 over d_y. K of an input pixel: those
// taps with kh and kw falling (so that d_y is read forwards), then out. Taps of input positions phase, phase + stride,
// ...: kernel positions r with (phase + pad - r dilation) divisible by the stride, falling. Position phase + i stride
// then reads d_y at i + (phase + pad - r dilation) / stride.
inline TapAxis phase_taps(int64_t phase, int64_t kernel, int64_t stride, int64_t pad, int64_t dilation) {
  const int64_t period = stride / std::gcd(stride, dilation);
  TapAxis axis{0, 0, period * dilation / stride, 0, -period};
  for (int64_t r = kernel - 1; r >= 0; r--) {
    const int64_t distance = phase + pad - r * dilation;
    if (distance % stride != 0) continue;
    if (axis.count++ == 0) axis.kernel = r, axis.offset = distance / stride;
  }
  return axis;
}
// f(taps, first) for every phase; its outputs begin at element `first` of d_x.
template <class F>
void each_phase(const Conv& v, F f) {
  const int64_t in = v.group_in(), out = v.group_out();
  TapConv taps{.n = v.n,
               .in_h = v.out_h(),
               .in_w = v.out_w(),
               .in_c = v.out,
               .rows = 0,
               .cols = 0,
               .step_h = 1,
               .step_w = 1,
               .tap_h = {},
               .tap_w = {},
               .out_image = v.h * v.w * v.c,
               .out_row = v.stride_h * v.w * v.c,
               .out_col = v.stride_w * v.c,
               .groups = v.groups,
               .group_in = out,
               .group_out = in,
               .w_group = out * v.kh * v.kw * in,
               .w_row = v.kw * in,
               .w_col = in,
               .w_in = v.kh * v.kw * in,
               .w_out = 1};
  for (int64_t p = 0; p < std::min(v.stride_h, v.h); p++)
    for (int64_t q = 0; q < std::min(v.stride_w, v.w); q++) {
      taps.rows = (v.h - p + v.stride_h - 1) / v.stride_h;
      taps.cols = (v.w - q + v.stride_w - 1) / v.stride_w;
      taps.tap_h = phase_taps(p, v.kh, v.stride_h, v.pad_top, v.dilation_h);
      taps.tap_w = phase_taps(q, v.kw, v.stride_w, v.pad_left, v.dilation_w);
      f(taps, (p * v.w + q) * v.c);
    }
}

template <class T>
void conv_taps(const Exec&, const TapConv&, const T* source, const T* weight, const T* bias, T* out, bool accumulate,
               const Follow& follow);
// Whether conv_taps calls `follow`; elsewhere the caller does, when all is done.
template <class T>
bool conv_taps_follows(const TapConv& v);

// Estimated nanoseconds on one thread.
double conv_ns(double flops, bool is_double);

}  // namespace thalweg

// conv_taps.h: the form that convolution forward and backward to the input share: each output pixel of a grid is a
// weighted sum of source pixels (taps), each tap a contiguous run of channels.
//   out(n, p, q, g, j) = bias + sum over taps (r, s) and channels k of
//                        source(n, p step_h + row(r), q step_w + col(s), g, k) weight(g, r, s, k, j)
// K runs over r, s, k in this order, cut every kKBlock; source pixels outside the image count, but add nothing.
#pragma once
#include "follow.h"

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
  double flops() const { return 2.0 * double(n * rows * cols) * double(groups * group_out) * double(k() + 1); }
};

template <class T>
void conv_taps(const Exec&, const TapConv&, const T* source, const T* weight, const T* bias, T* out, bool accumulate,
               const Follow& follow);
// Whether conv_taps calls `follow`; elsewhere the caller does, when all is done.
template <class T>
bool conv_taps_follows(const TapConv& v);

// Estimated nanoseconds on one thread.
double conv_ns(double flops, bool is_double);

}  // namespace thalweg

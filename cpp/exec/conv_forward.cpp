// conv_forward.cpp: y from x; K of an output pixel is kh, kw, in, in this order, in blocks of kKBlock.
#include "conv.h"
#include "conv_taps.h"

namespace thalweg {

template <class T>
void conv_forward(const Exec& exec, const Conv& v, const T* x, const T* weight, const T* bias, T* y, bool accumulate,
                  const Follow& follow) {
  const int64_t rows = v.out_h(), cols = v.out_w(), in = v.group_in();
  const TapConv taps{.n = v.n,
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
  const bool inside = conv_taps_follows<T>(taps);
  conv_taps(exec, taps, x, weight, bias, y, accumulate, inside ? follow : Follow{});
  if (follow && !inside) follow_all(exec, v.n * rows * cols * v.out, follow);
}
template void conv_forward(const Exec&, const Conv&, const float*, const float*, const float*, float*, bool,
                           const Follow&);
template void conv_forward(const Exec&, const Conv&, const double*, const double*, const double*, double*, bool,
                           const Follow&);

}  // namespace thalweg

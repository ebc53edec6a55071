// conv_backward_input.cpp: d_x from d_y. An input pixel gathers from the output pixels whose windows hold it, so with
// a stride its taps depend on its position modulo the stride: each such phase is a convolution of step 1 over d_y.
// K of an input pixel: those taps with kh and kw falling (so that d_y is read forwards), then out, in blocks of
// kKBlock.
#include <numeric>

#include "conv.h"
#include "conv_taps.h"

namespace thalweg {
namespace {

// Taps of input positions phase, phase + stride, ...: kernel positions r with (phase + pad - r dilation) divisible by
// the stride, falling. Position phase + i stride then reads d_y at i + (phase + pad - r dilation) / stride.
TapAxis phase_taps(int64_t phase, int64_t kernel, int64_t stride, int64_t pad, int64_t dilation) {
  const int64_t period = stride / std::gcd(stride, dilation);
  TapAxis axis{0, 0, period * dilation / stride, 0, -period};
  for (int64_t r = kernel - 1; r >= 0; r--) {
    const int64_t distance = phase + pad - r * dilation;
    if (distance % stride != 0) continue;
    if (axis.count++ == 0) axis.kernel = r, axis.offset = distance / stride;
  }
  return axis;
}

}  // namespace

template <class T>
void conv_backward_input(const Exec& exec, const Conv& v, const T* d_y, const T* weight, T* d_x, bool accumulate,
                         const Follow& follow) {
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
  auto each_phase = [&](auto f) {
    for (int64_t p = 0; p < std::min(v.stride_h, v.h); p++)
      for (int64_t q = 0; q < std::min(v.stride_w, v.w); q++) {
        taps.rows = (v.h - p + v.stride_h - 1) / v.stride_h;
        taps.cols = (v.w - q + v.stride_w - 1) / v.stride_w;
        taps.tap_h = phase_taps(p, v.kh, v.stride_h, v.pad_top, v.dilation_h);
        taps.tap_w = phase_taps(q, v.kw, v.stride_w, v.pad_left, v.dilation_w);
        f((p * v.w + q) * v.c);
      }
  };
  bool inside = true;
  each_phase([&](int64_t) { inside &= conv_taps_follows<T>(taps); });
  each_phase([&](int64_t first) {
    conv_taps<T>(exec, taps, d_y, weight, nullptr, d_x + first, accumulate, inside ? follow.from(first) : Follow{});
  });
  if (follow && !inside) follow_all(exec, v.n * v.h * v.w * v.c, follow);
}
template void conv_backward_input(const Exec&, const Conv&, const float*, const float*, float*, bool, const Follow&);
template void conv_backward_input(const Exec&, const Conv&, const double*, const double*, double*, bool, const Follow&);

}  // namespace thalweg

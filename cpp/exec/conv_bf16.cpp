// conv_bf16.cpp: the forms of conv_bf16.h as taps, or as plain products where the kernel is one pixel.
#include "conv_bf16.h"

#include "conv_taps_bf16.h"

namespace thalweg {
namespace {

bool is_product(const Conv& v) {
  return v.kh == 1 && v.kw == 1 && v.stride_h == 1 && v.stride_w == 1 && v.pad_top == 0 && v.pad_bottom == 0 &&
         v.pad_left == 0 && v.pad_right == 0 && v.groups == 1;
}

}  // namespace

template <class X, class Y>
void conv_forward_bf16(const Exec& exec, const Conv& v, const X* x, const float* weight, const float* bias, Y* y,
                       const Follow& follow) {
  if (is_product(v)) {
    const Matmul p{v.n * v.h * v.w, v.out, v.c, v.c, 1, 1, v.c, v.out};
    return matmul_bf16_weight(exec, p, x, weight, bias, y, follow);
  }
  conv_taps_bf16(exec, forward_taps(v), x, weight, bias, y, follow);
}

template <class X, class Y>
void conv_backward_input_bf16(const Exec& exec, const Conv& v, const X* d_y, const float* weight, Y* d_x,
                              const Follow& follow) {
  if (is_product(v)) {
    const Matmul p{v.n * v.h * v.w, v.c, v.out, v.out, 1, v.c, 1, v.c};
    return matmul_bf16_weight(exec, p, d_y, weight, nullptr, d_x, follow);
  }
  const bool whole_rows = v.stride_h == 1 && v.stride_w == 1;
  each_phase(v, [&](const TapConv& taps, int64_t first) {
    conv_taps_bf16(exec, taps, d_y, weight, nullptr, d_x + first, whole_rows ? follow : Follow{});
  });
  if (follow && !whole_rows) follow_all(exec, v.n * v.h * v.w * v.c, follow);
}

#define TW_CONVOLUTIONS(X, Y)                                                                                         \
  template void conv_forward_bf16(const Exec&, const Conv&, const X*, const float*, const float*, Y*, const Follow&); \
  template void conv_backward_input_bf16(const Exec&, const Conv&, const X*, const float*, Y*, const Follow&);
TW_CONVOLUTIONS(float, float)
TW_CONVOLUTIONS(Bf16, Bf16)
TW_CONVOLUTIONS(Bf16, float)
#undef TW_CONVOLUTIONS

}  // namespace thalweg

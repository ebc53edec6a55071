// conv_bf16.cpp: convolutions one element at a time.
#include "conv_bf16.h"

#include "conv_taps.h"
#include "group_sum_bf16.h"

namespace thalweg {

template <class X>
void conv_forward_bf16(const Exec& exec, const Conv& v, const X* x, const float* w, const float* bias, X* y,
                       const Follow& follow) {
  const int64_t rows = v.out_h(), cols = v.out_w(), in = v.group_in();
  exec.parallel(v.n * rows, conv_ns(v.flops(), false), [&](int64_t row, int) {
    const int64_t n = row / rows, p = row % rows;
    for (int64_t q = 0; q < cols; q++)
      for (int64_t o = 0; o < v.out; o++) {
        float sum = 0;
        GroupSum s;
        for (int64_t r = 0; r < v.kh; r++) {
          for (int64_t t = 0; t < v.kw; t++)
            for (int64_t c = 0; c < in; c++) {
              const int64_t h = p * v.stride_h + r * v.dilation_h - v.pad_top;
              const int64_t u = q * v.stride_w + t * v.dilation_w - v.pad_left;
              const bool inside = h >= 0 && h < v.h && u >= 0 && u < v.w;
              const int64_t from = ((n * v.h + h) * v.w + u) * v.c + o / v.group_out() * in + c;
              s.add(inside ? operand_bf16(x[from]) : 0.0f, operand_bf16(w[((o * v.kh + r) * v.kw + t) * in + c]));
            }
          sum = s.close();
        }
        put_bf16(bias ? bias[o] + sum : sum, y + (row * cols + q) * v.out + o);
      }
    if (follow && cols * v.out > 0) follow({row * cols * v.out, 0, 1, cols * v.out});
  });
}

template <class X>
void conv_backward_input_bf16(const Exec& exec, const Conv& v, const X* d_y, const float* w, X* d_x,
                              const Follow& follow) {
  const int64_t rows = v.out_h(), cols = v.out_w(), in = v.group_in(), out = v.group_out();
  exec.parallel(v.n * v.h, conv_ns(v.flops(), false), [&](int64_t row, int) {
    const int64_t n = row / v.h, h = row % v.h;
    for (int64_t u = 0; u < v.w; u++)
      for (int64_t c = 0; c < v.c; c++) {
        float sum = 0;
        GroupSum s;
        for (int64_t r = v.kh - 1; r >= 0; r--) {
          for (int64_t t = v.kw - 1; t >= 0; t--) {
            const int64_t down = h + v.pad_top - r * v.dilation_h, right = u + v.pad_left - t * v.dilation_w;
            if (down % v.stride_h || right % v.stride_w) continue;
            const int64_t p = down / v.stride_h, q = right / v.stride_w, group = c / in;
            const bool inside = p >= 0 && p < rows && q >= 0 && q < cols;
            for (int64_t o = group * out; o < (group + 1) * out; o++)
              s.add(inside ? operand_bf16(d_y[((n * rows + p) * cols + q) * v.out + o]) : 0.0f,
                    operand_bf16(w[((o * v.kh + r) * v.kw + t) * in + c % in]));
          }
          sum = s.close();
        }
        put_bf16(sum, d_x + (row * v.w + u) * v.c + c);
      }
    if (follow && v.w * v.c > 0) follow({row * v.w * v.c, 0, 1, v.w * v.c});
  });
}

template <class X>
void conv_backward_weight_bf16(const Exec& exec, const Conv& v, const Shards& shards, const X* x, const X* d_y,
                               float* d_w) {
  const int64_t rows = v.out_h(), cols = v.out_w(), in = v.group_in();
  auto image = [&](int64_t n, int64_t o, int64_t r, int64_t t, int64_t c) {
    GroupSum s;
    for (int64_t p = 0; p < rows; p++)
      for (int64_t q = 0; q < cols; q++) {
        const int64_t h = p * v.stride_h + r * v.dilation_h - v.pad_top;
        const int64_t u = q * v.stride_w + t * v.dilation_w - v.pad_left;
        const bool inside = h >= 0 && h < v.h && u >= 0 && u < v.w;
        s.add(inside ? operand_bf16(x[((n * v.h + h) * v.w + u) * v.c + o / v.group_out() * in + c]) : 0.0f,
              operand_bf16(d_y[((n * rows + p) * cols + q) * v.out + o]));
      }
    return s.close();
  };
  exec.parallel(v.out * v.kh, conv_ns(v.flops(), false), [&](int64_t row, int) {
    for (int64_t t = 0; t < v.kw; t++)
      for (int64_t c = 0; c < in; c++) {
        float slot[128] = {};
        fold_tree(
            shards.count(),
            [&](int64_t s, int level) {
              const int64_t first = shards.offset[s];
              slot[level] = 0;
              fold_tree(
                  shards.offset[s + 1] - first,
                  [&](int64_t i, int inner) { slot[level + inner] = image(first + i, row / v.kh, row % v.kh, t, c); },
                  [&](int into, int from) { slot[level + into] += slot[level + from]; });
            },
            [&](int into, int from) { slot[into] += slot[from]; });
        d_w[(row * v.kw + t) * in + c] = slot[0];
      }
  });
}

#define TW_CONVOLUTIONS(X)                                                                                            \
  template void conv_forward_bf16(const Exec&, const Conv&, const X*, const float*, const float*, X*, const Follow&); \
  template void conv_backward_input_bf16(const Exec&, const Conv&, const X*, const float*, X*, const Follow&);        \
  template void conv_backward_weight_bf16(const Exec&, const Conv&, const Shards&, const X*, const X*, float*);
TW_CONVOLUTIONS(float)
TW_CONVOLUTIONS(Bf16)
#undef TW_CONVOLUTIONS

}  // namespace thalweg

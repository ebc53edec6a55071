// convs_bf16_check.h: convolutions of bf16 operands against scalar references in the order of conv_bf16.h.
#pragma once
#include "conv_shapes.h"
#include "products_bf16_check.h"

namespace {

// y of one pixel and channel: for every kh its K in the order kw, in, in groups; zeros outside the image.
template <class X>
float ref_forward(const Conv& v, const X* x, const float* w, int64_t n, int64_t p, int64_t q, int64_t o) {
  const FlushDenormals flush;
  GroupSum s;
  const int64_t in = v.group_in(), group = o / v.group_out();
  for (int64_t r = 0; r < v.kh; r++) {
    for (int64_t t = 0; t < v.kw; t++)
      for (int64_t c = 0; c < in; c++) {
        const int64_t h = p * v.stride_h + r * v.dilation_h - v.pad_top;
        const int64_t u = q * v.stride_w + t * v.dilation_w - v.pad_left;
        const bool inside = h >= 0 && h < v.h && u >= 0 && u < v.w;
        s.add(inside ? operand(x[((n * v.h + h) * v.w + u) * v.c + group * in + c]) : 0.0f,
              operand(w[((o * v.kh + r) * v.kw + t) * in + c]));
      }
    s.close();
  }
  return s.close();
}
// d_x of one pixel and channel: the taps that fit the stride, kh falling, for each kw falling, then out.
template <class X>
float ref_backward_input(const Conv& v, const X* d_y, const float* w, int64_t n, int64_t h, int64_t u, int64_t c) {
  const FlushDenormals flush;
  GroupSum s;
  const int64_t in = v.group_in(), out = v.group_out(), group = c / in;
  for (int64_t r = v.kh - 1; r >= 0; r--) {
    for (int64_t t = v.kw - 1; t >= 0; t--) {
      const int64_t down = h + v.pad_top - r * v.dilation_h, right = u + v.pad_left - t * v.dilation_w;
      if (down % v.stride_h || right % v.stride_w) continue;
      const int64_t p = down / v.stride_h, q = right / v.stride_w;
      const bool inside = p >= 0 && p < v.out_h() && q >= 0 && q < v.out_w();
      for (int64_t o = group * out; o < (group + 1) * out; o++)
        s.add(inside ? operand(d_y[((n * v.out_h() + p) * v.out_w() + q) * v.out + o]) : 0.0f,
              operand(w[((o * v.kh + r) * v.kw + t) * in + c % in]));
    }
    s.close();
  }
  return s.close();
}
// d_w of one weight: an image is a leaf, its output pixels in order; images fold in their shard, then shards.
template <class X>
float ref_backward_weight(const Conv& v, const Shards& shards, const X* x, const X* d_y, int64_t o, int64_t r,
                          int64_t t, int64_t c) {
  const int64_t group = o / v.group_out();
  return ref_fold(shards.count(), [&](int64_t shard) {
    const int64_t first = shards.offset[shard];
    return ref_fold(shards.offset[shard + 1] - first, [&](int64_t i) {
      const FlushDenormals flush;
      GroupSum s;
      for (int64_t p = 0; p < v.out_h(); p++)
        for (int64_t q = 0; q < v.out_w(); q++) {
          const int64_t h = p * v.stride_h + r * v.dilation_h - v.pad_top;
          const int64_t u = q * v.stride_w + t * v.dilation_w - v.pad_left;
          const bool inside = h >= 0 && h < v.h && u >= 0 && u < v.w;
          s.add(inside ? operand(x[(((first + i) * v.h + h) * v.w + u) * v.c + group * v.group_in() + c]) : 0.0f,
                operand(d_y[(((first + i) * v.out_h() + p) * v.out_w() + q) * v.out + o]));
        }
      return s.close();
    });
  });
}

std::string text_of(const Conv& v) {
  char s[200];
  std::snprintf(
      s, sizeof s,
      "n %ld %ldx%ldx%ld out %ld kernel %ldx%ld stride %ld %ld pad %ld %ld %ld %ld dilation %ld %ld groups %ld", v.n,
      v.h, v.w, v.c, v.out, v.kh, v.kw, v.stride_h, v.stride_w, v.pad_top, v.pad_bottom, v.pad_left, v.pad_right,
      v.dilation_h, v.dilation_w, v.groups);
  return s;
}
template <class X, class Y>
void check_conv(const Runner& run, const Conv& v, bool special = false, bool finite_x = true, bool finite_w = true) {
  const int64_t x_size = v.n * v.h * v.w * v.c, y_size = v.n * v.out_h() * v.out_w() * v.out;
  const int64_t w_size = v.out * v.kh * v.kw * v.group_in(), total = int64_t(1) << pick(0, 3);
  auto fill = [&](auto zero, int64_t n, bool finite) {
    using T = decltype(zero);
    return special ? special_numbers<T>(n, finite) : numbers<T>(n);
  };
  const auto x = fill(X{}, x_size, finite_x), d_y = fill(X{}, y_size, finite_x);
  const auto w = fill(0.0f, w_size, finite_w), bias = values<float>(v.out);
  const float* bias_or_null = pick(0, 1) ? bias.data() : nullptr;
  const Shards shards = Shards::of(v.n, total, 0, total);
  std::vector<Y> y(y_size), d_x(x_size);
  std::vector<float> d_w(w_size);
  for (int64_t n = 0, at = 0; n < v.n; n++)
    for (int64_t p = 0; p < v.out_h(); p++)
      for (int64_t q = 0; q < v.out_w(); q++)
        for (int64_t o = 0; o < v.out; o++) {
          const float sum = ref_forward(v, x.data(), w.data(), n, p, q, o);
          assign(y[at++], bias_or_null ? bias[o] + sum : sum);
        }
  for (int64_t n = 0, at = 0; n < v.n; n++)
    for (int64_t h = 0; h < v.h; h++)
      for (int64_t u = 0; u < v.w; u++)
        for (int64_t c = 0; c < v.c; c++) assign(d_x[at++], ref_backward_input(v, d_y.data(), w.data(), n, h, u, c));
  for (int64_t o = 0, at = 0; o < v.out; o++)
    for (int64_t r = 0; r < v.kh; r++)
      for (int64_t t = 0; t < v.kw; t++)
        for (int64_t c = 0; c < v.group_in(); c++)
          d_w[at++] = ref_backward_weight(v, shards, x.data(), d_y.data(), o, r, t, c);
  check_all(run, y, numbers<Y>(y_size), "forward " + text_of(v), [&](const Exec& exec, Y* to) {
    Followed followed(y_size);
    conv_forward_bf16(exec, v, x.data(), w.data(), bias_or_null, to, followed.follow());
    CHECK(followed.once() && followed.asks_fit(), "forward %s: follow", text_of(v).c_str());
  });
  check_all(run, d_x, numbers<Y>(x_size), "backward_input " + text_of(v), [&](const Exec& exec, Y* to) {
    Followed followed(x_size);
    conv_backward_input_bf16(exec, v, d_y.data(), w.data(), to, followed.follow());
    CHECK(followed.once() && followed.asks_fit(), "backward_input %s: follow", text_of(v).c_str());
  });
  check_all(run, d_w, values<float>(w_size), "backward_weight " + text_of(v) + " shards " + std::to_string(total),
            [&](const Exec& exec, float* to) { conv_backward_weight_bf16(exec, v, shards, x.data(), d_y.data(), to); });
}
void check_conv(const Runner& run, const Conv& v, bool special = false, bool finite_x = true, bool finite_w = true) {
  check_conv<float, float>(run, v, special, finite_x, finite_w);
  if (pick(0, 2)) check_conv<Bf16, Bf16>(run, v, special, finite_x, finite_w);
  else check_conv<Bf16, float>(run, v, special, finite_x, finite_w);
}

// A sum that is flushed to -0, then a tap row outside the image, in the same chunk of groups or the next: its zeros
// make +0 of it, left out or not.
void check_left_out(const Runner& run, int64_t in) {
  const Conv v = same_conv(1, 8, in, 1, 3);
  std::vector<float> x(8 * 8 * in), w(3 * 3 * in), want(8 * 8);
  for (int64_t q = 0; q < 8; q++) x[(6 * 8 + q + 1) * in - 1] = 0x1.8p-63f, x[(7 * 8 + q + 1) * in - 1] = -0x1.cp-63f;
  w[3 * in - 1] = w[6 * in - 1] = 0x1p-63f;  // the last k of their rows
  for (int64_t p = 0, at = 0; p < 8; p++)
    for (int64_t q = 0; q < 8; q++) want[at++] = ref_forward(v, x.data(), w.data(), 0, p, q, 0);
  CHECK(want[56] == 0 && !std::signbit(want[56]), "the sum of taps inside is %g", want[56]);
  check_all(run, want, values<float>(64), "a sum flushed to -0 beside padding",
            [&](const Exec& exec, float* to) { conv_forward_bf16(exec, v, x.data(), w.data(), nullptr, to, {}); });
}

void check_convs(const Runner& run) {
  for (int64_t in : {32, 64, 128, 192}) check_left_out(run, in);
  for (int i = 0; i < 40;) {
    const Conv v = random_conv(4, 12, 4, 4, 20);
    if (v.h + v.pad_top + v.pad_bottom <= v.dilation_h * (v.kh - 1) ||
        v.w + v.pad_left + v.pad_right <= v.dilation_w * (v.kw - 1))
      continue;
    check_conv(run, v);
    i++;
  }
  for (int64_t size : {4, 8, 16})  // even rows of whole groups, and strides
    for (int64_t stride : {1, 2}) {
      check_conv(run, same_conv(3, size, 32, pick(1, 40), 3, stride));
      check_conv(run, same_conv(2, size, pick(1, 20), 16, 3, stride));
      check_conv(run, same_conv(2, size, 17, 33, 1, stride));
    }
  check_conv(run, same_conv(2, 24, 32, 20, 3));  // rows of one tile and a half
  check_conv(run, same_conv(2, 20, 2, 20, 16));  // whole groups, but runs that begin within a quad
  check_conv(run, same_conv(3, 6, 5, 40, 3), true);
  for (int64_t size : {5, 8, 9, 16}) {  // tap rows outside the image, which may be left out where weights are finite
    check_conv(run, same_conv(2, size, 64, 32, 3), true);
    check_conv(run, same_conv(2, size, 32, 35, 3, 1 + size % 2), true, true, false);
    check_conv(run, same_conv(2, size, 32, 35, 3, 1 + size % 2), true, false, true);
  }
  check_conv(run, same_conv(2, 8, 128, 20, 3), true);  // several chunks of groups
  Conv grouped = same_conv(2, 8, 64, 40, 3);
  grouped.groups = 2;
  check_conv(run, grouped, true);
  Conv far = same_conv(2, 8, 32, 32, 3);  // rows without a tap inside
  far.pad_top = far.pad_bottom = 5;
  check_conv(run, far, true);
  Conv lanes = same_conv(2, 10, 18, 18, 9);  // depthwise: many taps, rows of more than a group of them
  lanes.groups = 18;
  check_conv(run, lanes);
  lanes.h = 2, lanes.w = 40, lanes.kh = 1, lanes.kw = 35;
  check_conv(run, lanes);
  for (bool special : {false, true}) check_conv(run, same_conv(70, 4, 3, 20, 3), special);  // images that fold together
  check_conv(run, same_conv(20, 8, 3, 6, 5));                                               // runs of images
  check_conv(run, same_conv(1, 70, 32, 3, 3));                                              // bands of rows
}

}  // namespace

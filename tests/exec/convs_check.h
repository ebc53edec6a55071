// convs_check.h: convolutions beside scalar references of the same order, with one thread and several, and as two
// ranks.
#pragma once
#include "conv_shapes.h"
#include "matmul_check.h"
#include "winograd_check.h"

namespace thalweg {

// y of one pixel and channel: K in the order kh, kw, in; pixels outside the image count, but add nothing.
template <class T>
T ref_forward(const Conv& v, const T* x, const T* w, int64_t n, int64_t p, int64_t q, int64_t o) {
  BlockSum<T> s;
  const int64_t in = v.group_in(), group = o / v.group_out();
  for (int64_t r = 0; r < v.kh; r++)
    for (int64_t t = 0; t < v.kw; t++)
      for (int64_t c = 0; c < in; c++) {
        const int64_t h = p * v.stride_h + r * v.dilation_h - v.pad_top,
                      u = q * v.stride_w + t * v.dilation_w - v.pad_left;
        const bool inside = h >= 0 && h < v.h && u >= 0 && u < v.w;
        if (inside) s.add(x[((n * v.h + h) * v.w + u) * v.c + group * in + c], w[((o * v.kh + r) * v.kw + t) * in + c]);
        else s.skip();
      }
  return s.sum();
}
// d_x of one pixel and channel: taps that fit the stride with kh, kw falling, then out.
template <class T>
T ref_backward_input(const Conv& v, const T* d_y, const T* w, int64_t n, int64_t h, int64_t u, int64_t c) {
  BlockSum<T> s;
  const int64_t in = v.group_in(), out = v.group_out(), group = c / in;
  for (int64_t r = v.kh - 1; r >= 0; r--)
    for (int64_t t = v.kw - 1; t >= 0; t--) {
      const int64_t down = h + v.pad_top - r * v.dilation_h, right = u + v.pad_left - t * v.dilation_w;
      if (down % v.stride_h || right % v.stride_w) continue;
      const int64_t p = down / v.stride_h, q = right / v.stride_w;
      const bool inside = p >= 0 && p < v.out_h() && q >= 0 && q < v.out_w();
      for (int64_t o = group * out; o < (group + 1) * out; o++)
        if (inside)
          s.add(d_y[((n * v.out_h() + p) * v.out_w() + q) * v.out + o], w[((o * v.kh + r) * v.kw + t) * in + c % in]);
        else s.skip();
    }
  return s.sum();
}
// d_w of one weight: an image is a leaf, its output pixels in order; images fold in their shard, then shards.
template <class T>
T ref_backward_weight(const Conv& v, const Shards& shards, const T* x, const T* d_y, int64_t o, int64_t r, int64_t t,
                      int64_t c) {
  const int64_t group = o / v.group_out();
  return ref_fold<T>(shards.count(), [&](int64_t shard) {
    const int64_t first = shards.offset[shard];
    return ref_fold<T>(shards.offset[shard + 1] - first, [&](int64_t i) {
      BlockSum<T> s;
      for (int64_t p = 0; p < v.out_h(); p++)
        for (int64_t q = 0; q < v.out_w(); q++) {
          const int64_t h = p * v.stride_h + r * v.dilation_h - v.pad_top,
                        u = q * v.stride_w + t * v.dilation_w - v.pad_left;
          const bool inside = h >= 0 && h < v.h && u >= 0 && u < v.w;
          s.add(inside ? x[(((first + i) * v.h + h) * v.w + u) * v.c + group * v.group_in() + c] : T(0),
                d_y[(((first + i) * v.out_h() + p) * v.out_w() + q) * v.out + o]);
        }
      return s.sum();
    });
  });
}

struct ConvSizes {
  int64_t x, y, w;
  explicit ConvSizes(const Conv& v)
      : x(v.n * v.h * v.w * v.c), y(v.n * v.out_h() * v.out_w() * v.out), w(v.out * v.kh * v.kw * v.group_in()) {}
};
inline std::string text_of(const Conv& v) {
  char s[220];
  std::snprintf(
      s, sizeof s,
      "n %ld %ldx%ldx%ld out %ld kernel %ldx%ld stride %ld %ld pad %ld %ld %ld %ld dilation %ld %ld groups %ld%s", v.n,
      v.h, v.w, v.c, v.out, v.kh, v.kw, v.stride_h, v.stride_w, v.pad_top, v.pad_bottom, v.pad_left, v.pad_right,
      v.dilation_h, v.dilation_w, v.groups, v.direct ? " direct" : "");
  return s;
}

// The sums of all outputs, where they are those of conv_winograd.h; else nothing.
template <class T>
std::vector<T> winograd_sums(const Conv& v, const TapConv& taps, const std::vector<T>& source,
                             const std::vector<T>& weight) {
  if constexpr (sizeof(T) == 4)
    if (conv_winograd_fits(v)) return ref_winograd(taps, source.data(), weight.data());
  return {};
}

template <class T>
void check_forward(const Exec& one, const Exec& two, const Conv& v) {
  const ConvSizes size(v);
  const auto x = values<T>(size.x), w = values<T>(size.w), bias = values<T>(v.out), y0 = values<T>(size.y);
  const bool accumulate = random_bits() & 1, with_bias = random_bits() & 1;
  auto want = y0, y1 = y0, y2 = y0;
  int64_t at = 0;
  const auto sums = winograd_sums<T>(v, forward_taps(v), x, w);
  for (int64_t n = 0; n < v.n; n++)
    for (int64_t p = 0; p < v.out_h(); p++)
      for (int64_t q = 0; q < v.out_w(); q++)
        for (int64_t o = 0; o < v.out; o++, at++) {
          T sum = sums.empty() ? ref_forward(v, x.data(), w.data(), n, p, q, o) : sums[at];
          if (with_bias) sum += bias[o];
          want[at] = accumulate ? y0[at] + sum : sum;
        }
  conv_forward(one, v, x.data(), w.data(), with_bias ? bias.data() : nullptr, y1.data(), accumulate);
  conv_forward(two, v, x.data(), w.data(), with_bias ? bias.data() : nullptr, y2.data(), accumulate);
  CHECK(same_bits(want, y1), "forward %s", text_of(v).c_str());
  CHECK(same_bits(y1, y2), "forward %s: two threads differ", text_of(v).c_str());
  add_to_hash(y1);
}
template <class T>
void check_backward_input(const Exec& one, const Exec& two, const Conv& v) {
  const ConvSizes size(v);
  const auto d_y = values<T>(size.y), w = values<T>(size.w), d_x0 = values<T>(size.x);
  const bool accumulate = random_bits() & 1;
  auto want = d_x0, d_x1 = d_x0, d_x2 = d_x0;
  int64_t at = 0;
  std::vector<T> sums;
  each_phase(v, [&](const TapConv& taps, int64_t) { sums = winograd_sums<T>(v, taps, d_y, w); });
  for (int64_t n = 0; n < v.n; n++)
    for (int64_t h = 0; h < v.h; h++)
      for (int64_t u = 0; u < v.w; u++)
        for (int64_t c = 0; c < v.c; c++, at++) {
          const T sum = sums.empty() ? ref_backward_input(v, d_y.data(), w.data(), n, h, u, c) : sums[at];
          want[at] = accumulate ? d_x0[at] + sum : sum;
        }
  conv_backward_input(one, v, d_y.data(), w.data(), d_x1.data(), accumulate);
  conv_backward_input(two, v, d_y.data(), w.data(), d_x2.data(), accumulate);
  CHECK(same_bits(want, d_x1), "backward_input %s", text_of(v).c_str());
  CHECK(same_bits(d_x1, d_x2), "backward_input %s: two threads differ", text_of(v).c_str());
  add_to_hash(d_x1);
}
template <class T>
std::vector<T> winograd_weights(const Conv& v, const Shards& shards, const std::vector<T>& x,
                                const std::vector<T>& d_y) {
  if constexpr (sizeof(T) == 4)
    if (conv_winograd_weight_fits(v, shards)) return ref_winograd_weights(v, shards, x.data(), d_y.data());
  return {};
}

template <class T>
void check_backward_weight(const Exec& one, const Exec& two, const Conv& v, int64_t total) {
  const ConvSizes size(v);
  const Shards shards = Shards::of(v.n, total, 0, total);
  const auto x = values<T>(size.x), d_y = values<T>(size.y), d_w0 = values<T>(size.w);
  const bool accumulate = random_bits() & 1;
  auto want = d_w0, d_w1 = d_w0, d_w2 = d_w0;
  const auto sums = winograd_weights<T>(v, shards, x, d_y);
  int64_t at = 0;
  for (int64_t o = 0; o < v.out; o++)
    for (int64_t r = 0; r < v.kh; r++)
      for (int64_t t = 0; t < v.kw; t++)
        for (int64_t c = 0; c < v.group_in(); c++, at++) {
          const T sum = sums.empty() ? ref_backward_weight(v, shards, x.data(), d_y.data(), o, r, t, c) : sums[at];
          want[at] = accumulate ? d_w0[at] + sum : sum;
        }
  conv_backward_weight(one, v, shards, x.data(), d_y.data(), d_w1.data(), accumulate);
  conv_backward_weight(two, v, shards, x.data(), d_y.data(), d_w2.data(), accumulate);
  CHECK(same_bits(want, d_w1), "backward_weight %s shards %ld", text_of(v).c_str(), total);
  CHECK(same_bits(d_w1, d_w2), "backward_weight %s: two threads differ", text_of(v).c_str());
  add_to_hash(d_w1);
}
template <class T>
void check_conv(const Exec& one, const Exec& two, const Conv& v) {
  check_forward<T>(one, two, v);
  check_backward_input<T>(one, two, v);
  check_backward_weight<T>(one, two, v, int64_t(1) << ::pick(0, 3));
}
// The same by plain sums as well.
template <class T>
void check_both(const Exec& one, const Exec& two, Conv v) {
  check_conv<T>(one, two, v);
  v.direct = true;
  check_conv<T>(one, two, v);
}
// Two ranks with half of the shards each, added, give the bits of one rank.
template <class T>
void check_conv_ranks(const Exec& exec, Conv v, int64_t total) {
  const ConvSizes size(v);
  const auto x = values<T>(size.x), d_y = values<T>(size.y);
  auto gradient = [&](int64_t first, int64_t last) {
    Conv part = v;
    const int64_t begin = first * v.n / total;
    const Shards shards = Shards::of(v.n, total, first, last);
    part.n = shards.rows();
    std::vector<T> d_w(size.w, T(7));
    conv_backward_weight(exec, part, shards, x.data() + begin * (size.x / v.n), d_y.data() + begin * (size.y / v.n),
                         d_w.data(), false);
    return d_w;
  };
  auto low = gradient(0, total / 2);
  const auto high = gradient(total / 2, total), all = gradient(0, total);
  for (size_t i = 0; i < low.size(); i++) low[i] += high[i];
  CHECK(same_bits(low, all), "backward_weight %s: two ranks differ from one", text_of(v).c_str());
}

}  // namespace thalweg

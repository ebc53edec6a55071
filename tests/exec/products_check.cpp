// products_check.cpp: products against scalar references that follow the same order, bit for bit: odd shapes, every
// tile remainder, strides, shards, threads, halves of a batch on two ranks. Prints one hash over all results; builds
// for different instruction sets must print the same. Run by test_products.py.
#include "products_check.h"

#include "conv_shapes.h"
#include "exec/matmul.h"
#include "grid_check.h"
#include "matmul_check.h"
#include "winograd_check.h"

using namespace thalweg;

namespace {

template <class T>
void check_fold(const Exec& one, const Exec& two, int64_t m, int64_t n, const Shards& shards) {
  const int64_t rows = shards.rows();
  const auto a = values<T>(rows * m), b = values<T>(rows * n), c0 = values<T>(m * n);
  Matmul p{m, n, rows, 1, m, n, 1, n};
  p.accumulate = random_bits() & 1;
  auto want = c0, c1 = c0, c2 = c0;
  for (int64_t i = 0; i < m; i++)
    for (int64_t j = 0; j < n; j++) {
      const T sum = ref_fold<T>(shards.count(), [&](int64_t s) {
        BlockSum<T> leaf;
        for (int64_t k = shards.offset[s]; k < shards.offset[s + 1]; k++) leaf.add(a[k * m + i], b[k * n + j]);
        return leaf.sum();
      });
      want[i * n + j] = p.accumulate ? c0[i * n + j] + sum : sum;
    }
  matmul_fold(one, p, shards, a.data(), b.data(), c1.data());
  matmul_fold(two, p, shards, a.data(), b.data(), c2.data());
  CHECK(same_bits(want, c1), "fold m %ld n %ld rows %ld shards %d", m, n, rows, shards.count());
  CHECK(same_bits(c1, c2), "fold m %ld n %ld rows %ld: two threads differ", m, n, rows);
  add_to_hash(c1);
}
// Two ranks with half of the shards each, added, give the bits of one rank.
template <class T>
void check_fold_ranks(const Exec& exec, int64_t rows, int64_t total) {
  const int64_t m = 19, n = 45;
  const auto a = values<T>(rows * m), b = values<T>(rows * n);
  auto product = [&](int64_t first, int64_t last) {
    const int64_t begin = first * rows / total;
    const Shards shards = Shards::of(rows, total, first, last);
    std::vector<T> c(m * n, T(7));
    matmul_fold(exec, Matmul{m, n, shards.rows(), 1, m, n, 1, n}, shards, &a[begin * m], &b[begin * n], c.data());
    return c;
  };
  auto low = product(0, total / 2);
  const auto high = product(total / 2, total), all = product(0, total);
  for (size_t i = 0; i < low.size(); i++) low[i] += high[i];
  CHECK(same_bits(low, all), "fold of %ld rows: two ranks differ from one", rows);
}
template <class T>
void check_folds(const Exec& one, const Exec& two) {
  for (int64_t total : {1, 2, 3, 4, 8})
    for (int64_t rows : {0, 1, 3, 8, 33, 300, 2100})
      check_fold<T>(one, two, pick(1, 40), pick(1, 90), Shards::of(rows, total, 0, total));
  for (int64_t total : {4, 8, 12, 16})  // shards that are added in registers
    for (int64_t rows : {5, 32, 100, 128})
      check_fold<T>(one, two, pick(10, 70), pick(100, 200), Shards::of(rows, total, 0, total));
  for (int64_t total : {8, 28, 32})  // the same with more rows, and of fewer columns, whose rows are not packed
    for (int64_t rows : {129, 500, 512, 520}) {
      check_fold<T>(one, two, pick(10, 30), pick(129, 180), Shards::of(rows, total, 0, total));
      check_fold<T>(one, two, pick(1, 30), pick(1, 120), Shards::of(rows, total, 0, total));
    }
  check_fold<T>(one, two, 50, 1040, Shards::of(100, 8, 0, 8));  // each row of B in its page
  check_fold<T>(one, two, 7, 150, Shards::of(12, 4, 0, 4));     // fewer rows than the high tile
  check_fold<T>(one, two, 100, 200, Shards::of(5000, 8, 0, 8));
  check_fold<T>(one, two, 20, 1040, Shards::of(1700, 3, 0, 3));
  for (int64_t rows : {16, 37, 700, 4200}) check_fold_ranks<T>(one, rows, 8);
}

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
std::string text_of(const Conv& v) {
  char s[200];
  std::snprintf(
      s, sizeof s,
      "n %ld %ldx%ldx%ld out %ld kernel %ldx%ld stride %ld %ld pad %ld %ld %ld %ld dilation %ld %ld groups %ld", v.n,
      v.h, v.w, v.c, v.out, v.kh, v.kw, v.stride_h, v.stride_w, v.pad_top, v.pad_bottom, v.pad_left, v.pad_right,
      v.dilation_h, v.dilation_w, v.groups);
  return s;
}

// The sums of all outputs, where they are those of conv_winograd.h; else nothing.
template <class T>
std::vector<T> winograd_sums(const TapConv& v, const std::vector<T>& source, const std::vector<T>& weight) {
  if constexpr (sizeof(T) == 4)
    if (conv_winograd_fits(v)) return ref_winograd(v, source.data(), weight.data());
  return {};
}

template <class T>
void check_forward(const Exec& one, const Exec& two, const Conv& v) {
  const ConvSizes size(v);
  const auto x = values<T>(size.x), w = values<T>(size.w), bias = values<T>(v.out), y0 = values<T>(size.y);
  const bool accumulate = random_bits() & 1, with_bias = random_bits() & 1;
  auto want = y0, y1 = y0, y2 = y0;
  int64_t at = 0;
  const auto sums = winograd_sums<T>(forward_taps(v), x, w);
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
  each_phase(v, [&](const TapConv& taps, int64_t) { sums = winograd_sums<T>(taps, d_y, w); });
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
  check_backward_weight<T>(one, two, v, int64_t(1) << pick(0, 3));
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

// 3x3 in squares of outputs: odd sizes, channels that leave a rest, several units, panels, leaves, blocks of K, groups.
template <class T>
void check_squares(const Exec& one, const Exec& two) {
  for (int64_t c : {16, 17, 32, 40, 70})
    for (int64_t out : {16, 31, 33, 64}) {
      Conv v = same_conv(pick(1, 4), pick(4, 9), c, out, 3);
      v.w = pick(4, 12), v.pad_top = pick(0, 2), v.pad_left = pick(0, 3), v.pad_right = pick(0, 2);
      check_conv<T>(one, two, v);
    }
  check_conv<T>(one, two, same_conv(2, 41, 16, 20, 3));  // bands of an image, more than one leaf of it
  check_conv<T>(one, two, same_conv(45, 6, 24, 16, 3));  // several images a unit
  check_conv<T>(one, two, same_conv(2, 6, 300, 40, 3));  // blocks of K; d_w in ranges of outputs
  Conv v = same_conv(5, 7, 36, 54, 3);
  v.groups = 2;
  check_conv<T>(one, two, v);
  for (int64_t total : {1, 8, 16}) check_backward_weight<T>(one, two, v, total);
  check_conv_ranks<T>(one, same_conv(8, 12, 40, 18, 3), 8);
}

template <class T>
void check_convs(const Exec& one, const Exec& two) {
  for (int i = 0; i < 150;) {
    const Conv v = random_conv(5, 14, 5, 5, 80);
    if (v.h + v.pad_top + v.pad_bottom <= v.dilation_h * (v.kh - 1) ||
        v.w + v.pad_left + v.pad_right <= v.dilation_w * (v.kw - 1))
      continue;
    check_conv<T>(one, two, v);
    i++;
  }
  for (int64_t kernel : {1, 3, 5, 7})
    for (int64_t n : {1, 9, 20}) check_conv<T>(one, two, same_conv(n, pick(4, 11), pick(1, 33), pick(1, 40), kernel));
  check_conv<T>(one, two, same_conv(2, 33, 17, 16, 3));  // several bands; images of several blocks
  check_conv<T>(one, two, same_conv(3, 40, 64, 33, 1));
  check_conv<T>(one, two, same_conv(1, 70, 3, 20, 3));
  check_conv<T>(one, two, same_conv(2, 9, 256, 100, 3));  // panels of weights that do not all stay near
  check_conv<T>(one, two, same_conv(1, 5, 704, 70, 3));
  for (int64_t few = 1; few <= 8; few++) {  // short runs of k; several tiles at a time
    Conv v = same_conv(2, pick(13, 18), few, pick(9, 70), 2 * pick(0, 2) + 1);
    v.stride_w = pick(1, 2), v.pad_right = pick(0, 2);
    check_forward<T>(one, two, v);
    std::swap(v.c, v.out);
    v.stride_w = 1;
    check_backward_input<T>(one, two, v);
  }
  check_forward<T>(one, two, Conv{2, 20, 12, 4, 33, 10, 7});  // pieces of them on both sides of a block's end
  for (int64_t few = 1; few <= 9; few++) {                    // images in the lanes, forward and to the input
    Conv v = same_conv(pick(8, 40), pick(4, 11), pick(1, 12), few, 2 * pick(0, 2) + 1);
    v.stride_h = pick(1, 2), v.pad_left = pick(0, 2);
    check_forward<T>(one, two, v);
    std::swap(v.c, v.out);
    v.stride_h = 1;
    check_backward_input<T>(one, two, v);
  }
  for (int64_t n : {8, 13, 40}) {
    check_backward_weight<T>(one, two, same_conv(n, 5, 3, 16, 3), 8);  // few tiles: images are split
    check_conv_ranks<T>(one, same_conv(n, 6, 3, 16, 3), 8);
    check_conv_ranks<T>(one, same_conv(n, 6, 40, 70, 3), 8);
  }
  check_squares<T>(one, two);
  for (int64_t groups : {1, 2}) check_backward_weight<T>(one, two, panels_conv(groups), 2);
  for (int64_t out : {1, 3, 6, 10, 20})  // all taps of few channels at a time; several bands of an image
    for (int64_t kernel : {3, 5}) {
      Conv v = same_conv(pick(1, 9), pick(5, 60), pick(1, 2), out, kernel);
      v.w = pick(3, 40), v.stride_h = pick(1, 2), v.stride_w = pick(1, 2), v.dilation_h = pick(1, 2);
      v.pad_top = pick(1, 9), v.pad_left = pick(0, v.w), v.pad_right = pick(2, 20);
      check_backward_weight<T>(one, two, v, int64_t(1) << pick(0, 3));
    }
  for (auto [kh, kw, c] :
       {std::array<int64_t, 3>{5, 5, 1}, {3, 3, 2}, {5, 3, 2}, {3, 3, 1}, {2, 2, 4}, {3, 5, 2}, {5, 3, 1}})
    for (int64_t out : {1, 8, 9, 17}) {  // taps that are picked in registers
      Conv v = same_conv(3, 21, c, out, kh);
      v.kw = kw, v.w = pick(8, 30), v.stride_h = pick(1, 2), v.stride_w = pick(1, 2), v.dilation_h = pick(1, 2);
      check_backward_weight<T>(one, two, v, 2);
    }
  check_conv_ranks<T>(one, same_conv(8, 28, 1, 6, 5), 8);
  check_backward_input<T>(one, two, same_conv(9, 64, 16, 8, 3, 2));  // all phases of a few images at a time
  Conv v = depthwise_conv(6, 60, 59, 32, 3, 3);
  v.stride_h = v.stride_w = 2;
  check_backward_input<T>(one, two, v);
}

// Depthwise: every cut of channels into vectors, regions of few pixels, taps that lie outside with all pixels of a row.
template <class T>
void check_depthwise(const Exec& one, const Exec& two) {
  for (int64_t c = 2; c <= 36; c++)
    check_conv<T>(one, two, depthwise_conv(pick(1, 3), pick(1, 8), pick(1, 8), c, pick(1, 4), pick(1, 4)));
  for (int64_t size = 1; size <= 9; size++) {
    check_conv<T>(one, two, depthwise_conv(2, size, 7, 17, 3, 3));
    check_conv<T>(one, two, depthwise_conv(3, 1, size, 17, 5, 5));
    check_conv<T>(one, two, depthwise_conv(1, size, 1, 33, 3, 1));
    Conv v = depthwise_conv(2, size, 10 - size, 20, 3, 2);
    v.dilation_h = pick(1, 3), v.dilation_w = pick(1, 3), v.stride_h = pick(1, 3), v.stride_w = pick(1, 3);
    v.pad_top = 2 * v.dilation_h, v.pad_left = size + 2, v.pad_right = size + 1;
    check_conv<T>(one, two, v);
  }
  check_conv<T>(one, two, depthwise_conv(2, 5, 6, 70, 1, 1));
  check_conv<T>(one, two, depthwise_conv(1, 19, 20, 9, 17, 17));  // taps in several blocks
  for (int64_t stride : {1, 2, 3}) {                              // images larger than a group: bands of rows
    Conv v = depthwise_conv(3, 41, 39, 50, 5, 3);
    v.stride_h = stride, v.stride_w = pick(1, 2);
    check_conv<T>(one, two, v);
    check_backward_weight<T>(one, two, v, 8);  // empty shards
  }
  check_conv<T>(one, two, depthwise_conv(3, 7, 6, 512, 3, 3));  // pixels half a page apart
  Conv pages = depthwise_conv(2, 23, 21, 1024, 3, 2);           // whole pages, a band of rows at a time
  check_conv<T>(one, two, pages);
  pages.stride_h = pages.stride_w = pages.dilation_h = pages.dilation_w = 2, pages.pad_top = 3;
  check_conv<T>(one, two, pages);
  check_backward_weight<T>(one, two, depthwise_conv(5, 3, 3, 512, 3, 3), 2);  // several images at a time
  Conv bands = depthwise_conv(1, 61, 21, 512, 5, 5);                          // bands between the first and the last
  check_backward_weight<T>(one, two, bands, 1);
  bands.stride_h = 2, bands.kw = 4, bands.kh = 7;  // and ranges that begin inside a panel
  check_backward_weight<T>(one, two, bands, 1);
  check_conv_ranks<T>(one, depthwise_conv(8, 6, 5, 19, 3, 3), 8);
}

}  // namespace

int main() {
  const auto pool1 = make_pool(1), pool2 = make_pool(2), pool5 = make_pool(5);
  const Exec one{*pool1}, two{*pool2}, five{*pool5};
  check_grids();
  for (const Exec* several : {&five, &two}) check_matmuls<float>(one, *several), check_folds<float>(one, *several);
  check_matmuls<double>(one, two);
  check_folds<double>(one, two);
  check_convs<float>(one, two);
  check_convs<double>(one, two);
  check_depthwise<float>(one, two);
  check_depthwise<double>(one, two);
  std::printf("%016lx\n", (unsigned long)hash);
  if (failures) std::fprintf(stderr, "%d checks failed\n", failures);
  return failures != 0;
}

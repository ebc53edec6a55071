// pooling.h: windows over images, as forward and backward of pooling walk them.
#pragma once
#include "../exec/ask.h"
#include "../exec/for_each.h"
#include "../exec/pixels.h"
#include "../exec/stored.h"
#include "common.h"

namespace thalweg::pooling {

struct Window {
  int64_t n, h, w, c, kh, kw, sh, sw, top, left, out_h, out_w;
  bool count_pad;
  bool asks = n * h * w * c >= 2 << 20;                      // forward: below, caches answer faster than asking takes
  bool covers_once() const { return sh >= kh && sw >= kw; }  // no pixel lies in two windows
  bool tiles() const { return sh == kh && sw == kw; }        // nor between windows
  bool covers_all() const { return tiles() && all_inside() && out_h * kh == h && out_w * kw == w; }
  bool all_inside() const { return top == 0 && left == 0 && (out_h - 1) * sh + kh <= h && (out_w - 1) * sw + kw <= w; }
};

// S: numbers, or Bf16, where operands and result are stored so. A maximum needs no rounding; sums and means are made of
// floats in memory of a worker's.

// With few channels of plain numbers, and windows that lie inside the image, vectors run along a whole row of outputs:
// the window's pixel at each distance from its first is split off into a dense row.
template <class S>
bool by_rows(const Window& w) {
  return w.all_inside() && w.c * int64_t(sizeof(S)) < kPixelBytes;
}
// Dense rows of a worker: `count` of them, and the room that moving pixels needs behind them.
template <class S>
View<S> dense_rows(const Exec& exec, int worker, int64_t row, int64_t count) {
  return View<S>(exec.scratch<S>(worker, Slot::local, row * count + kPixelBytes));
}
template <class S>
void split_row(const Window& w, View<S> x, View<S> dense) {
  split_pixels(x.p, w.sw * w.c, w.out_w, w.c, dense.p);
}
// f(distance) for the pixels of such a window, in order.
template <class F>
void each_distance(const Window& w, F f) {
  for (int64_t h = 0; h < w.kh; h++)
    for (int64_t v = 0; v < w.kw; v++) f((h * w.w + v) * w.c);
}

struct Span {  // the part of a window that lies inside the image
  int64_t h0, h1, w0, w1;
  int64_t pixels() const { return (h1 - h0) * (w1 - w0); }
};

inline Window window_of(const Shape& x, const Attrs& a) {
  const auto &k = a.ints("kernel"), &s = a.ints("stride"), &p = a.ints("padding");
  return {x[0],
          x[1],
          x[2],
          x[3],
          k[0],
          k[1],
          s[0],
          s[1],
          p[0],
          p[2],
          (x[1] + p[0] + p[1] - k[0]) / s[0] + 1,
          (x[2] + p[2] + p[3] - k[1]) / s[1] + 1,
          a.flag("count_include_pad", true)};
}

inline Span span_at(const Window& w, int64_t p, int64_t q) {
  const int64_t h = p * w.sh - w.top, v = q * w.sw - w.left;
  return {std::max<int64_t>(h, 0), std::min(h + w.kh, w.h), std::max<int64_t>(v, 0), std::min(v + w.kw, w.w)};
}

// f(span, output pixel) for the windows of rows [p0, p1) of outputs, in order.
template <class F>
void each_window(const Window& w, int64_t p0, int64_t p1, F f) {
  for (int64_t p = p0; p < p1; p++)
    for (int64_t q = 0; q < w.out_w; q++) f(span_at(w, p, q), p * w.out_w + q);
}
// f(pixel) for the pixels of a window, in order.
template <class F>
void each_pixel(const Window& w, const Span& s, F f) {
  for (int64_t h = s.h0; h < s.h1; h++)
    for (int64_t v = s.w0; v < s.w1; v++) f(h * w.w + v);
}

// Where the pixels are that a window of 2 x 2, one beside the other, asks for: in the rows after the next ones, which
// so come as one run through memory, not as two side by side.
inline int64_t run_ahead(const Window& w, const Span& s) { return ((s.h0 + 4) * w.w + 2 * s.w0) * w.c; }

// The kernels of pooling_backward.cpp.
Kernel kernel_max_backward(const Site& s);
Kernel kernel_mean_backward(const Site& s);

}  // namespace thalweg::pooling

// pooling.cpp: maximum and mean over a sliding window of images, channels last, forward and backward.
//   max_pool2d   y = the largest pixel of the window; padding never wins; NaN does
//   avg_pool2d   y = sum of the window's pixels / count; count includes padding where count_include_pad says so
// Shapes: x (N, H, W, C), y (N, out_h, out_w, C), out = floor((size + padding - kernel) / stride) + 1.
// Attributes: kernel [h, w], stride [h, w], padding [top, bottom, left, right], each less than the kernel.
// Saved for backward: nothing but x and y. The first pixel, in window order, that equals y receives its gradient.
// Windows of one image add up in their order, in one task: the bits depend on nothing else.
#include "../exec/for_each.h"
#include "../exec/pixels.h"
#include "register.h"
#include "window.h"

namespace thalweg {
namespace {

struct Window {
  int64_t n, h, w, c, kh, kw, sh, sw, top, left, out_h, out_w;
  bool count_pad;
  bool covers_once() const { return sh >= kh && sw >= kw; }  // no pixel lies in two windows
  bool tiles() const { return sh == kh && sw == kw; }        // nor between windows
  bool covers_all() const { return tiles() && all_inside() && out_h * kh == h && out_w * kw == w; }
  bool all_inside() const { return top == 0 && left == 0 && (out_h - 1) * sh + kh <= h && (out_w - 1) * sw + kw <= w; }
};

// With few channels, and windows that lie inside the image, vectors run along a whole row of outputs: the window's
// pixel at each distance from its first is split off into a dense row.
template <class N>
bool by_rows(const Window& w) {
  return w.all_inside() && w.c * int64_t(sizeof(RealOf<N>)) <= kPixelBytes;
}
// Dense rows of a worker: `count` of them, and the room that moving pixels needs behind them.
template <class N>
View<N> dense_rows(const Exec& exec, int worker, int64_t row, int64_t count) {
  using T = RealOf<N>;
  const int64_t plane = row * count + kPixelBytes;
  T* memory = exec.scratch<T>(worker, Slot::local, plane * (kIsDual<N> ? 2 : 1));
  return View<N>(Buffer{reinterpret_cast<std::byte*>(memory), plane});
}
// f(from, to) for each plane of numbers.
template <class N, class F>
void each_plane(View<N> from, View<N> to, F f) {
  if constexpr (kIsDual<N>) f(from.v, to.v), f(from.t, to.t);
  else f(from.p, to.p);
}
template <class N>
void split_row(const Window& w, View<N> x, View<N> dense) {
  each_plane<N>(x, dense, [&](auto* from, auto* to) { split_pixels(from, w.sw * w.c, w.out_w, w.c, to); });
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

Window window_of(const Shape& x, const Attrs& a) {
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

Span span_at(const Window& w, int64_t p, int64_t q) {
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

// ---- forward ----

template <class N>
void max_window(const Window& w, const Span& s, View<N> x, View<N> y) {
  const int64_t c = w.c, first = (s.h0 * w.w + s.w0) * c;
  if (s.h1 - s.h0 == 2 && s.w1 - s.w0 == 2) {  // the usual window, in one pass
    const View<N> a = x.at(first), b = x.at(first + c), d = x.at(first + w.w * c), e = x.at(first + (w.w + 1) * c);
#pragma omp simd
    for (int64_t i = 0; i < c; i++) y.set(i, maximum(maximum(maximum(a[i], b[i]), d[i]), e[i]));
    return;
  }
  for (int64_t i = 0; i < c; i++) y.set(i, x[first + i]);
  each_pixel(w, s, [=](int64_t pixel) {
    const View<N> a = x.at(pixel * c);
#pragma omp simd
    for (int64_t i = 0; i < c; i++) y.set(i, maximum(y[i], a[i]));
  });
}

template <class N>
void mean_window(const Window& w, const Span& s, View<N> x, View<N> y) {
  const int64_t c = w.c;
  const RealOf<N> count = RealOf<N>(w.count_pad ? w.kh * w.kw : s.pixels());
  for (int64_t i = 0; i < c; i++) y.set(i, N(0));
  each_pixel(w, s, [=](int64_t pixel) {
    const View<N> a = x.at(pixel * c);
#pragma omp simd
    for (int64_t i = 0; i < c; i++) y.set(i, y[i] + a[i]);
  });
#pragma omp simd
  for (int64_t i = 0; i < c; i++) y.set(i, y[i] / N(count));
}

template <class N, class F>
void each_output_row(const Exec& exec, const Window& w, View<N> x, View<N> y, F f) {
  const double ns = 0.2 * double(w.n * w.out_h * w.out_w) * double(w.c * w.kh * w.kw);
  exec.parallel(w.n * w.out_h, ns, [&](int64_t task, int) {
    const int64_t image = task / w.out_h, p = task % w.out_h;
    const View<N> from = x.at(image * w.h * w.w * w.c), to = y.at(image * w.out_h * w.out_w * w.c);
    each_window(w, p, p + 1, [&](const Span& s, int64_t at) { f(w, s, from, to.at(at * w.c)); });
  });
}

// One row of outputs; x at the first pixel of its first window. Pixels count in the order of max_window.
template <class N>
void max_row(const Window& w, View<N> x, View<N> y, View<N> dense) {
  split_row<N>(w, x, y);
  each_distance(w, [&, n = w.out_w * w.c](int64_t distance) {
    if (distance == 0) return;
    split_row<N>(w, x.at(distance), dense);
#pragma omp simd
    for (int64_t j = 0; j < n; j++) y.set(j, maximum(y[j], dense[j]));
  });
}

template <class N>
Kernel max_rows_kernel(const Window& w) {
  return [w](const Launch& l) {
    const View<N> x(l.in[0]), y(l.out[0]);
    const int64_t row = w.out_w * w.c, rows = w.n * w.out_h;
    l.exec.parallel(rows, 0.2 * double(rows * row * w.kh * w.kw), [&](int64_t r, int worker) {
      const int64_t image = r / w.out_h, p = r % w.out_h;
      max_row<N>(w, x.at((image * w.h + p * w.sh) * w.w * w.c), y.at(r * row), dense_rows<N>(l.exec, worker, row, 1));
    });
  };
}

template <bool kMax>
Kernel kernel(const Site& s) {
  const Window w = window_of(s.in[0].shape, s.attrs);
  return with_number(s.number, [&](auto zero) -> Kernel {
    using N = decltype(zero);
    if (kMax && by_rows<N>(w)) return max_rows_kernel<N>(w);
    return [w](const Launch& l) {
      each_output_row<N>(l.exec, w, View<N>(l.in[0]), View<N>(l.out[0]), kMax ? max_window<N> : mean_window<N>);
    };
  });
}

// ---- backward ----

constexpr int64_t kStrip = 64;  // channels at a time; what waits for its pixel stays in L1

template <class N>
bool wins(N x, N y) {
  const auto p = value(x), q = value(y);
  return (p == q) | ((p != p) & (q != q));
}

// The usual window, in one pass: 2 x 2 pixels that lie in no other window.
template <class N>
void max_square_backward(const Window& w, const Span& s, View<N> d_y, View<N> x, View<N> y, View<N> d_x) {
  const int64_t first = (s.h0 * w.w + s.w0) * w.c, next = w.c, below = w.w * w.c;
  const View<N> a = x.at(first), b = a.at(next), c = a.at(below), to = d_x.at(first);
  const View<N> to_b = to.at(next), to_c = to.at(below), to_e = to.at(below + next), e = a.at(below + next);
#pragma omp simd
  for (int64_t i = 0; i < w.c; i++) {
    const N top = y[i], none = N(0), d0 = d_y[i];
    const bool in_a = wins(a[i], top), in_b = wins(b[i], top), in_c = wins(c[i], top), in_e = wins(e[i], top);
    const N d1 = select(in_a, none, d0), d2 = select(in_b, none, d1), d3 = select(in_c, none, d2);
    to.set(i, select(in_a, d0, none));
    to_b.set(i, select(in_b, d1, none));
    to_c.set(i, select(in_c, d2, none));
    to_e.set(i, select(in_e, d3, none));
  }
}

// d_y waits until the first pixel that equals y takes it; `d` then holds zero. Pixels covered once are stored, not
// added.
template <class N, bool kAdd>
void max_window_backward(const Window& w, const Span& s, View<N> d_y, View<N> x, View<N> y, View<N> d_x) {
  if (!kAdd && s.h1 - s.h0 == 2 && s.w1 - s.w0 == 2) return max_square_backward<N>(w, s, d_y, x, y, d_x);
  RealOf<N> waiting[kIsDual<N> ? 2 : 1][kStrip];
  View<N> d(Buffer{reinterpret_cast<std::byte*>(waiting), kStrip});
  for (int64_t c0 = 0; c0 < w.c; c0 += kStrip) {
    const int64_t c1 = std::min(kStrip, w.c - c0);
    const View<N> top = y.at(c0), from = d_y.at(c0);
    for (int64_t i = 0; i < c1; i++) d.set(i, from[i]);
    each_pixel(w, s, [=, c = w.c](int64_t pixel) {
      const View<N> a = x.at(pixel * c + c0), to = d_x.at(pixel * c + c0);
#pragma omp simd
      for (int64_t i = 0; i < c1; i++) {
        const bool hit = wins(a[i], top[i]);
        const N given = select(hit, d[i], N(0));
        to.set(i, kAdd ? to[i] + given : given);
        d.set(i, select(hit, N(0), d[i]));
      }
    });
  }
}

template <class N, bool kAdd>
void mean_window_backward(const Window& w, const Span& s, View<N> d_y, View<N> d_x) {
  const N count = N(RealOf<N>(w.count_pad ? w.kh * w.kw : s.pixels()));
  each_pixel(w, s, [=, c = w.c](int64_t pixel) {
    const View<N> to = d_x.at(pixel * c);
#pragma omp simd
    for (int64_t i = 0; i < c; i++) to.set(i, kAdd ? to[i] + d_y[i] / count : d_y[i] / count);
  });
}

// f(image, worker) for every image, d_x of it zeroed before where windows leave pixels out or share them.
template <class N, class F>
void each_image(const Exec& exec, const Window& w, View<N> d_x, F f) {
  const int64_t in = w.h * w.w * w.c;
  exec.parallel(w.n, 0.5 * double(w.n * in) + 0.3 * double(w.n * w.out_h * w.out_w) * double(w.c * w.kh * w.kw),
                [&](int64_t image, int worker) {
                  const View<N> to = d_x.at(image * in);
#pragma omp simd
                  for (int64_t i = 0; i < (w.covers_all() ? 0 : in); i++) to.set(i, N(0));
                  f(image, worker);
                });
}

// max_window_backward for a row of outputs whose windows cover each pixel of their rows once; d_x is stored.
template <class N>
void max_row_backward(const Window& w, View<N> d_y, View<N> x, View<N> y, View<N> d_x, View<N> dense) {
  const int64_t row = w.out_w * w.c;
  const View<N> d = dense.at(0);  // what waits for its pixel
  for (int64_t j = 0; j < row; j++) d.set(j, d_y[j]);
  int64_t k = 0;
  each_distance(w, [&](int64_t distance) {
    const View<N> a = dense.at(++k * row);
    split_row<N>(w, x.at(distance), a);
#pragma omp simd
    for (int64_t j = 0; j < row; j++) {
      const bool hit = wins(a[j], y[j]);
      a.set(j, select(hit, d[j], N(0)));
      d.set(j, select(hit, N(0), d[j]));
    }
  });
  for (int64_t h = 0; h < w.kh; h++)
    each_plane<N>(dense.at((1 + h * w.kw) * row), d_x.at(h * w.w * w.c),
                  [&](auto* from, auto* to) { merge_pixels(from, row, w.kw, w.out_w, w.c, to); });
}

template <class N>
Kernel max_rows_kernel_backward(const Window& w) {
  return [w](const Launch& l) {
    const int64_t in = w.h * w.w * w.c, row = w.out_w * w.c;
    const View<N> d_y(l.in[0]), x(l.in[1]), y(l.in[2]), d_x(l.out[0]);
    each_image<N>(l.exec, w, d_x, [&](int64_t image, int worker) {
      const View<N> dense = dense_rows<N>(l.exec, worker, row, 1 + w.kh * w.kw);
      for (int64_t p = 0; p < w.out_h; p++) {
        const int64_t i = image * in + p * w.sh * w.w * w.c, o = (image * w.out_h + p) * row;
        max_row_backward<N>(w, d_y.at(o), x.at(i), y.at(o), d_x.at(i), dense);
      }
    });
  };
}

template <class N, bool kAdd>
Kernel max_kernel_backward(const Window& w) {
  return [w](const Launch& l) {
    const int64_t in = w.h * w.w * w.c, out = w.out_h * w.out_w * w.c;
    const View<N> d_y(l.in[0]), x(l.in[1]), y(l.in[2]), d_x(l.out[0]);
    each_image<N>(l.exec, w, d_x, [&](int64_t image, int) {
      each_window(w, 0, w.out_h, [&](const Span& s, int64_t at) {
        const int64_t o = image * out + at * w.c;
        max_window_backward<N, kAdd>(w, s, d_y.at(o), x.at(image * in), y.at(o), d_x.at(image * in));
      });
    });
  };
}

template <class N, bool kAdd>
Kernel mean_kernel_backward(const Window& w) {
  return [w](const Launch& l) {
    const int64_t in = w.h * w.w * w.c, out = w.out_h * w.out_w * w.c;
    const View<N> d_y(l.in[0]), d_x(l.out[0]);
    each_image<N>(l.exec, w, d_x, [&](int64_t image, int) {
      each_window(w, 0, w.out_h, [&](const Span& s, int64_t at) {
        mean_window_backward<N, kAdd>(w, s, d_y.at(image * out + at * w.c), d_x.at(image * in));
      });
    });
  };
}

Kernel kernel_max_backward(const Site& s) {
  const Window w = window_of(s.in[1].shape, s.attrs);
  return with_number(s.number, [&](auto zero) -> Kernel {
    using N = decltype(zero);
    if (w.tiles() && by_rows<N>(w)) return max_rows_kernel_backward<N>(w);
    return w.covers_once() ? max_kernel_backward<N, false>(w) : max_kernel_backward<N, true>(w);
  });
}

Kernel kernel_mean_backward(const Site& s) {
  const Window w = window_of(s.in[1].shape, s.attrs);
  return with_number(s.number, [&](auto zero) -> Kernel {
    using N = decltype(zero);
    return w.covers_once() ? mean_kernel_backward<N, false>(w) : mean_kernel_backward<N, true>(w);
  });
}

// ---- rules ----

Shape output_of(const Inputs& in, const Shape& x) {
  check_ints(in, "kernel", 2, 1);
  check_ints(in, "stride", 2, 1);
  check_ints(in, "padding", 4, 0);
  const auto &k = in.attrs.ints("kernel"), &p = in.attrs.ints("padding");
  for (int i = 0; i < 4; i++)
    check(p[i] < k[i / 2], in, "padding is ", p[i], ", expected less than ", k[i / 2], " = the kernel's size");
  const int64_t h = x[1] + p[0] + p[1], w = x[2] + p[2] + p[3];
  check(k[0] <= h && k[1] <= w, in, "the kernel covers ", k[0], " x ", k[1], " pixels, at most ", h, " x ", w,
        " = padded size of x ", x);
  const Window out = window_of(x, in.attrs);
  return {x[0], out.out_h, out.out_w, x[3]};
}

std::vector<Type> infer(const Inputs& in) {
  check_count(in, 1, 1);
  check_image(in, 0, "x");
  return {like(in[0], output_of(in, in[0].shape))};
}

std::vector<Type> infer_backward(const Inputs& in) {  // d_y, x, and for the maximum y
  check_count(in, 2, 3);
  for (size_t i = 0; i < in.size(); i++) check_image(in, i, i == 0 ? "d_y" : i == 1 ? "x" : "y");
  const Shape y = output_of(in, in[1].shape);
  check_shape(in, 0, "d_y", y, "output's shape");
  if (in.size() == 3) check_shape(in, 2, "y", y, "output's shape");
  for (size_t i = 1; i < in.size(); i++) check_same_place(in, 0, i);
  return {like(in[1])};
}

std::vector<Value> backward_max(Recorder& r, const Applied& n, std::span<const Value> d_out) {
  return {r.apply("max_pool2d_backward", {d_out[0], n.in[0], n.out[0]}, n.attrs)};
}
std::vector<Value> backward_mean(Recorder& r, const Applied& n, std::span<const Value> d_out) {
  return {r.apply("avg_pool2d_backward", {d_out[0], n.in[0]}, n.attrs)};
}
std::vector<Value> backward_mean_backward(Recorder& r, const Applied& n, std::span<const Value> d_out) {
  return {r.apply("avg_pool2d", {d_out[0]}, n.attrs), kNone};
}

Cost cost(const Site& s) {
  const Shape& x = s.in[s.in.size() > 1].shape;
  const Window w = window_of(x, s.attrs);
  return moved_bytes(s, double(w.n * w.out_h * w.out_w) * double(w.c * w.kh * w.kw));
}

}  // namespace

void register_pooling(Registry& r) {
  r.add({.name = "max_pool2d", .infer = infer, .kernel = kernel<true>, .backward = backward_max, .cost = cost});
  r.add({.name = "max_pool2d_backward", .infer = infer_backward, .kernel = kernel_max_backward, .cost = cost});
  r.add({.name = "avg_pool2d", .infer = infer, .kernel = kernel<false>, .backward = backward_mean, .cost = cost});
  r.add({.name = "avg_pool2d_backward",
         .infer = infer_backward,
         .kernel = kernel_mean_backward,
         .backward = backward_mean_backward,
         .cost = cost,
         .shape_only = 1u << 1});
}

}  // namespace thalweg

// pooling_backward.cpp: gradients of the pooling of pooling.cpp. The first pixel, in window order, that equals y
// receives its gradient; a mean spreads it. Where windows share pixels they add up as numbers of the formulas.
#include "pooling.h"

namespace thalweg::pooling {
namespace {

template <class N>
bool wins(N x, N y) {
  const auto p = value(x), q = value(y);
  return (p == q) | ((p != p) & (q != q));
}

// The usual window, in one pass: 2 x 2 pixels that lie in no other window.
template <class S>
void max_square_backward(const Window& w, const Span& s, View<S> d_y, View<S> x, View<S> y, View<S> d_x) {
  using N = NumberOf<S>;
  const int64_t first = (s.h0 * w.w + s.w0) * w.c, next = w.c, below = w.w * w.c;
  const View<S> a = x.at(first), b = a.at(next), c = a.at(below), to = d_x.at(first);
  const View<S> to_b = to.at(next), to_c = to.at(below), to_e = to.at(below + next), e = a.at(below + next);
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
// added. D: what d_x is stored as, numbers where it is added to.
template <class S, class D, bool kAdd>
void max_window_backward(const Window& w, const Span& s, View<S> d_y, View<S> x, View<S> y, View<D> d_x) {
  using N = NumberOf<S>;
  if constexpr (!kAdd)
    if (s.h1 - s.h0 == 2 && s.w1 - s.w0 == 2) return max_square_backward<S>(w, s, d_y, x, y, d_x);
  RealOf<N> waiting[kPlanes<N> * kStrip];
  const View<N> d = planar<N>(waiting, kStrip);
  for (int64_t c0 = 0; c0 < w.c; c0 += kStrip) {
    const int64_t c1 = std::min(kStrip, w.c - c0);
    const View<S> top = y.at(c0), from = d_y.at(c0);
    for (int64_t i = 0; i < c1; i++) d.set(i, from[i]);
    each_pixel(w, s, [=, c = w.c](int64_t pixel) {
      const View<S> a = x.at(pixel * c + c0);
      const View<D> to = d_x.at(pixel * c + c0);
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

template <class S, class D, bool kAdd>
void mean_window_backward(const Window& w, const Span& s, View<S> d_y, View<D> d_x) {
  using N = NumberOf<S>;
  const N count = N(RealOf<N>(w.count_pad ? w.kh * w.kw : s.pixels()));
  each_pixel(w, s, [=, c = w.c](int64_t pixel) {
    const View<D> to = d_x.at(pixel * c);
#pragma omp simd
    for (int64_t i = 0; i < c; i++) to.set(i, kAdd ? to[i] + d_y[i] / count : d_y[i] / count);
  });
}

// f(image, worker, d_x) for every image, d_x of it zeroed before where windows leave pixels out or share them.
template <class S, class F>
void each_image(const Exec& exec, const Window& w, View<S> d_x, F f) {
  using N = NumberOf<S>;
  const int64_t in = w.h * w.w * w.c;
  exec.parallel(w.n, 0.5 * double(w.n * in) + 0.3 * double(w.n * w.out_h * w.out_w) * double(w.c * w.kh * w.kw),
                [&](int64_t image, int worker) {
                  const View<S> to = d_x.at(image * in);
#pragma omp simd
                  for (int64_t i = 0; i < (w.covers_all() ? 0 : in); i++) to.set(i, N(0));
                  f(image, worker, to);
                });
}
// The same where windows share pixels: f adds to numbers, in memory of the worker if d_x is stored as something else.
template <class S, class F>
void each_image_sum(const Exec& exec, const Window& w, View<S> d_x, F f) {
  using N = NumberOf<S>;
  each_image<S>(exec, w, d_x, [&](int64_t image, int worker, View<S> to) {
    if constexpr (std::is_same_v<S, N>) {
      f(image, to);
    } else {
      const int64_t in = w.h * w.w * w.c;
      const View<N> sum(exec.scratch<N>(worker, Slot::local, in));
#pragma omp simd
      for (int64_t i = 0; i < in; i++) sum.set(i, N(0));
      f(image, sum);
#pragma omp simd
      for (int64_t i = 0; i < in; i++) to.set(i, sum[i]);
    }
  });
}

// max_window_backward for a row of outputs whose windows cover each pixel of their rows once; d_x is stored.
template <class S>
void max_row_backward(const Window& w, View<S> d_y, View<S> x, View<S> y, View<S> d_x, View<S> dense) {
  using N = NumberOf<S>;
  const int64_t row = w.out_w * w.c;
  const View<S> d = dense.at(0);  // what waits for its pixel
  for (int64_t j = 0; j < row; j++) d.set(j, d_y[j]);
  int64_t k = 0;
  each_distance(w, [&](int64_t distance) {
    const View<S> a = dense.at(++k * row);
    split_row<S>(w, x.at(distance), a);
#pragma omp simd
    for (int64_t j = 0; j < row; j++) {
      const bool hit = wins(a[j], y[j]);
      a.set(j, select(hit, d[j], N(0)));
      d.set(j, select(hit, N(0), d[j]));
    }
  });
  for (int64_t h = 0; h < w.kh; h++)
    merge_pixels(dense.at((1 + h * w.kw) * row).p, row, w.kw, w.out_w, w.c, d_x.at(h * w.w * w.c).p);
}

template <class N>
Kernel max_rows_kernel_backward(const Window& w) {
  return [w](const Launch& l) {
    const int64_t in = w.h * w.w * w.c, row = w.out_w * w.c;
    const View<N> d_y(l.in[0]), x(l.in[1]), y(l.in[2]), d_x(l.out[0]);
    each_image<N>(l.exec, w, d_x, [&](int64_t image, int worker, View<N>) {
      const View<N> dense = dense_rows<N>(l.exec, worker, row, 1 + w.kh * w.kw);
      for (int64_t p = 0; p < w.out_h; p++) {
        const int64_t i = image * in + p * w.sh * w.w * w.c, o = (image * w.out_h + p) * row;
        max_row_backward<N>(w, d_y.at(o), x.at(i), y.at(o), d_x.at(i), dense);
      }
    });
  };
}

// f(image, d_x) for every image, d_x being numbers where windows share pixels, which add up.
template <class S, bool kAdd, class F>
void each_image_of(const Exec& exec, const Window& w, View<S> d_x, F f) {
  if constexpr (kAdd) each_image_sum<S>(exec, w, d_x, f);
  else each_image<S>(exec, w, d_x, [&](int64_t image, int, View<S> to) { f(image, to); });
}

template <class S, bool kAdd>
Kernel max_kernel_backward(const Window& w) {
  return [w](const Launch& l) {
    const int64_t in = w.h * w.w * w.c, out = w.out_h * w.out_w * w.c;
    const View<S> d_y(l.in[0]), x(l.in[1]), y(l.in[2]);
    each_image_of<S, kAdd>(l.exec, w, View<S>(l.out[0]), [&]<class D>(int64_t image, View<D> d_x) {
      each_window(w, 0, w.out_h, [&](const Span& s, int64_t at) {
        const int64_t o = image * out + at * w.c;
        max_window_backward<S, D, kAdd>(w, s, d_y.at(o), x.at(image * in), y.at(o), d_x);
      });
    });
  };
}

template <class S, bool kAdd>
Kernel mean_kernel_backward(const Window& w) {
  return [w](const Launch& l) {
    const int64_t out = w.out_h * w.out_w * w.c;
    const View<S> d_y(l.in[0]);
    each_image_of<S, kAdd>(l.exec, w, View<S>(l.out[0]), [&]<class D>(int64_t image, View<D> d_x) {
      each_window(w, 0, w.out_h, [&](const Span& s, int64_t at) {
        mean_window_backward<S, D, kAdd>(w, s, d_y.at(image * out + at * w.c), d_x);
      });
    });
  };
}

}  // namespace

Kernel kernel_max_backward(const Site& s) {
  const Window w = window_of(s.in[1].shape, s.attrs);
  return with_stored(s, s.in[1], [&](auto zero) -> Kernel {
    using S = decltype(zero);
    if constexpr (!kIsDual<S>)
      if (w.tiles() && by_rows<S>(w)) return max_rows_kernel_backward<S>(w);
    return w.covers_once() ? max_kernel_backward<S, false>(w) : max_kernel_backward<S, true>(w);
  });
}

Kernel kernel_mean_backward(const Site& s) {
  const Window w = window_of(s.in[1].shape, s.attrs);
  return with_stored(s, s.in[0], [&](auto zero) -> Kernel {
    using S = decltype(zero);
    return w.covers_once() ? mean_kernel_backward<S, false>(w) : mean_kernel_backward<S, true>(w);
  });
}

}  // namespace thalweg::pooling

// pooling_backward.cpp: gradients of the pooling of pooling.cpp. The first pixel, in window order, that equals y
// receives its gradient; a mean spreads it. Where they add up or are divided, images that are stored as bf16 are floats
// in memory of a worker's, part by part.
#include <utility>

#include "pooling.h"

namespace thalweg::pooling {
namespace {

constexpr int64_t kStrip = 64;  // channels at a time; what waits for its pixel stays in L1

template <class N>
bool wins(N x, N y) {
  const auto p = value(x), q = value(y);
  return (p == q) | ((p != p) & (q != q));
}

// The same of numbers that are stored as bf16, bit by bit: with half as wide lanes, and nothing is made a float.
bool wins(uint16_t x, uint16_t y) {
  constexpr uint16_t kSize = 0x7fff, kInfinity = 0x7f80;
  const uint16_t p = x & kSize, q = y & kSize;
  return (x == y) | ((p | q) == 0) | ((p > kInfinity) & (q > kInfinity));
}
template <class S>
auto words(View<S> v) {
  if constexpr (std::is_same_v<S, Bf16>) return View<uint16_t>(reinterpret_cast<uint16_t*>(v.p));
  else return v;
}

// The usual window, in one pass: 2 x 2 pixels that lie in no other window.
template <class S>
void max_square_backward(const Window& w, const Span& s, View<S> d_y, View<S> x, View<S> y, View<S> d_x) {
  const int64_t first = (s.h0 * w.w + s.w0) * w.c, next = w.c, below = w.w * w.c;
  const View<S> a = x.at(first), b = a.at(next), c = a.at(below), to = d_x.at(first);
  const View<S> to_b = to.at(next), to_c = to.at(below), to_e = to.at(below + next), e = a.at(below + next);
  const int64_t run = run_ahead(w, s);
  ask(x, run, 4 * w.c), ask<true>(d_x, run, 4 * w.c);
  ask(y, w.out_w * w.c, w.c), ask(d_y, w.out_w * w.c, w.c);
#pragma omp simd
  for (int64_t i = 0; i < w.c; i++) {
    const S top = y[i], none = S(0), d0 = d_y[i];
    const bool in_a = wins(a[i], top), in_b = wins(b[i], top), in_c = wins(c[i], top), in_e = wins(e[i], top);
    const S d1 = select(in_a, none, d0), d2 = select(in_b, none, d1), d3 = select(in_c, none, d2);
    to.set(i, select(in_a, d0, none));
    to_b.set(i, select(in_b, d1, none));
    to_c.set(i, select(in_c, d2, none));
    to_e.set(i, select(in_e, d3, none));
  }
}

// d_y waits until the first pixel that equals y takes it; `d` then holds zero. Pixels covered once are stored, not
// added.
template <class S, bool kAdd>
void max_window_backward(const Window& w, const Span& s, View<S> d_y, View<S> x, View<S> y, View<S> d_x) {
  using N = NumberOf<S>;
  if (!kAdd && s.h1 - s.h0 == 2 && s.w1 - s.w0 == 2)
    return max_square_backward(w, s, words(d_y), words(x), words(y), words(d_x));
  RealOf<N> waiting[kPlanes<N> * kStrip];
  const View<N> d = planar<N>(waiting, kStrip);
  for (int64_t c0 = 0; c0 < w.c; c0 += kStrip) {
    const int64_t c1 = std::min(kStrip, w.c - c0);
    const View<S> top = y.at(c0), from = d_y.at(c0);
    for (int64_t i = 0; i < c1; i++) d.set(i, from[i]);
    each_pixel(w, s, [=, c = w.c](int64_t pixel) {
      const View<S> a = x.at(pixel * c + c0), to = d_x.at(pixel * c + c0);
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

// f(worker, in, d_x, p0, p1) for rows [p0, p1) of outputs of every image, whose K operands have so many elements an
// image. d_x is zeroed before where windows leave pixels out or share them.
template <class N, int K, class F>
void each_image(const Launch& l, bool stored, const Window& w, const std::array<int64_t, K>& sizes, F f) {
  const int64_t size = w.h * w.w * w.c, zeros = w.covers_all() ? 0 : size;
  const int64_t parts = w.covers_all() ? w.out_h : 1;  // a row of outputs has pixels of its own
  const double ns = 0.5 * double(w.n * size) + 0.3 * double(w.n * w.out_h * w.out_w) * double(w.c * w.kh * w.kw);
  auto views = [&](auto of) {
    return [&]<size_t... k>(std::index_sequence<k...>) {
      return std::array<View<N>, K>{of(k)...};
    }(std::make_index_sequence<K>{});
  };
  auto run = [&](int worker, const std::array<View<N>, K>& in, View<N> d_x, int64_t p0, int64_t p1) {
#pragma omp simd
    for (int64_t i = 0; i < zeros; i++) d_x.set(i, NumberOf<N>(0));
    f(worker, in, d_x, p0, p1);
  };
  // Part p of an image, in memory that is indexed as the image is.
  [[maybe_unused]] auto run_stored = [&](int worker, int64_t image, int64_t p) {
    int64_t all = size / parts;
    for (int64_t n : sizes) all += n / parts;
    float *memory = l.exec.scratch<float>(worker, Slot::tile, all), *free = memory + size / parts;
    const auto in = views([&](size_t k) {
      const int64_t n = sizes[k] / parts;
      load_stored(l.in[k].as<Bf16>() + image * sizes[k] + p * n, n, free);
      return View<N>(Buffer{reinterpret_cast<std::byte*>(std::exchange(free, free + n) - p * n)});
    });
    const View<N> d_x(Buffer{reinterpret_cast<std::byte*>(memory - p * (size / parts))});
    run(worker, in, d_x, p * w.out_h / parts, (p + 1) * w.out_h / parts);
    store_stored(memory, size / parts, l.out[0].as<Bf16>() + image * size + p * (size / parts));
  };
  l.exec.parallel(w.n, ns, [&](int64_t image, int worker) {
    if constexpr (std::is_same_v<N, float>)
      if (stored) {
        for (int64_t p = 0; p < parts; p++) run_stored(worker, image, p);
        return;
      }
    run(worker, views([&](size_t k) { return View<N>(l.in[k]).at(image * sizes[k]); }),
        View<N>(l.out[0]).at(image * size), 0, w.out_h);
  });
}

template <class S, bool kAdd>
Kernel max_kernel(const Window& w) {
  using N = std::conditional_t<kAdd, NumberOf<S>, S>;
  return [w](const Launch& l) {
    const int64_t in = w.h * w.w * w.c, row = w.out_w * w.c, out = w.out_h * row;
    auto rows = [&](int worker, const std::array<View<N>, 3>& image, View<N> d_x, int64_t p0, int64_t p1) {
      const View<N> d_y = image[0], x = image[1], y = image[2];
      if constexpr (!kAdd && !kIsDual<N>)
        if (w.tiles() && by_rows<N>(w)) {
          const View<N> dense = dense_rows<N>(l.exec, worker, row, 1 + w.kh * w.kw);
          for (int64_t p = p0; p < p1; p++) {
            const int64_t at = p * w.sh * w.w * w.c;
            max_row_backward<N>(w, d_y.at(p * row), x.at(at), y.at(p * row), d_x.at(at), dense);
          }
          return;
        }
      each_window(w, p0, p1, [&](const Span& s, int64_t at) {
        max_window_backward<N, kAdd>(w, s, d_y.at(at * w.c), x, y.at(at * w.c), d_x);
      });
    };
    each_image<N, 3>(l, !std::is_same_v<N, S>, w, {out, in, out}, rows);
  };
}

template <class N, bool kAdd>
Kernel mean_kernel(const Window& w, bool stored) {
  return [w, stored](const Launch& l) {
    auto rows = [&](int, const std::array<View<N>, 1>& d_y, View<N> d_x, int64_t p0, int64_t p1) {
      each_window(w, p0, p1,
                  [&](const Span& s, int64_t at) { mean_window_backward<N, kAdd>(w, s, d_y[0].at(at * w.c), d_x); });
    };
    each_image<N, 1>(l, stored, w, {w.out_h * w.out_w * w.c}, rows);
  };
}

}  // namespace

Kernel kernel_max_backward(const Site& s) {
  const Window w = window_of(s.in[1].shape, s.attrs);
  auto kernel = [&]<class S>(S) { return w.covers_once() ? max_kernel<S, false>(w) : max_kernel<S, true>(w); };
  return s.in[0].kind == Kind::bf16 ? kernel(Bf16{}) : with_number(s.number, kernel);
}

Kernel kernel_mean_backward(const Site& s) {
  const Window w = window_of(s.in[1].shape, s.attrs);
  return with_number(s.number, [&, stored = s.in[0].kind == Kind::bf16](auto zero) -> Kernel {
    using N = decltype(zero);
    return w.covers_once() ? mean_kernel<N, false>(w, stored) : mean_kernel<N, true>(w, stored);
  });
}

}  // namespace thalweg::pooling

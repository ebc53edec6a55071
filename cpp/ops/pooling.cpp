// pooling.cpp: maximum and mean over a sliding window of images, channels last, forward and backward.
//   max_pool2d   y = the largest pixel of the window; padding never wins; NaN does
//   avg_pool2d   y = sum of the window's pixels / count; count includes padding where count_include_pad says so
// Shapes: x (N, H, W, C), y (N, out_h, out_w, C), out = floor((size + padding - kernel) / stride) + 1.
// Attributes: kernel [h, w], stride [h, w], padding [top, bottom, left, right], each less than the kernel.
// Saved for backward: nothing but x and y. The first pixel, in window order, that equals y receives its gradient.
// Windows of one image add up in their order, in one task: the bits depend on nothing else.
#include "pooling.h"

#include "register.h"
#include "window.h"

namespace thalweg {
namespace {

using namespace pooling;

template <class S>
void max_window(const Window& w, const Span& s, View<S> x, View<S> y) {
  const int64_t c = w.c, first = (s.h0 * w.w + s.w0) * c;
  if (s.h1 - s.h0 == 2 && s.w1 - s.w0 == 2) {  // the usual window, in one pass
    if (w.asks && w.tiles()) ask(x, run_ahead(w, s), 4 * c);
    const View<S> a = x.at(first), b = x.at(first + c), d = x.at(first + w.w * c), e = x.at(first + (w.w + 1) * c);
#pragma omp simd
    for (int64_t i = 0; i < c; i++) y.set(i, maximum(maximum(maximum(a[i], b[i]), d[i]), e[i]));
    return;
  }
  for (int64_t i = 0; i < c; i++) y.set(i, x[first + i]);
  each_pixel(w, s, [=](int64_t pixel) {
    const View<S> a = x.at(pixel * c);
#pragma omp simd
    for (int64_t i = 0; i < c; i++) y.set(i, maximum(y[i], a[i]));
  });
}

template <class N>
void mean_window(const Window& w, const Span& s, View<N> x, View<N> y) {
  static_assert(!std::is_same_v<N, Bf16>, "sums are floats");
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

// One row of outputs; x at the first pixel of its first window. Pixels count in the order of max_window.
template <class S>
void max_row(const Window& w, View<S> x, View<S> y, View<S> dense) {
  split_row<S>(w, x, y);
  each_distance(w, [&, n = w.out_w * w.c](int64_t distance) {
    if (distance == 0) return;
    split_row<S>(w, x.at(distance), dense);
#pragma omp simd
    for (int64_t j = 0; j < n; j++) y.set(j, maximum(y[j], dense[j]));
  });
}

// Row p of the outputs of an image.
template <class S, bool kMax>
void pool_row(const Exec& exec, int worker, const Window& w, View<S> x, View<S> y, int64_t p) {
  const int64_t row = w.out_w * w.c;
  if constexpr (kMax && !kIsDual<S>)
    if (by_rows<S>(w))
      return max_row<S>(w, x.at(p * w.sh * w.w * w.c), y.at(p * row), dense_rows<S>(exec, worker, row, 1));
  each_window(w, p, p + 1, [&](const Span& s, int64_t at) {
    if constexpr (kMax) max_window<S>(w, s, x, y.at(at * w.c));
    else mean_window<S>(w, s, x, y.at(at * w.c));
  });
}

// The same of an image that is stored as bf16, by floats: what the row reads, and the row, are in memory of the
// worker's.
void mean_stored_row(const Launch& l, int worker, const Window& w, int64_t image, int64_t p) {
  const int64_t in_row = w.w * w.c, row = w.out_w * w.c;
  const int64_t h0 = std::max<int64_t>(0, p * w.sh - w.top), h1 = std::min(w.h, p * w.sh - w.top + w.kh);
  float *memory = l.exec.scratch<float>(worker, Slot::tile, w.kh * in_row + row), *made = memory + w.kh * in_row;
  load_stored(l.in[0].as<Bf16>() + (image * w.h + h0) * in_row, (h1 - h0) * in_row, memory);
  pool_row<float, false>(l.exec, worker, w, View<float>(memory - h0 * in_row), View<float>(made - p * row), p);
  store_stored(made, row, l.out[0].as<Bf16>() + (image * w.out_h + p) * row);
}

template <class S, bool kMax>
Kernel kernel_of(const Window& w) {
  const double ns = 0.2 * double(w.n * w.out_h * w.out_w) * double(w.c * w.kh * w.kw);
  return [w, ns](const Launch& l) {
    l.exec.parallel(w.n * w.out_h, ns, [&](int64_t task, int worker) {
      const int64_t image = task / w.out_h, p = task % w.out_h;
      if constexpr (std::is_same_v<S, Bf16> && !kMax) {
        mean_stored_row(l, worker, w, image, p);
      } else {
        const View<S> x = View<S>(l.in[0]).at(image * w.h * w.w * w.c);
        pool_row<S, kMax>(l.exec, worker, w, x, View<S>(l.out[0]).at(image * w.out_h * w.out_w * w.c), p);
      }
    });
  };
}
template <bool kMax>
Kernel kernel(const Site& s) {
  const Window w = window_of(s.in[0].shape, s.attrs);
  if (s.in[0].kind == Kind::bf16) return kernel_of<Bf16, kMax>(w);
  return with_number(s.number, [&](auto zero) -> Kernel { return kernel_of<decltype(zero), kMax>(w); });
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
  r.add({.name = "max_pool2d",
         .infer = infer,
         .kernel = kernel<true>,
         .backward = backward_max,
         .cost = cost,
         .bf16_in = 1,
         .bf16_out = 1});
  r.add({.name = "max_pool2d_backward",
         .infer = infer_backward,
         .kernel = kernel_max_backward,
         .cost = cost,
         .bf16_in = 7,
         .bf16_out = 1});
  r.add({.name = "avg_pool2d",
         .infer = infer,
         .kernel = kernel<false>,
         .backward = backward_mean,
         .cost = cost,
         .bf16_in = 1,
         .bf16_out = 1});
  r.add({.name = "avg_pool2d_backward",
         .infer = infer_backward,
         .kernel = kernel_mean_backward,
         .backward = backward_mean_backward,
         .cost = cost,
         .shape_only = 1u << 1,
         .bf16_in = 1,
         .bf16_out = 1});
}

}  // namespace thalweg

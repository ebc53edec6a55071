// tile_depthwise.cpp: the register tile of depthwise convolutions, one instance for each number of groups and rows.
#include "tile_depthwise.h"

#include <utility>

namespace thalweg {
namespace {

// kPart: one vector, of which the first `channels` lanes are read and written.
template <class T, int kGroups, int kRows, int kVectors, bool kPart>
struct DepthwiseTile {
  static constexpr int W = kLanes<T>, kSums = kGroups * kRows * kVectors;
  int channels;
  Vector<T> acc[kSums];

  TW_INLINE Vector<T> read(const T* p) const {
    if constexpr (kPart) return load_first(p, channels);
    else return load(p);
  }
  TW_INLINE void write(T* p, Vector<T> v) const {
    if constexpr (kPart) store_first(p, v, channels);
    else store(p, v);
  }
  TW_INLINE void zero() {
    each<kSums>([&](auto n) __attribute__((always_inline)) { acc[n] = Vector<T>{}; });
  }
  // at(g, i): address of row i of group g.
  template <class At>
  TW_INLINE void add(At at) {
    each<kSums>([&](auto n) __attribute__((always_inline)) {
      acc[n] = read(at(n / kVectors / kRows, n / kVectors % kRows) + n % kVectors * W) + acc[n];
    });
  }
  template <class At>
  TW_INLINE void put(At at) const {
    each<kSums>([&](auto n) __attribute__((always_inline)) {
      write(at(n / kVectors / kRows, n / kVectors % kRows) + n % kVectors * W, acc[n]);
    });
  }
  // kSteps k where rows and k are equally far apart: number c of a group meets k = c - i in row i.
  template <int kSteps>
  TW_INLINE void multiply_window(const T* a, int64_t group, int64_t step, const T* b, int64_t b_step) {
    Vector<T> bv[kSteps * kVectors];
    each<kSteps>([&](auto k) __attribute__((always_inline)) {
      each<kVectors>([&](auto v) __attribute__((always_inline)) { bv[k * kVectors + v] = read(b + v * W); });
      b = next(b, b_step);
    });
    each<kRows + kSteps - 1>([&](auto c) __attribute__((always_inline)) {
      const T* at = a;
      each<kGroups>([&](auto g) __attribute__((always_inline)) {
        each<kVectors>([&](auto v) __attribute__((always_inline)) {
          const Vector<T> av = read(at + v * W);
          each<kRows>([&](auto i) __attribute__((always_inline)) {
            if constexpr (c - i >= 0 && c - i < kSteps)
              fma_to(acc[(g * kRows + i) * kVectors + v], av, bv[(c - i) * kVectors + v]);
          });
        });
        if constexpr (g + 1 < kGroups) at = next(at, group);
      });
      a = next(a, step);
    });
  }
  TW_INLINE void multiply(const T* a, int64_t group, int64_t row, const T* b) {
    Vector<T> bv[kVectors];
    each<kVectors>([&](auto v) __attribute__((always_inline)) { bv[v] = read(b + v * W); });
    each<kGroups>([&](auto g) __attribute__((always_inline)) {
      const T* at = a;
      each<kRows>([&](auto i) __attribute__((always_inline)) {
        each<kVectors>([&](auto v) __attribute__((always_inline)) {
          fma_to(acc[(g * kRows + i) * kVectors + v], read(at + v * W), bv[v]);
        });
        if constexpr (i + 1 < kRows) at = next(at, row);
      });
      if constexpr (g + 1 < kGroups) a = next(a, group);
    });
  }
  // One address, moved on: of a plain sum the compiler keeps an address for every vector, and spills.
  static TW_INLINE const T* next(const T* p, int64_t step) {
    p += step;
    asm("" : "+r"(p));
    return p;
  }
  TW_INLINE void run(const DepthwiseCall<T>& c, const T* a, const T* b, int64_t k, const std::byte*& ahead) {
    constexpr int kSteps = kDepthSide;
    const int64_t group = c.a_group, row = c.a_row, step = c.a_step, b_step = c.b_step;
    for (; k > 0; k -= kSteps) {
      for (int i = 0; i < c.ahead_lines; i++, ahead += kLineBytes) __builtin_prefetch(ahead, 0, 2);
      if (row == step && k >= kSteps) {
        multiply_window<kSteps>(a, group, step, b, b_step);
        a += kSteps * step, b += kSteps * b_step;
      } else {
        for (int64_t n = std::min<int64_t>(k, kSteps); n > 0; n--, a += step, b += b_step) multiply(a, group, row, b);
      }
    }
  }
};

template <class T, int kGroups, int kRows, int kVectors, bool kPart>
TW_INLINE void run_panel(const DepthwiseCall<T>& c, int64_t j, int channels, const std::byte*& ahead) {
  DepthwiseTile<T, kGroups, kRows, kVectors, kPart> t{channels, {}};
  for (const Chain *s = c.order.chain, *last = s + c.order.chains; s != last; s++) {
    t.zero();
    for (const KSegment *g = c.order.segment + s->segment, *end = g + s->segments; g != end; g++)
      t.run(c, c.a + g->a + j, c.b + g->b + j, g->count, ahead);
    T* const slot = c.stack + s->slot * kDepthSize<T> + j % kDepthPanel<T>;
    auto in_slot = [=](int g, int i) { return slot + (g * kRows + i) * kDepthPanel<T>; };
    for (int m = s->adds; m-- > 0;) t.add([=](int g, int i) { return in_slot(g, i) + m * kDepthSize<T>; });
    if (s + 1 != last || !c.out) {
      t.put(in_slot);
      continue;
    }
    auto in_out = [out = c.out + j, &c](int g, int i) { return out + g * c.out_group + i * c.out_row; };
    if (c.bias) t.add([b = c.bias + j](int, int) { return b; });
    if (c.accumulate) t.add(in_out);
    t.put(in_out);
  }
}

template <class T, int kGroups, int kRows>
const std::byte* run_tile(const DepthwiseCall<T>& c) {
  const std::byte* ahead = c.ahead;
  int64_t j = 0;
  for (; j + kDepthPanel<T> <= c.channels; j += kDepthPanel<T>)
    run_panel<T, kGroups, kRows, kDepthVectors, false>(c, j, 0, ahead);
  for (; j < c.channels; j += kLanes<T>)
    run_panel<T, kGroups, kRows, 1, true>(c, j, int(std::min<int64_t>(kLanes<T>, c.channels - j)), ahead);
  return ahead;
}

template <class T, int... kIndex>
const std::byte* run_tile(const DepthwiseCall<T>& c, int index, std::integer_sequence<int, kIndex...>) {
  using Function = const std::byte* (*)(const DepthwiseCall<T>&);
  static constexpr Function table[] = {&run_tile<T, kIndex / kDepthSide + 1, kIndex % kDepthSide + 1>...};
  return table[index](c);
}

}  // namespace

template <class T>
const std::byte* depthwise_tile(const DepthwiseCall<T>& c, int groups, int rows) {
  return run_tile<T>(c, (groups - 1) * kDepthSide + rows - 1,
                     std::make_integer_sequence<int, kDepthSide * kDepthSide>());
}

// Groups lie along the rows of the image, rows along its columns. An axis of one pixel gives its place to one that has
// more; a single line is cut into kDepthSide parallel ones.
template <class T>
void depthwise_pixels(DepthwiseCall<T> c, PixelAxis images, PixelAxis rows, PixelAxis cols) {
  if (rows.count == 1) std::swap(images, rows);
  if (cols.count == 1) std::swap(rows, cols);
  if (rows.count == 1) std::swap(images, rows);
  if (rows.count == 1 && cols.count >= 2 * kDepthSide) {
    const int64_t part = cols.count / kDepthSide, rest = cols.count % kDepthSide;
    const T* const a = c.a;
    T* const out = c.out;
    const PixelAxis parts{kDepthSide, part * cols.a, part * cols.out};
    depthwise_pixels(c, images, parts, {part, cols.a, cols.out});
    if (rest == 0) return;
    c.a = a + kDepthSide * parts.a, c.out = out + kDepthSide * parts.out;
    cols.count = rest;
  }
  c.a_group = rows.a, c.a_row = cols.a, c.out_group = rows.out, c.out_row = cols.out;
  const int64_t high = divide_up(rows.count, kDepthSide), wide = divide_up(cols.count, kDepthSide);
  const T* const a = c.a;
  T* const out = c.out;
  for (int64_t n = 0; n < images.count; n++)
    for (int64_t p = 0; p < high; p++) {
      const int64_t row = p * rows.count / high, groups = (p + 1) * rows.count / high - row;
      for (int64_t q = 0; q < wide; q++) {
        const int64_t col = q * cols.count / wide, width = (q + 1) * cols.count / wide - col;
        c.a = a + n * images.a + row * rows.a + col * cols.a;
        c.out = out + n * images.out + row * rows.out + col * cols.out;
        depthwise_tile(c, int(groups), int(width));
      }
    }
}

template const std::byte* depthwise_tile(const DepthwiseCall<float>&, int, int);
template const std::byte* depthwise_tile(const DepthwiseCall<double>&, int, int);
template void depthwise_pixels(DepthwiseCall<float>, PixelAxis, PixelAxis, PixelAxis);
template void depthwise_pixels(DepthwiseCall<double>, PixelAxis, PixelAxis, PixelAxis);

}  // namespace thalweg

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
  TW_INLINE void run(const DepthwiseCall<T>& c, const T* a, const T* b, int64_t k) {
    constexpr int kSteps = kDepthSide;
    const int64_t group = c.a_group, row = c.a_row, step = c.a_step, b_step = c.b_step;
    for (; k > 0; k -= kSteps) {
      if (row == step && k >= kSteps) {
        multiply_window<kSteps>(a, group, step, b, b_step);
        a += kSteps * step, b += kSteps * b_step;
      } else {
        for (int64_t n = std::min<int64_t>(k, kSteps); n > 0; n--, a += step, b += b_step) multiply(a, group, row, b);
      }
    }
  }
};

// Sums of d_w: the rows of x that a block of taps meets, each a run with a step of its own: none outside the image.
template <class T, int kGroups, int kRows, int kVectors, bool kPart>
struct WeightTile : DepthwiseTile<T, kGroups, kRows, kVectors, kPart> {
  using Tile = DepthwiseTile<T, kGroups, kRows, kVectors, kPart>;
  static constexpr int W = Tile::W;
  alignas(kVectorBytes) static constexpr T kZeros[kDepthPanel<T>] = {};

  // kSteps pixels whose taps are as far apart as they are: number n of a row meets pixel n - s in tap s. inside(n): it
  // is in the image.
  template <int kSteps, class Inside>
  TW_INLINE void multiply_run(const T* (&row)[kGroups], const int64_t (&step)[kGroups], const T* d_y, int64_t c,
                              Inside inside) {
    Vector<T> dv[kSteps * kVectors];
    each<kSteps>([&](auto k) __attribute__((always_inline)) {
      each<kVectors>([&](auto v) __attribute__((always_inline)) { dv[k * kVectors + v] = this->read(d_y + v * W); });
      d_y = Tile::next(d_y, c);
    });
    each<kGroups>([&](auto g) __attribute__((always_inline)) {
      const T* at = row[g];
      each<kRows + kSteps - 1>([&](auto n) __attribute__((always_inline)) {
        each<kVectors>([&](auto v) __attribute__((always_inline)) {
          const Vector<T> xv = this->read((inside(n) ? at : kZeros) + v * W);
          each<kRows>([&](auto s) __attribute__((always_inline)) {
            if constexpr (n - s >= 0 && n - s < kSteps)
              fma_to(this->acc[(g * kRows + s) * kVectors + v], xv, dv[(n - s) * kVectors + v]);
          });
        });
        at = Tile::next(at, step[g]);
        if constexpr (n + 1 == kSteps) row[g] = at;
      });
    });
  }
  // One pixel; inside(s): whether tap s of a row is in the image.
  template <class Inside>
  TW_INLINE void multiply_pixel(const T* const (&row)[kGroups], const int64_t (&tap)[kGroups], const T* d_y,
                                Inside inside) {
    Vector<T> dv[kVectors];
    each<kVectors>([&](auto v) __attribute__((always_inline)) { dv[v] = this->read(d_y + v * W); });
    each<kGroups>([&](auto g) __attribute__((always_inline)) {
      const T* at = row[g];
      each<kRows>([&](auto s) __attribute__((always_inline)) {
        const T* const from = inside(s) ? at : kZeros;
        each<kVectors>([&](auto v) __attribute__((always_inline)) {
          fma_to(this->acc[(g * kRows + s) * kVectors + v], this->read(from + v * W), dv[v]);
        });
        if constexpr (s + 1 < kRows) at = Tile::next(at, tap[g]);
      });
    });
  }
  TW_INLINE static void move(const T* (&row)[kGroups], const int64_t (&step)[kGroups]) {
    each<kGroups>([&](auto g) __attribute__((always_inline)) { row[g] += step[g]; });
  }
  // Pixels [q, end) of output row p of an image. Those in [lo, hi) have all their taps inside.
  TW_INLINE void run_row(DepthWeightCall<T>& c, const T* image, const T* d_y, int64_t p, int64_t q, int64_t end,
                         int64_t lo, int64_t hi) {
    const T* row[kGroups];  // where tap 0 of pixel q is
    int64_t step[kGroups], tap[kGroups];
    each<kGroups>([&](auto g) __attribute__((always_inline)) {
      const int64_t at = p * c.step_h + g * c.tap_h + c.top;
      const bool inside = uint64_t(at) < uint64_t(c.h);
      row[g] = inside ? image + (at * c.w + q * c.step_w + c.left) * c.x_pixel : kZeros;
      step[g] = inside ? c.step_w * c.x_pixel : 0, tap[g] = inside ? c.tap_w * c.x_pixel : 0;
    });
    auto all = [](int64_t) __attribute__((always_inline)) { return true; };
    while (q < end) {
      for (int i = 0; i < c.ahead_lines; i++, c.ahead += kLineBytes) __builtin_prefetch(c.ahead, 0, 2);
      const int64_t at = q * c.step_w + c.left;
      auto inside = [&](int64_t s)
                        __attribute__((always_inline)) { return uint64_t(at + s * c.tap_w) < uint64_t(c.w); };
      if (c.step_w == c.tap_w && q + kDepthSide <= end) {
        if (q >= lo && q + kDepthSide <= hi) multiply_run<kDepthSide>(row, step, d_y, c.y_pixel, all);
        else multiply_run<kDepthSide>(row, step, d_y, c.y_pixel, inside);
        q += kDepthSide, d_y += kDepthSide * c.y_pixel;
        continue;
      }
      if (q < lo || q >= hi) {
        multiply_pixel(row, tap, d_y, inside);
        q++, d_y += c.y_pixel, move(row, step);
        continue;
      }
      for (int64_t k = std::min<int64_t>(kDepthSide, std::min(hi, end) - q); k > 0;
           k--, q++, d_y += c.y_pixel, move(row, step))
        multiply_pixel(row, tap, d_y, all);
    }
  }
  TW_INLINE void run(DepthWeightCall<T>& c, int64_t j, const KSegment& s, int64_t lo, int64_t hi) {
    const int64_t pixel = s.a % (c.rows * c.cols);
    const T *image = c.x + s.a / (c.rows * c.cols) * c.x_image + j, *d_y = c.d_y + s.b + j;
    int64_t p = pixel / c.cols, q = pixel % c.cols;
    for (int64_t left = s.count, n; left > 0; left -= n, d_y += n * c.y_pixel) {
      n = std::min(left, c.cols - q);
      run_row(c, image, d_y, p, q, q + n, lo, hi);
      q = 0;
      if (++p == c.rows) p = 0, image += c.x_image;
    }
  }
};

template <class T, int kGroups, int kRows, int kVectors, bool kPart>
TW_INLINE void run_panel(DepthWeightCall<T>& c, int64_t j, int channels) {
  WeightTile<T, kGroups, kRows, kVectors, kPart> t{{channels, {}}};
  const int64_t room = c.w - c.left - (kRows - 1) * c.tap_w;  // where the last taps leave the image
  const int64_t lo = c.left < 0 ? divide_up(-c.left, c.step_w) : 0, hi = room > 0 ? divide_up(room, c.step_w) : 0;
  for (const Chain *s = c.order.chain, *last = s + c.order.chains; s != last; s++) {
    t.zero();
    for (const KSegment *g = c.order.segment + s->segment, *end = g + s->segments; g != end; g++)
      t.run(c, j, *g, lo, hi);
    T* const slot = c.stack + s->slot * kDepthSize<T> + j % kDepthPanel<T>;
    auto in_slot = [=](int g, int i) { return slot + (g * kRows + i) * kDepthPanel<T>; };
    for (int m = s->adds; m-- > 0;) t.add([=](int g, int i) { return in_slot(g, i) + m * kDepthSize<T>; });
    t.put(in_slot);
  }
}

template <class T, int kGroups, int kRows, int kVectors, bool kPart>
TW_INLINE void run_panel(const DepthwiseCall<T>& c, int64_t j, int channels) {
  DepthwiseTile<T, kGroups, kRows, kVectors, kPart> t{channels, {}};
  for (const Chain *s = c.order.chain, *last = s + c.order.chains; s != last; s++) {
    t.zero();
    for (const KSegment *g = c.order.segment + s->segment, *end = g + s->segments; g != end; g++)
      t.run(c, c.a + g->a + j, c.b + g->b + j, g->count);
    T* const slot = c.stack + s->slot * kDepthSize<T> + j % kDepthPanel<T>;
    auto in_slot = [=](int g, int i) { return slot + (g * kRows + i) * kDepthPanel<T>; };
    for (int m = s->adds; m-- > 0;) t.add([=](int g, int i) { return in_slot(g, i) + m * kDepthSize<T>; });
    if (s + 1 != last) {
      t.put(in_slot);
      continue;
    }
    auto in_out = [out = c.out + j, &c](int g, int i) { return out + g * c.out_group + i * c.out_row; };
    if (c.bias) t.add([b = c.bias + j](int, int) { return b; });
    if (c.accumulate) t.add(in_out);
    t.put(in_out);
  }
}

template <class T, int kGroups, int kRows, class Call>
void run_tile(Call& c) {
  int64_t j = 0;
  for (; j + kDepthPanel<T> <= c.channels; j += kDepthPanel<T>)
    run_panel<T, kGroups, kRows, kDepthVectors, false>(c, j, 0);
  for (; j < c.channels; j += kLanes<T>)
    run_panel<T, kGroups, kRows, 1, true>(c, j, int(std::min<int64_t>(kLanes<T>, c.channels - j)));
}

template <class T, class Call, int... kIndex>
void run_tile_of(Call& c, int index, std::integer_sequence<int, kIndex...>) {
  using Function = void (*)(Call&);
  static constexpr Function table[] = {&run_tile<T, kIndex / kDepthSide + 1, kIndex % kDepthSide + 1, Call>...};
  table[index](c);
}
template <class T, class Call>
void run_tile_of(Call& c, int groups, int rows) {
  run_tile_of<T>(c, (groups - 1) * kDepthSide + rows - 1, std::make_integer_sequence<int, kDepthSide * kDepthSide>());
}

}  // namespace

template <class T>
void depthwise_weight_tile(DepthWeightCall<T>& c, int taps_high, int taps_wide) {
  run_tile_of<T>(c, taps_high, taps_wide);
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
        run_tile_of<T>(c, int(groups), int(width));
      }
    }
}

template void depthwise_weight_tile(DepthWeightCall<float>&, int, int);
template void depthwise_weight_tile(DepthWeightCall<double>&, int, int);
template void depthwise_pixels(DepthwiseCall<float>, PixelAxis, PixelAxis, PixelAxis);
template void depthwise_pixels(DepthwiseCall<double>, PixelAxis, PixelAxis, PixelAxis);

}  // namespace thalweg

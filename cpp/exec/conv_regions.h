// conv_regions.h: the pixels of a grid of outputs, cut into regions (the interior, edges, corners) that have the same
// taps inside the image, and the order of the sums in each. Taps outside the image count where blocks of K end, but
// add nothing.
#pragma once
#include "conv_taps.h"
#include "matmul.h"
#include "tile.h"

namespace thalweg {

// Positions [begin, end) of an axis of outputs, whose taps [first, last) and no others lie in the image.
struct Stretch {
  int64_t begin, end, first, last;
  int64_t count() const { return end - begin; }
  bool same_taps(const Stretch& s) const { return first == s.first && last == s.last; }
};
inline Stretch stretch_at(const TapAxis& tap, int64_t step, int64_t extent, int64_t position) {
  const int64_t at = position * step + tap.offset;
  const int64_t first = at >= 0 ? 0 : divide_up(-at, tap.offset_step);
  const int64_t last = at >= extent ? 0 : std::min(tap.count, (extent - 1 - at) / tap.offset_step + 1);
  return first < last ? Stretch{position, position + 1, first, last} : Stretch{position, position + 1, 0, 0};
}
// f(stretch) for the longest stretches that make up [begin, end).
template <class F>
void each_stretch(const TapAxis& tap, int64_t step, int64_t extent, int64_t begin, int64_t end, F f) {
  while (begin < end) {
    Stretch s = stretch_at(tap, step, extent, begin);
    while (s.end < end && stretch_at(tap, step, extent, s.end).same_taps(s)) s.end++;
    f(s);
    begin = s.end;
  }
}

struct Region {
  Stretch high, wide;  // rows and columns of outputs
  int64_t pixels() const { return high.count() * wide.count(); }
  bool empty() const { return high.first == high.last || wide.first == wide.last; }  // no tap is inside
};
// f(region) for the regions of rows [begin, end).
template <class F>
void each_region(const TapConv& v, int64_t begin, int64_t end, F f) {
  each_stretch(v.tap_h, v.step_h, v.in_h, begin, end, [&](const Stretch& high) {
    each_stretch(v.tap_w, v.step_w, v.in_w, 0, v.cols, [&](const Stretch& wide) { f(Region{high, wide}); });
  });
}

// K of the pixels of a region, in `memory` of region_bytes. `a` counts from the first tap inside the image, in units of
// a_step an element; `b` from the first of all taps.
inline int64_t region_segments(const TapConv& v) { return v.taps() + v.k() / kKBlock + 1; }
inline int64_t region_bytes(const TapConv& v) {
  return region_segments(v) * int64_t(sizeof(KSegment)) + (v.k() / kKBlock + 1) * int64_t(sizeof(Chain));
}
inline SumOrder region_order(const TapConv& v, const Region& region, int64_t a_step, int64_t b_step,
                             std::byte* memory) {
  const Stretch &high = region.high, &wide = region.wide;
  auto* segment = reinterpret_cast<KSegment*>(memory);
  const int64_t k_step = v.depthwise() ? v.tap_w.offset_step * v.in_c * a_step : a_step;  // there every tap is one k
  SumOrderWriter w(segment, reinterpret_cast<Chain*>(segment + region_segments(v)), k_step, b_step, kKBlock);
  w.begin_leaf(0, 1);
  for (int64_t r = 0; r < v.tap_h.count; r++)
    for (int64_t s = 0; s < v.tap_w.count; s++) {
      const int64_t down = (r - high.first) * v.tap_h.offset_step, right = (s - wide.first) * v.tap_w.offset_step;
      if (r < high.first || r >= high.last || s < wide.first || s >= wide.last) w.skip(v.group_in);
      else w.add((down * v.in_w + right) * v.in_c * a_step, (r * v.tap_w.count + s) * v.group_in * b_step, v.group_in);
    }
  w.end_leaf();
  return w.order();
}

// Walks over the pixels of a region, image by image: where the first tap that lies in the image is, and the output.
struct Walk {
  int64_t source, out, source_col, out_col, source_row, out_row, source_image, out_image, cols, rows;
  int64_t col = 0, row = 0;
  // f(i, source, out) for the next n pixels.
  template <class F>
  void take(int n, F f) {
    for (int i = 0; i < n;) {
      const int run = int(std::min<int64_t>(n - i, cols - col));
      for (const int end = i + run; i < end; i++, source += source_col, out += out_col) f(i, source, out);
      if ((col += run) < cols) return;
      col = 0, source += source_row, out += out_row;
      if (++row < rows) continue;
      row = 0, source += source_image, out += out_image;
    }
  }
};
inline Walk region_walk(const TapConv& v, const Region& region, int64_t first_image) {
  const Stretch &high = region.high, &wide = region.wide;
  const int64_t col = v.step_w * v.in_c, row = v.step_h * v.in_w * v.in_c, image = v.in_h * v.in_w * v.in_c;
  const int64_t down = high.begin * v.step_h + v.tap_h.offset + high.first * v.tap_h.offset_step;
  const int64_t right = wide.begin * v.step_w + v.tap_w.offset + wide.first * v.tap_w.offset_step;
  Walk w{.source = first_image * image + (down * v.in_w + right) * v.in_c,
         .out = first_image * v.out_image + high.begin * v.out_row + wide.begin * v.out_col,
         .source_col = col,
         .out_col = v.out_col,
         .source_row = row - wide.count() * col,
         .out_row = v.out_row - wide.count() * v.out_col,
         .source_image = image - high.count() * row,
         .out_image = v.out_image - high.count() * v.out_row,
         .cols = wide.count(),
         .rows = high.count()};
  if (region.empty()) w.source = w.source_col = w.source_row = w.source_image = 0;
  return w;
}

}  // namespace thalweg

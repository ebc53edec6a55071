// halo.h: images with zeros around them, copied into scratch memory for as long as a kernel works on them.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <utility>

#include "tile.h"

namespace thalweg {

// Rows of an image that stand in memory: [row0, row0 + rows) and columns [col0, col0 + cols) of an h x w image, zero
// where they lie outside. Panels of `panel` channels stand one behind the other, `panel_step` elements apart, the last
// one filled with zeros.
struct Window {
  int64_t h, w, c;
  int64_t row0, rows, col0, cols;
  int64_t panel, panel_step;
  int64_t first, last;  // channels to copy, `first` that of a panel
  int64_t count() const { return (c + panel - 1) / panel * panel_step; }
};

// Memory that is read soon after, asked for in steps.
struct Ahead {
  const std::byte* at = nullptr;
  int lines = 0;                                     // of a step
  const std::byte *end = nullptr, *after = nullptr;  // past `end`, what lies at `after` follows
  template <class T>
  static Ahead of(const T* from, int64_t count, int64_t steps) {
    if (count <= 0 || steps <= 0) return {};
    const int64_t bytes = count * int64_t(sizeof(T)), step = steps * kLineBytes;
    return {reinterpret_cast<const std::byte*>(from), int((bytes + step - 1) / step)};
  }
  // Two stretches of memory, one after the other.
  template <class T>
  static Ahead of(const T* from, int64_t count, const T* after, int64_t more, int64_t steps) {
    Ahead ahead = of(from, count + more, steps);
    if (more > 0) {
      ahead.end = reinterpret_cast<const std::byte*>(from + count);
      ahead.after = reinterpret_cast<const std::byte*>(after);
    }
    return ahead;
  }
  void pass(int64_t steps) {
    at += steps * lines * kLineBytes;
    if (after && at >= end) at = std::exchange(after, nullptr);
  }
  TW_INLINE void ask() {
    for (int i = 0; i < lines; i++, at += kLineBytes) __builtin_prefetch(at, 0, 2);
  }
};

namespace halo_detail {

// n pixels of kVectors vectors of channels, `step` elements apart, in a row.
template <class T, int kVectors>
inline void copy_vectors(const T* from, int64_t step, int64_t n, T* to) {
  for (; n > 0; n--, from += step, to += kVectors * kLanes<T>) {
    TW_UNROLL for (int v = 0; v < kVectors; v++) store(to + v * kLanes<T>, load(from + v * kLanes<T>));
  }
}
// n pixels of `count` channels as pixels of `panel` channels.
template <class T>
inline void copy_pixels(const T* from, int64_t step, int64_t n, int64_t count, int64_t panel, T* to) {
  if (step == panel && count == panel) {
    std::memcpy(to, from, n * panel * sizeof(T));
  } else if (count == panel && panel == kLanes<T>) {
    copy_vectors<T, 1>(from, step, n, to);
  } else if (count == panel && panel == 2 * kLanes<T>) {
    copy_vectors<T, 2>(from, step, n, to);
  } else {
    for (; n > 0; n--, from += step, to += panel) std::fill(std::copy_n(from, count, to), to + panel, T(0));
  }
}

}  // namespace halo_detail

template <class T>
inline void copy_window(const Window& v, const T* image, T* to) {
  const int64_t left = std::min(v.cols, std::max<int64_t>(0, -v.col0)), begin = std::max<int64_t>(0, v.col0);
  const int64_t inside = std::max<int64_t>(0, std::min(v.w, v.col0 + v.cols) - begin), right = v.cols - left - inside;
  for (int64_t r = v.row0; r < v.row0 + v.rows; r++, to += v.cols * v.panel) {
    T* at = to + v.first / v.panel * v.panel_step;
    for (int64_t j = v.first; j < v.last; j += v.panel, at += v.panel_step) {
      if (r < 0 || r >= v.h || inside == 0) {
        std::fill_n(at, v.cols * v.panel, T(0));
        continue;
      }
      std::fill_n(at, left * v.panel, T(0));
      halo_detail::copy_pixels(image + (r * v.w + begin) * v.c + j, v.c, inside, std::min(v.panel, v.last - j), v.panel,
                               at + left * v.panel);
      std::fill_n(at + (left + inside) * v.panel, right * v.panel, T(0));
    }
  }
}

}  // namespace thalweg

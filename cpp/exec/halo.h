// halo.h: images with zeros around them, copied into scratch memory for as long as a kernel works on them.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>

namespace thalweg {

// Rows of an image that stand in memory: [row0, row0 + rows) and columns [col0, col0 + cols) of an h x w image, zero
// where they lie outside.
struct Window {
  int64_t h, w, c;
  int64_t row0, rows, col0, cols;
  int64_t count() const { return rows * cols * c; }
};

template <class T>
inline void copy_window(const Window& v, const T* image, T* to) {
  const int64_t left = std::min(v.cols, std::max<int64_t>(0, -v.col0)), begin = std::max<int64_t>(0, v.col0);
  const int64_t inside = std::max<int64_t>(0, std::min(v.w, v.col0 + v.cols) - begin), right = v.cols - left - inside;
  for (int64_t r = v.row0; r < v.row0 + v.rows; r++, to += v.cols * v.c) {
    if (r < 0 || r >= v.h || inside == 0) {
      std::memset(to, 0, v.cols * v.c * sizeof(T));
      continue;
    }
    std::memset(to, 0, left * v.c * sizeof(T));
    std::memcpy(to + left * v.c, image + (r * v.w + begin) * v.c, inside * v.c * sizeof(T));
    std::memset(to + (left + inside) * v.c, 0, right * v.c * sizeof(T));
  }
}

}  // namespace thalweg

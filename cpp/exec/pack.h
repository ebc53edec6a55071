// pack.h: copies operands of the register tile into panels: dst[k * width + j] = src(k, j) for the n columns, zero in
// the rest of the last vector that they touch.
#pragma once
#include <algorithm>
#include <cstdint>

#include "exec.h"
#include "tile.h"

namespace thalweg {

// A square turned: dst[k * width + j] = src[j * j_step + k]. turn_edge: of one that has n columns and `part` k only;
// other columns are zeros.
template <class T>
TW_INLINE void turn_square(const T* src, int64_t j_step, int64_t width, T* dst) {
  constexpr int W = kLanes<T>;
  Vector<T> v[W];
#pragma GCC unroll 16
  for (int j = 0; j < W; j++) v[j] = load(src + j * j_step);
  transpose<T>(v);
#pragma GCC unroll 16
  for (int k = 0; k < W; k++) store(dst + k * width, v[k]);
}
template <class T>
TW_NOINLINE inline void turn_edge(const T* src, int64_t j_step, int n, int part, int64_t width, T* dst) {
  constexpr int W = kLanes<T>;
  Vector<T> v[W];
#pragma GCC unroll 16
  for (int j = 0; j < W; j++) v[j] = j < n ? load_first(src + j * j_step, part) : Vector<T>{};
  transpose<T>(v);
#pragma GCC unroll 16
  for (int k = 0; k < W; k++)
    if (k < part) store(dst + k * width, v[k]);
}

// src(k, j) = src[k * k_step + j * j_step]; n <= width columns; width is a multiple of kLanes.
template <class T>
inline void pack_panel(const T* src, int64_t k_step, int64_t j_step, int64_t count, int n, int width, T* dst) {
  constexpr int W = kLanes<T>;
  const int used = (n + W - 1) / W * W;
  if (k_step == 1 && j_step != 1) {
    for (int64_t k = 0; k < count; k += W)
      for (int j = 0; j < used; j += W) {
        const T* const from = src + j * j_step + k;
        T* const to = dst + k * width + j;
        if (k + W <= count && j + W <= n) turn_square(from, j_step, width, to);
        else turn_edge(from, j_step, n - j, int(std::min<int64_t>(W, count - k)), width, to);
      }
    return;
  }
  if (j_step == 1 && n == used) {
    for (int64_t k = 0; k < count; k++)
      for (int j = 0; j < used; j += W) store(dst + k * width + j, load(src + k * k_step + j));
    return;
  }
  for (int64_t k = 0; k < count; k++)
    for (int j = 0; j < used; j++) dst[k * width + j] = j < n ? src[k * k_step + j * j_step] : T(0);
}

// The way back: dst[j * j_step + k] = src[k * width + j] for the n columns, or added. Whole vectors are read.
template <class T>
inline void unpack_panel(const T* src, int64_t width, int64_t count, int n, T* dst, int64_t j_step, bool accumulate) {
  constexpr int W = kLanes<T>;
  for (int64_t k = 0; k < count; k += W)
    for (int j = 0; j < n; j += W) {
      const int part = int(std::min<int64_t>(W, count - k)), columns = std::min(W, n - j);
      Vector<T> v[W];
#pragma GCC unroll 16
      for (int i = 0; i < W; i++) v[i] = i < part ? load(src + (k + i) * width + j) : Vector<T>{};
      transpose<T>(v);
#pragma GCC unroll 16
      for (int i = 0; i < W; i++) {
        if (i >= columns) break;
        T* to = dst + (j + i) * j_step + k;
        store_first(to, accumulate ? load_first(to, part) + v[i] : v[i], part);
      }
    }
}

// The sums of some tiles, rows x n, kPanel apart, on their way to a C that lies across: c[j * c_row + i]. bias(i).
template <class T>
inline void put_across(const T* sum, int rows, int n, const T* bias, bool accumulate, T* c, int64_t c_row) {
  constexpr int W = kLanes<T>;
  for (int i = 0; i < rows; i += W) {
    const int count = std::min(W, rows - i);
    const Vector<T> b = bias ? load_first(bias + i, count) : Vector<T>{};
    for (int j = 0; j < n; j += W) {
      Vector<T> v[W];
#pragma GCC unroll 16
      for (int r = 0; r < W; r++) v[r] = r < count ? load(sum + (i + r) * kPanel<T> + j) : Vector<T>{};
      transpose<T>(v);
#pragma GCC unroll 16
      for (int r = 0; r < W; r++) {
        if (j + r >= n) break;
        T* to = c + (j + r) * c_row + i;
        if (bias) v[r] = b + v[r];
        store_first(to, accumulate ? load_first(to, count) + v[r] : v[r], count);
      }
    }
  }
}

}  // namespace thalweg

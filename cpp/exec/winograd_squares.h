// winograd_squares.h: squares of an image, row by row of squares, into B' d B and A d_y A' (winograd.h).
#pragma once
#include <algorithm>

#include "shards.h"
#include "winograd.h"

namespace thalweg {

// Numbers from row to row of `count` numbers, and from point to point: whole lines, but not such that many lie in the
// same few sets of a cache. More numbers never have smaller steps.
template <class T>
constexpr int64_t row_step(int64_t count) {
  constexpr int64_t line = 64 / sizeof(T);
  const int64_t lines = divide_up(count, line);
  return (lines % 8 == 0 ? lines + 1 : lines) * line;
}
template <class T>
constexpr int64_t point_step(int64_t count) {
  constexpr int64_t line = 64 / sizeof(T);
  return (divide_up(count, line) | 1) * line;
}

// Images whose squares stand in a row: square (i, j) of an image has the pixels (2 i + top, 2 j + left) on.
template <class T>
struct SquareImages {
  const T* at;
  int64_t h, w, c;    // c: from pixel to pixel
  int64_t top, left;  // pixel of the first square, may lie outside
};

// Squares [begin, end) of row i of an image, the first of which is number t of those that are walked over.
struct SquareRun {
  int64_t image, i, begin, end, t;
};
// f(run) for the runs that make up squares [first, last), counted through all images of down x across squares.
template <class F>
void each_square_run(int64_t down, int64_t across, int64_t first, int64_t last, F f) {
  for (int64_t s = first, count; s < last; s += count) {
    const int64_t row = s / across, begin = s % across;
    count = std::min(across - begin, last - s);
    f(SquareRun{row / down, row % down, begin, begin + count, s - first});
  }
}

namespace winograd_detail {

alignas(64) inline constexpr std::byte kNothing[64] = {};

// Rows of a row of squares: those outside the image read zeros.
template <class T, int kRows>
struct SquareRows {
  const T* row[kRows];
  int64_t step[kRows];  // from pixel to pixel
  int64_t w;
  SquareRows(const SquareImages<T>& v, int64_t image, int64_t i, int64_t channel) : w(v.w) {
    for (int r = 0; r < kRows; r++) {
      const int64_t y = 2 * i + v.top + r;
      const bool inside = y >= 0 && y < v.h;
      row[r] = inside ? v.at + (image * v.h + y) * v.w * v.c + channel : reinterpret_cast<const T*>(kNothing);
      step[r] = inside ? v.c : 0;
    }
  }
  // For what the next row of squares reads of columns x, x + 1.
  TW_INLINE void ask(int64_t x) const {
    for (int64_t q : {0, 1})
      for (int r : {kRows - 2, kRows - 1}) __builtin_prefetch(row[r] + ((x + q) + 2 * w) * step[r]);
  }
  // f of the pixels of column x.
  template <class F>
  TW_INLINE void column(int64_t x, int part, F f) const {
    Vector<T> d[kRows] = {};
    if (x >= 0 && x < w)
      TW_UNROLL for (int r = 0; r < kRows; r++) d[r] =
          part == kLanes<T> ? load(row[r] + x * step[r]) : load_first(row[r] + x * step[r], part);
    f(d);
  }
};

}  // namespace winograd_detail

// B' d B of a run, of `part` channels: rows kFirst, ..., kFirst + kRows - 1 of it. Point (a, b) of square s goes to
// to[((a - kFirst) 4 + b) point_step + (s - run.begin) step].
template <class T, int kFirst, int kRows>
void squares_input(const SquareImages<T>& v, const SquareRun& run, int64_t channel, int part, T* to, int64_t step,
                   int64_t point_step) {
  const winograd_detail::SquareRows<T, 4> rows(v, run.image, run.i, channel);
  Vector<T> down[4][kRows];  // of four columns
  auto take = [&](int64_t x, Vector<T>(&d)[kRows]) __attribute__((always_inline)) {
    rows.column(x, part, [&](const Vector<T>(&p)[4]) __attribute__((always_inline)) {
      each<kRows>([&](auto a) { d[a] = winograd_input_at<kFirst + a>(p); });
    });
  };
  int64_t x = 2 * run.begin + v.left;
  take(x, down[0]), take(x + 1, down[1]);
  for (int64_t s = run.begin; s < run.end; s++, x += 2, to += step) {
    rows.ask(x + 2);
    take(x + 2, down[2]), take(x + 3, down[3]);
    TW_UNROLL for (int a = 0; a < kRows; a++) {
      const Vector<T> d[4] = {down[0][a], down[1][a], down[2][a], down[3][a]};
      Vector<T> across[4];
      winograd_input(d, across);
      TW_UNROLL for (int b = 0; b < 4; b++) store(to + (4 * a + b) * point_step, across[b]);
    }
    TW_UNROLL for (int a = 0; a < kRows; a++) down[0][a] = down[2][a], down[1][a] = down[3][a];
  }
}

// Row kRow of A d_y A' of squares of 2 x 2 outputs, likewise.
template <class T, int kRow>
void squares_d_output(const SquareImages<T>& v, const SquareRun& run, int64_t channel, int part, T* to, int64_t step,
                      int64_t point_step) {
  const winograd_detail::SquareRows<T, 2> rows(v, run.image, run.i, channel);
  for (int64_t x = 2 * run.begin + v.left, end = 2 * run.end + v.left; x < end; x += 2, to += step) {
    rows.ask(x);
    Vector<T> d[2];
    for (int q : {0, 1})
      rows.column(x + q, part,
                  [&](const Vector<T>(&p)[2]) __attribute__((always_inline)) { d[q] = winograd_d_output_at<kRow>(p); });
    each<4>([&](auto b) { store(to + b * point_step, winograd_d_output_at<b>(d)); });
  }
}

}  // namespace thalweg

// conv_patches.h: all taps of a pixel side by side, as a row of a matrix, for convolutions of few channels, whose
// kernel rows alone would leave most lanes empty.
#pragma once
#include <utility>

#include "conv.h"
#include "halo.h"

namespace thalweg {

template <class T>
class Patches {
 public:
  static bool can(const Conv& v) {
    const int64_t row = v.kw * v.c;
    return v.groups == 1 && v.dilation_w == 1 && v.kh > 1 && row <= kMostVectors * W && most_pieces(row) <= kMostPieces;
  }
  explicit Patches(const Conv& v)
      : v_(v),
        row_(v.kw * v.c),
        vectors_(divide_up(v.kh * row_, W)),
        line_(((v.out_w() - 1) * v.stride_w + v.kw) * v.c) {}
  int64_t width() const { return vectors_ * W; }       // numbers from pixel to pixel; behind the taps anything
  int64_t pieces() const { return v_.kh + vectors_; }  // that a pixel is made of, about
  // Numbers of memory that so many rows of outputs are made in.
  int64_t window_count(int64_t rows) const { return window_rows(rows) * line_ + W; }

  // Rows [begin, end) of the outputs of an image, made in `window`.
  void make(const T* image, int64_t begin, int64_t end, T* window, T* to) const {
    const int64_t rows = window_rows(end - begin), row0 = begin * v_.stride_h - v_.pad_top;
    copy_window<T>({v_.h, v_.w, v_.c, row0, rows, -v_.pad_left, line_ / v_.c, v_.c, rows * line_, 0, v_.c}, image,
                   window);
    for (int64_t p = begin; p < end; p++, window += v_.stride_h * line_, to += v_.out_w() * width())
      for (int64_t v = 0; v < vectors_; v++) make_vectors(v, window, to + v * W);
  }

 private:
  static constexpr int W = kLanes<T>;
  static constexpr int kMostVectors = 3, kMostPieces = 8;  // of a kernel row; of a vector
  static int64_t most_pieces(int64_t row) { return (W - 2) / row + 2; }

  int64_t window_rows(int64_t rows) const { return (rows - 1) * v_.stride_h + (v_.kh - 1) * v_.dilation_h + 1; }
  // Vector v of a row of pixels: the kernel rows that it touches one after the other, each up to the vector's end.
  void make_vectors(int64_t v, const T* window, T* to) const {
    const int64_t first = v * W / row_, pieces = std::min(v_.kh, divide_up((v + 1) * W, row_)) - first;
    const int64_t down = v_.dilation_h * line_;
    const T* from[kMostPieces];
    int lane[kMostPieces];
    for (int64_t i = 0; i < pieces; i++) {
      const int64_t r = first + i, at = r * row_ - v * W;
      from[i] = window + r * down - at, lane[i] = int(std::max<int64_t>(0, at));
    }
    pick(std::make_integer_sequence<int, kMostPieces>{}, pieces, from, lane, to);
  }
  template <int... kIndex>
  void pick(std::integer_sequence<int, kIndex...>, int64_t pieces, const T* const* from, const int* lane, T* to) const {
    (void)((pieces == kIndex + 1 && (join<kIndex + 1>(from, lane, to), true)) || ...);
  }
  template <int kPieces>
  void join(const T* const* from, const int* lane, T* to) const {
    const int64_t step = v_.stride_w * v_.c, far = width();
    for (int64_t q = 0, end = v_.out_w() * step; q < end; q += step, to += far) {
      Vector<T> v = load(from[0] + q);
      TW_UNROLL for (int i = 1; i < kPieces; i++) v = load_behind(v, lane[i], from[i] + q);
      store(to, v);
    }
  }

  const Conv v_;
  int64_t row_, vectors_, line_;  // numbers of a kernel row; of a row of x with its zeros
};

}  // namespace thalweg

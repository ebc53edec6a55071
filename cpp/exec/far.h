// far.h: rows of results that don't stay in the L2 cache, made a few lines at a time while what is read later is asked
// for. Reading and writing overlap then, and come near the speed of a copy: if lines are asked for one by one, each
// just before a line is made, and some lines are stored together.
#pragma once
#include <algorithm>
#include <array>

#include "ask.h"
#include "for_each.h"
#include "stream.h"
#include "vector.h"

namespace thalweg {

// What a loop reads and makes stays in L2 (and all of duals); stays in larger caches, or may not go past them, as it
// takes the memory of what is read; comes from memory and goes past the caches.
enum class Distance { near, middle, far };
template <class N>
Distance distance_of(const Result<N>& y, int64_t n) {
  if (kIsDual<N>) return Distance::near;
  return y.far ? Distance::far : n > kNearNumbers ? Distance::middle : Distance::near;
}

// How far ahead of what is made numbers are asked for; further where more than that is read before it is made.
template <class N>
inline constexpr int64_t kAhead = 32768 / sizeof(RealOf<N>);

namespace far_detail {

template <bool kFar, class N, size_t K, class Make>
TW_HD void fill_lines(View<N> y, int64_t n, std::array<View<N>, K> x, int64_t ahead, Make make) {
  constexpr int64_t kLine = 64 / sizeof(N), kPart = 4 * kLine;
  alignas(64) N made[kPart];  // registers, where these suffice
  auto ask_ahead = [&](int64_t i, int64_t count) __attribute__((always_inline)) {
    for (const View<N>& v : x) ask(v, i + ahead, count);
  };
  int64_t i = std::min(n, int64_t((0 - reinterpret_cast<uintptr_t>(y.p)) % 64 / sizeof(N)));
  if (i > 0) ask_ahead(0, i), make(0, i, y);
  auto part = [&](auto size) __attribute__((always_inline)) {
    constexpr int64_t kSize = decltype(size)::value;
    TW_UNROLL for (int64_t j = 0; j < kSize; j += kLine) {
      ask_ahead(i + j, kLine);
      make(i + j, i + j + kLine, kFar ? View<N>(made + j) : y.at(i + j));
    }
    if constexpr (kFar) {
      TW_UNROLL for (int64_t j = 0; j < kSize; j += kLanes<N>) store_far(y.p + i + j, load(made + j));
    }
    i += kSize;
  };
  while (i + kPart <= n) part(std::integral_constant<int64_t, kPart>{});
  while (i + kLine <= n) part(std::integral_constant<int64_t, kLine>{});
  if (i < n) ask_ahead(i, n - i), make(i, n, y.at(i));
}

}  // namespace far_detail

// make(begin, end, to) makes numbers [begin, end) of the row y, n in all, to `to` from its first number on. x: the rows
// that it reads, number i for number i of y; what is read later lies behind them, `ahead` numbers. Lines that y shares
// with its neighbours are never stored past the caches. A task with far results calls end_far() at its end; whatever
// calls this is to be flattened, as GCC 12 takes a function that only asks for one that does nothing.
template <class N, size_t K, class Make>
TW_HD void fill_row(View<N> y, int64_t n, Distance distance, std::array<View<N>, K> x, int64_t ahead, Make make) {
  if constexpr (!kIsDual<N>) {
    if (distance == Distance::far) return far_detail::fill_lines<true>(y, n, x, ahead, make);
    if (distance == Distance::middle) return far_detail::fill_lines<false>(y, n, x, ahead, make);
  }
  make(0, n, y);
}

}  // namespace thalweg

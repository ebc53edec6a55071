// ask.h: what a loop over a matrix reads soon, asked for in time. The processor foresees one run through memory, not
// several side by side, unless these are only a few lines long: longer rows come from memory at a third of the speed.
#pragma once
#include "stored.h"

namespace thalweg {

inline constexpr int kRowsAtOnce = 4;               // side by side
inline constexpr int64_t kShortRow = 64;            // numbers of rows that are foreseen
inline constexpr int64_t kAskColumns = 32;          // that are passed between two times of asking
inline constexpr int64_t kNearNumbers = 256 << 10;  // of a tensor that stays in L2

// n numbers from element i on, which are read (or written) soon: into L2, or as near as can be. Nothing of duals.
template <bool kWritten = false, int kNear = 2, class S>
TW_HD void ask([[maybe_unused]] View<S> x, [[maybe_unused]] int64_t i, [[maybe_unused]] int64_t n) {
  if constexpr (!kIsDual<S>)
    for (int64_t j = i; j < i + n; j += 64 / int64_t(sizeof(S))) __builtin_prefetch(x.p + j, kWritten, kNear);
}

struct AskNothing {
  static constexpr bool kAsks = false;
  AskNothing of(int64_t, int64_t) const { return {}; }
};

// For K tensors of (rows, width), from number `first` on: the numbers that come `ahead` later, as one run, whatever the
// order in which the loop passes its rows.
template <class S, size_t K>
struct AskAhead {
  static constexpr bool kAsks = !kIsDual<S>;
  std::array<View<S>, K> x;
  int64_t ahead;  // 0: nothing
  int64_t first = 0, width = 0;
  AskAhead of(int64_t begin, int64_t row) const { return {x, ahead, begin, row}; }
  bool asks() const { return ahead > 0; }
  // Before columns [c, c + n) of kRowsAtOnce rows from row r on.
  TW_HD void operator()(int64_t r, int64_t c, int64_t n) const {
    const int64_t at = first + r * width + kRowsAtOnce * c + ahead;
    for (int64_t i = 0; i < kRowsAtOnce * n; i += 64 / int64_t(sizeof(S)))
      for (const View<S>& v : x) __builtin_prefetch(v.p + at + i, 0, 2);
  }
};
// Where a loop comes to memory that has not been read, by long rows: 16 KB ahead.
template <class S, size_t K>
AskAhead<S, K> ask_long_rows(const std::array<View<S>, K>& x, int64_t width) {
  return {x, width > kShortRow ? 16384 / int64_t(sizeof(S)) : 0};
}

}  // namespace thalweg

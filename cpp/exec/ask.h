// ask.h: what a loop over a matrix reads soon, asked for in time. The processor foresees one run through memory, not
// several side by side, unless these are only a few lines long: longer rows come from memory at a third of the speed.
#pragma once
#include "stored.h"

namespace thalweg {

inline constexpr int kRowsAtOnce = 4;               // side by side
inline constexpr int64_t kShortRow = 64;            // numbers of rows that are foreseen
inline constexpr int64_t kAskColumns = 32;          // that are passed between two times of asking
inline constexpr int64_t kNearNumbers = 256 << 10;  // of a tensor that stays in L2

// n numbers from element i on, which are read (or written) soon. Nothing of duals.
template <bool kWritten = false, class S>
TW_HD void ask([[maybe_unused]] View<S> x, [[maybe_unused]] int64_t i, [[maybe_unused]] int64_t n) {
  if constexpr (!kIsDual<S>)
    for (int64_t j = i; j < i + n; j += 64 / int64_t(sizeof(S))) __builtin_prefetch(x.p + j, kWritten, 2);
}

struct AskNothing {
  bool asks(int64_t) const { return false; }
  void operator()(int64_t, int64_t, int64_t) const {}
};

// For K tensors of (rows, width) that are in memory: what comes 16 KB later, as one run, whatever the order in which
// the loop passes its rows.
template <class S, size_t K>
struct AskAhead {
  std::array<View<S>, K> x;
  int64_t width;
  bool asks(int64_t columns) const { return columns == width && width > kShortRow; }
  // Before columns [c, c + n) of kRowsAtOnce rows from row r on.
  TW_HD void operator()(int64_t r, int64_t c, int64_t n) const {
    const int64_t at = r * width + kRowsAtOnce * c + 16384 / int64_t(sizeof(S));
    for (const View<S>& v : x) ask(v, at, kRowsAtOnce * n);
  }
};
template <class S, size_t K>
AskAhead<S, K> ask_ahead(const std::array<View<S>, K>& x, int64_t width) {
  return {x, width};
}

}  // namespace thalweg

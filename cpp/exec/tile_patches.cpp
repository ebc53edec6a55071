// tile_patches.cpp: one instance for each number of rows and of pairs of kernel rows in the two vectors of a patch.
#include "tile_patches.h"

#include <utility>

namespace thalweg {
namespace {

// How patches are picked. kPairs0, kPairs1: pairs of kernel rows that each of their two vectors is picked from.
template <class T, int kPairs0, int kPairs1>
struct Picks {
  static constexpr int W = kLanes<T>, kVectors = kPairs1 > 0 ? 2 : 1, kPairs = kPairs0 + kPairs1;
  Index<T> index[kPairs];    // of the first pixel of a load
  int64_t down[2 * kPairs];  // of kernel rows
  int lane[2] = {};          // where the second pair of a vector begins
  int64_t held, step;

  explicit Picks(const PatchTaps<T>& taps) : held(taps.held()), step(taps.step) {
    for (int vector = 0; vector < kVectors; vector++) set(vector, taps);
  }

 private:
  void set(int vector, const PatchTaps<T>& taps) {
    const int64_t first = taps.first_row(vector), last = first + taps.pieces(vector) - 1;
    for (int p = 0; p < (vector ? kPairs1 : kPairs0); p++) {
      const int pair = vector * kPairs0 + p;
      const int64_t row[] = {first + 2 * p, std::min(first + 2 * p + 1, last)};
      const int a = int(row[0] * taps.row) - vector * W, b = int(row[1] * taps.row) - vector * W;  // where they begin
      for (int l = 0; l < W; l++) index[pair][l] = row[1] > row[0] && l >= b ? W + l - b : l - a;
      for (int i = 0; i < 2; i++) down[2 * pair + i] = row[i] * taps.down;
      if (p == 1) lane[vector] = a;
    }
  }
};

template <class T, int kRows, int kPairs0, int kPairs1>
struct PatchTile {
  using P = Picks<T, kPairs0, kPairs1>;
  static constexpr int W = kLanes<T>, kVectors = P::kVectors;
  Vector<T> acc[kRows * kVectors];

  TW_INLINE void zero() {
    each<kRows * kVectors>([&](auto n) __attribute__((always_inline)) { acc[n] = Vector<T>{}; });
  }
  static TW_INLINE int64_t place(int n) { return n / kVectors * kPanel<T> + n % kVectors * W; }
  TW_INLINE void add(const T* slot) {
    each<kRows * kVectors>([&](auto n) __attribute__((always_inline)) { acc[n] = load(slot + place(n)) + acc[n]; });
  }
  TW_INLINE void put(T* slot) const {
    each<kRows * kVectors>([&](auto n) __attribute__((always_inline)) { store(slot + place(n), acc[n]); });
  }
  TW_INLINE void sum(const P& picks, const T* a, int64_t a_step, const T* b, int64_t count) {
    const auto step = typename IndexOf<T>::Lane(picks.step);
    for (; count > 0; count -= picks.held, b += picks.held * picks.step) {
      Vector<T> row[2 * P::kPairs];
      Index<T> index[P::kPairs];
      each<2 * P::kPairs>([&](auto i) __attribute__((always_inline)) { row[i] = load(b + picks.down[i]); });
      each<P::kPairs>([&](auto p) __attribute__((always_inline)) { index[p] = picks.index[p]; });
      for (int64_t n = std::min(count, picks.held); n > 0; n--, a += a_step) {
        const Vector<T> first = pick_patch<kPairs0>(row, index, picks.lane[0]);
        Vector<T> second = first;
        if constexpr (kVectors > 1) second = pick_patch<kPairs1>(row + 2 * kPairs0, index + kPairs0, picks.lane[1]);
        each<kRows>([&](auto i) __attribute__((always_inline)) {
          const Vector<T> av = splat(a[i]);
          fma_to(acc[i * kVectors], av, first);
          if constexpr (kVectors > 1) fma_to(acc[i * kVectors + 1], av, second);
        });
        each<P::kPairs>([&](auto p) __attribute__((always_inline)) { index[p] += step; });
      }
    }
  }
  template <int kCount>
  static TW_INLINE Vector<T> pick_patch(const Vector<T>* row, const Index<T>* index, int lane) {
    const Vector<T> v = pick(row[0], index[0], row[1]);
    if constexpr (kCount == 1) return v;
    else return behind(v, lane, pick(row[2], index[1], row[3]));
  }
};

template <class T, int kRows, int kPairs0, int kPairs1>
void run_tile(const TileCall<T>& c, const PatchTaps<T>& taps) {
  const Picks<T, kPairs0, kPairs1> picks(taps);
  for (const Chain* s = c.first; s != c.last; s++) {
    PatchTile<T, kRows, kPairs0, kPairs1> t;
    t.zero();
    for (const KSegment *g = c.segment + s->segment, *end = g + s->segments; g != end; g++)
      t.sum(picks, c.a + g->a, c.a_step, c.b + g->b, g->count);
    T* const slot = c.stack + s->slot * kTileSize<T>;
    for (int m = s->adds; m-- > 0;) t.add(slot + m * kTileSize<T>);
    t.put(slot);
  }
}
template <class T, int... kIndex>
void run_tile(const TileCall<T>& c, const PatchTaps<T>& taps, int index, std::integer_sequence<int, kIndex...>) {
  using Function = void (*)(const TileCall<T>&, const PatchTaps<T>&);
  static constexpr Function table[] = {&run_tile<T, kIndex / 6 + 1, kIndex % 2 + 1, kIndex % 6 / 2>...};
  table[index](c, taps);
}

}  // namespace

template <class T>
void patch_tile(const TileCall<T>& c, const PatchTaps<T>& taps, int outputs) {
  const int pairs0 = int(divide_up(taps.pieces(0), 2)), pairs1 = int(divide_up(taps.pieces(1), 2));
  if constexpr (kPicksFast)
    run_tile<T>(c, taps, (outputs - 1) * 6 + pairs1 * 2 + pairs0 - 1,
                std::make_integer_sequence<int, 6 * PatchTaps<T>::kRows>());
}
template void patch_tile(const TileCall<float>&, const PatchTaps<float>&, int);
template void patch_tile(const TileCall<double>&, const PatchTaps<double>&, int);

}  // namespace thalweg

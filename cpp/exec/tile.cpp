// tile.cpp: the register tile, one instance for each height, width and form of A.
#include "tile.h"

#include <utility>

namespace thalweg {
namespace {

template <class T, int kRows, int kVectors>
struct Tile {
  static constexpr int W = kLanes<T>;
  Vector<T> acc[kRows][kVectors];

  TW_INLINE void zero() {
    TW_UNROLL for (int i = 0; i < kRows; i++) TW_UNROLL for (int v = 0; v < kVectors; v++) acc[i][v] = Vector<T>{};
  }
  // at(i): address of row i.
  template <class At>
  TW_INLINE void add(At at) {
    TW_UNROLL for (int i = 0; i < kRows; i++) TW_UNROLL for (int v = 0; v < kVectors; v++) acc[i][v] =
        load(at(i) + v * W) + acc[i][v];
  }
  template <class At>
  TW_INLINE void put(At at) const {
    TW_UNROLL for (int i = 0; i < kRows; i++) TW_UNROLL for (int v = 0; v < kVectors; v++)
        store(at(i) + v * W, acc[i][v]);
  }
  template <class At>
  TW_INLINE void put_far(At at) const {
    TW_UNROLL for (int i = 0; i < kRows; i++) TW_UNROLL for (int v = 0; v < kVectors; v++)
        store_far(at(i) + v * W, acc[i][v]);
  }
  // One k: A(i, k) is *at(i).
  template <class At>
  TW_INLINE void multiply(At at, const T* b) {
    Vector<T> bv[kVectors];
    TW_UNROLL for (int v = 0; v < kVectors; v++) bv[v] = load(b + v * W);
    TW_UNROLL for (int i = 0; i < kRows; i++) {
      if constexpr (kVectors == 1) {
        fma_splat(acc[i][0], *at(i), bv[0]);
      } else {
        const Vector<T> av = splat(*at(i));
        TW_UNROLL for (int v = 0; v < kVectors; v++) fma_to(acc[i][v], av, bv[v]);
      }
    }
  }
  TW_INLINE void run_columns(const T* a, int64_t a_step, const T* b, int64_t b_step, int64_t count) {
    _Pragma("GCC unroll 2") for (int64_t k = 0; k < count; k++, a += a_step, b += b_step)
        multiply([=](int i) { return a + i; }, b);
  }
  // Row pointers stay in memory: 14 of them exceed the registers. With two vectors a load port is free to fetch them
  // for each k; with one they serve kSteps of them.
  TW_INLINE void run_rows(const T* const* row, int64_t a, const T* b, int64_t b_step, int64_t count) {
    constexpr int kSteps = 4;
    int64_t k = a;
    for (const int64_t end = a + count - kSteps + 1; k < end; k += kSteps, b += kSteps * b_step) {
      if constexpr (kVectors == 1) multiply_row<kSteps>(row, k, b, b_step);
      else TW_UNROLL for (int u = 0; u < kSteps; u++) multiply([=](int i) { return row[i] + k + u; }, b + u * b_step);
    }
    for (; k < a + count; k++, b += b_step) multiply([=](int i) { return row[i] + k; }, b);
  }
  template <int kSteps>
  TW_INLINE void multiply_row(const T* const* row, int64_t k, const T* b, int64_t b_step) {
    Vector<T> bv[kSteps];
    TW_UNROLL for (int u = 0; u < kSteps; u++) bv[u] = load(b + u * b_step);
    TW_UNROLL for (int i = 0; i < kRows; i++) {
      const T* const at = row[i] + k;
      TW_UNROLL for (int u = 0; u < kSteps; u++) fma_splat(acc[i][0], at[u], bv[u]);
    }
  }
};

template <class T, TileForm form, int kRows, int kVectors>
void run_tile(const TileCall<T>& c) {
  const std::byte* ahead = c.ahead;
  for (const Chain* s = c.first; s != c.last; s++) {
    Tile<T, kRows, kVectors> t;
    t.zero();
    for (const KSegment *g = c.segment + s->segment, *end = g + s->segments; g != end; g++) {
      if constexpr (form == TileForm::rows) t.run_rows(c.row, g->a, c.b + g->b, c.b_step, g->count);
      else {
        for (int i = 0; i < c.ahead_lines; i++, ahead += kLineBytes) __builtin_prefetch(ahead, 0, 2);
        t.run_columns(c.a + g->a, c.a_step, c.b + g->b, c.b_step, g->count);
      }
    }
    T* slot = c.stack + s->slot * kTileSize<T>;
    for (int m = s->adds; m-- > 0;) t.add([=](int i) { return slot + m * kTileSize<T> + i * kPanel<T>; });
    if (s + 1 == c.last && c.out) {
      T* const* const out = c.out;
      if (c.bias) t.add([b = c.bias](int) { return b; });
      if (c.accumulate) t.add([=](int i) { return out[i]; });
      if (c.far) t.put_far([=](int i) { return out[i]; });
      else t.put([=](int i) { return out[i]; });
    } else {
      t.put([=](int i) { return slot + i * kPanel<T>; });
    }
  }
}

template <class T, TileForm form, int kVectors, int... kIndex>
TileFunction<T> pick(int rows, std::integer_sequence<int, kIndex...>) {
  static constexpr TileFunction<T> table[] = {&run_tile<T, form, kIndex + 1, kVectors>...};
  return table[rows - 1];
}
template <class T, TileForm form>
TileFunction<T> pick(int rows, int vectors) {
  constexpr std::make_integer_sequence<int, kTileRows> heights{};
  return vectors == 1 ? pick<T, form, 1>(rows, heights) : pick<T, form, 2>(rows, heights);
}

}  // namespace

template <class T>
TileFunction<T> tile_function(TileForm form, int rows, int vectors) {
  return form == TileForm::rows ? pick<T, TileForm::rows>(rows, vectors) : pick<T, TileForm::columns>(rows, vectors);
}
template TileFunction<float> tile_function(TileForm, int, int);
template TileFunction<double> tile_function(TileForm, int, int);

}  // namespace thalweg

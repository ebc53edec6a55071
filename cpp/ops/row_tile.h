// row_tile.h: loops along one axis. Short or strided rows go sixteen side by side, one in each lane; long contiguous
// rows go one by one, along their own lanes. What is done to a row is written once, for both:
//   along_axis<N, 1, 1>(exec, axis, ns, {x}, {y}, [=](auto rows, auto x, auto y, int64_t first, int64_t count) {
//     rows.template fold<N>([=](int64_t i, int64_t row, int64_t j) { return x[0][i]; }, sum);   a number for each row
//     rows.each([=](int64_t i, int64_t row, int64_t j) { y[0].set(i, x[0][i] / sum[row]); });   i: element j of a row
//   });
// A fold adds in 16 lanes, lane k taking elements k, k + 16, ..., then the lanes fold in halves.
#pragma once
#include "../exec/lanes.h"
#include "../exec/pack.h"
#include "common.h"

namespace thalweg {

inline constexpr int64_t kRowTile = 16;     // rows side by side
inline constexpr int64_t kTileLength = 64;  // longer contiguous rows go one by one

// A tensor seen as (outer, n, inner) with rows along the middle axis.
struct AxisRows {
  int64_t outer = 1, n = 1, inner = 1;
  static AxisRows of(const Shape& x, int axis) { return {x.product(0, axis), x[axis], x.product(axis + 1, x.rank())}; }
  int64_t rows() const { return outer * inner; }
  bool in_tiles() const { return inner > 1 || n <= kTileLength; }
  int64_t row_stride() const { return inner == 1 ? n : 1; }

  // Tiles do not cross an outer index, unless inner is 1.
  struct Tile {
    int64_t base, first, count;  // offset of the first row's element 0, its index among outer x inner, rows
  };
  int64_t per_outer() const { return (inner + kRowTile - 1) / kRowTile; }
  int64_t tiles() const { return inner == 1 ? (outer + kRowTile - 1) / kRowTile : outer * per_outer(); }
  Tile tile(int64_t t) const {
    if (inner == 1) return {t * kRowTile * n, t * kRowTile, std::min(kRowTile, outer - t * kRowTile)};
    const int64_t o = t / per_outer(), i = t % per_outer() * kRowTile;
    return {o * n * inner + i, o * inner + i, std::min(kRowTile, inner - i)};
  }
};

// One number for each row of a tile.
template <class N>
struct RowValues {
  alignas(64) RealOf<N> memory[kPlanes<N> * kRowTile];
  View<N> view() { return planar<N>(memory, kRowTile); }
};

// Element j of row l stands at 16 j + l.
struct TileRows {
  static constexpr int64_t kRows = kRowTile;
  int64_t n;
  int64_t index(int64_t j, int64_t row) const { return j * kRowTile + row; }
  template <class F>
  void each(F f) const {
    for (int64_t j = 0; j < n; j++) {
#pragma omp simd
      for (int64_t l = 0; l < kRowTile; l++) f(j * kRowTile + l, l, j);
    }
  }
  template <class N, class Element, class Combine = Add>
  void fold(Element element, View<N> out, Combine combine = {}) const {
    alignas(64) RealOf<N> memory[kPlanes<N> * kFoldLanes * kRowTile];
    const View<N> lanes = planar<N>(memory, kFoldLanes * kRowTile);
    for (int64_t j = 0; j < n; j++) {
      const View<N> lane = lanes.at(j % kFoldLanes * kRowTile);
      if (j < kFoldLanes) {
#pragma omp simd
        for (int64_t l = 0; l < kRowTile; l++) lane.set(l, element(j * kRowTile + l, l, j));
      } else {
#pragma omp simd
        for (int64_t l = 0; l < kRowTile; l++) lane.set(l, combine(lane[l], element(j * kRowTile + l, l, j)));
      }
    }
    int64_t width = std::min(n, kFoldLanes);  // lanes in use; the others are the identity
    for (int64_t half = kFoldLanes / 2; half >= 1; half /= 2) {
      for (int64_t k = half; k < width; k++) {
        const View<N> a = lanes.at((k - half) * kRowTile), b = lanes.at(k * kRowTile);
#pragma omp simd
        for (int64_t l = 0; l < kRowTile; l++) a.set(l, combine(a[l], b[l]));
      }
      width = std::min(width, half);
    }
#pragma omp simd
    for (int64_t l = 0; l < kRowTile; l++) out.set(l, n > 0 ? lanes[l] : Combine::template identity<N>());
  }
};

struct OneRow {
  static constexpr int64_t kRows = 1;
  int64_t n;
  int64_t index(int64_t j, int64_t) const { return j; }
  template <class F>
  void each(F f) const {
#pragma omp simd
    for (int64_t j = 0; j < n; j++) f(j, 0, j);
  }
  template <class N, class Element, class Combine = Add>
  void fold(Element element, View<N> out, Combine combine = {}) const {
    out.set(0, fold_lanes<N, 1>(n, [=](int64_t j) { return std::array<N, 1>{element(j, 0, j)}; }, combine)[0]);
  }
};

// f(x, tile) for the planes of both.
template <class N, class F>
void each_plane(View<N> x, View<N> tile, F f) {
  if constexpr (kIsDual<N>) f(x.v, tile.v), f(x.t, tile.t);
  else f(x.p, tile.p);
}
// Rows into a tile; lanes without a row get zeros, so that every loop over lanes has sixteen.
template <class N>
void load_rows(const AxisRows& a, const AxisRows::Tile& t, View<N> x, View<N> tile) {
  if (a.inner == 1 && t.count == kRowTile)
    return each_plane(x.at(t.base), tile,
                      [&](auto* from, auto* to) { pack_panel(from, 1, a.n, a.n, kRowTile, kRowTile, to); });
  const int64_t stride = a.row_stride();
  for (int64_t j = 0; j < a.n; j++) {
    const View<N> from = x.at(t.base + j * a.inner), to = tile.at(j * kRowTile);
    for (int64_t l = 0; l < t.count; l++) to.set(l, from[l * stride]);
    for (int64_t l = t.count; l < kRowTile; l++) to.set(l, N(0));
  }
}
template <class N>
void store_rows(const AxisRows& a, const AxisRows::Tile& t, View<N> tile, View<N> y) {
  if (a.inner == 1)
    return each_plane(y.at(t.base), tile,
                      [&](auto* to, auto* from) { unpack_panel(from, kRowTile, a.n, int(t.count), to, a.n, false); });
  const int64_t stride = a.row_stride();
  for (int64_t j = 0; j < a.n; j++) {
    const View<N> from = tile.at(j * kRowTile), to = y.at(t.base + j * a.inner);
    for (int64_t l = 0; l < t.count; l++) to.set(l * stride, from[l]);
  }
}

// body(rows, x, y, first, count) for every tile of rows, or every row; x and y are the tensors' elements in it.
template <class N, int K, int M, class Body>
void along_axis(const Exec& exec, const AxisRows& a, double ns_per_element, const State<N, K>& x, const State<N, M>& y,
                Body body) {
  const double work_ns = double(a.rows()) * (4 + double(a.n) * ns_per_element);
  if (!a.in_tiles()) {
    exec.parallel(a.rows(), work_ns, [&](int64_t row, int) {
      State<N, K> from = x;
      State<N, M> to = y;
      for (View<N>& v : from) v = v.at(row * a.n);
      for (View<N>& v : to) v = v.at(row * a.n);
      body(OneRow{a.n}, from, to, row, int64_t(1));
    });
    return;
  }
  exec.parallel(a.tiles(), work_ns, [&](int64_t t, int worker) {
    const AxisRows::Tile tile = a.tile(t);
    const int64_t size = a.n * kRowTile;
    auto* memory = exec.scratch<RealOf<N>>(worker, Slot::tile, (K + M) * kPlanes<N> * size);
    const State<N, K> from = state_at<N, K>(memory, size);
    const State<N, M> to = state_at<N, M>(memory + K * kPlanes<N> * size, size);
    for (int k = 0; k < K; k++) load_rows<N>(a, tile, x[k], from[k]);
    body(TileRows{a.n}, from, to, tile.first, tile.count);
    for (int k = 0; k < M; k++) store_rows<N>(a, tile, to[k], y[k]);
  });
}

}  // namespace thalweg

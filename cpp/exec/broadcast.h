// broadcast.h: element loops over an output and K operands that are broadcast to it (NumPy's rule).
//   map_broadcast<true, 2, N>(exec, loop, [](N a, N b) { return a + b; }, {x, z}, y);    captures nothing
// Axes that every operand walks alike are joined once, when the kernel is built; what remains at the end is the inner
// loop, in which an operand either moves by one or stands still. Where no loop of its own is worth it, operands that
// are not contiguous are first spread out over a small tile: for short inner loops (few channels), many rows at a time.
#pragma once
#include <array>
#include <utility>
#include <vector>

#include "../tensor/shape.h"
#include "for_each.h"

namespace thalweg {

// Row-major extents with the strides (in elements) of K operands; the last axis is the inner loop.
template <int K>
struct Strided {
  int rank = 0;
  int64_t extent[Shape::kMaxRank] = {};
  int64_t stride[K][Shape::kMaxRank] = {};
  int64_t size() const {
    int64_t n = 1;
    for (int i = 0; i < rank; i++) n *= extent[i];
    return n;
  }
  int64_t inner() const { return rank ? extent[rank - 1] : 1; }
  int64_t inner_stride(int k) const { return rank ? stride[k][rank - 1] : 1; }
  // Adds an axis behind the others; joins it to the last one where every operand walks both as one.
  void append(int64_t n, const std::array<int64_t, K>& s) {
    if (n == 1) return;
    bool joins = rank > 0;
    for (int k = 0; k < K && joins; k++) joins = stride[k][rank - 1] == s[k] * n;
    if (joins) extent[rank - 1] *= n;
    else extent[rank++] = n;
    for (int k = 0; k < K; k++) stride[k][rank - 1] = s[k];
  }
};

// Calls row(flat, offset of each operand, count) for the stretches of inner loops that make up elements [begin, end).
template <int K, class Row>
void walk(const Strided<K>& s, int64_t begin, int64_t end, Row row) {
  const int outer = s.rank - 1;
  int64_t index[Shape::kMaxRank] = {}, rest = begin / s.inner(), skip = begin % s.inner();
  std::array<int64_t, K> base{};
  for (int i = outer - 1; i >= 0; i--) {
    index[i] = rest % s.extent[i];
    rest /= s.extent[i];
    for (int k = 0; k < K; k++) base[k] += index[i] * s.stride[k][i];
  }
  for (int64_t flat = begin; flat < end;) {
    std::array<int64_t, K> at = base;
    for (int k = 0; k < K; k++) at[k] += skip * s.inner_stride(k);
    const int64_t count = std::min(end - flat, s.inner() - skip);
    row(flat, at, count);
    flat += count;
    skip = 0;
    for (int i = outer - 1; i >= 0; i--) {
      for (int k = 0; k < K; k++) base[k] += s.stride[k][i];
      if (++index[i] < s.extent[i]) break;
      for (int k = 0; k < K; k++) base[k] -= index[i] * s.stride[k][i];
      index[i] = 0;
    }
  }
}

template <int K>
struct BroadcastLoop : Strided<K> {
  int64_t elements = 0;
  int64_t table_rows = 0;                     // rows of a tile when the inner loop is short; 0: it is not
  std::array<std::vector<int32_t>, K> table;  // offsets of each operand in the tile
  bool contiguous(int k) const { return this->stride[k][0] == this->extent[1] && this->stride[k][1] == 1; }
};

inline constexpr int64_t kShortLoop = 32, kSpread = 512;  // elements: of a short inner loop (below), of a tile

template <int K>
BroadcastLoop<K> broadcast_loop(const Shape& out, const std::array<Shape, K>& in) {
  BroadcastLoop<K> loop;
  loop.elements = out.size();
  if (loop.elements == 0) return loop;
  for (int o = 0; o < out.rank(); o++) {
    std::array<int64_t, K> stride;
    for (int k = 0; k < K; k++) {
      const int i = o - out.rank() + in[k].rank();
      stride[k] = i < 0 || in[k][i] == 1 ? 0 : in[k].product(i + 1, in[k].rank());
    }
    loop.append(out[o], stride);
  }
  if (loop.rank == 2 && loop.inner() < kShortLoop) {
    const int64_t n = loop.inner();
    loop.table_rows = std::min(loop.extent[0], kSpread / n);
    for (int k = 0; k < K; k++)
      for (int64_t j = 0; j < loop.table_rows * n; j++)
        loop.table[k].push_back(int32_t(j / n * loop.stride[k][0] + j % n * loop.stride[k][1]));
  }
  return loop;
}

namespace broadcast_detail {

// The inner loop of a formula: a plain function, so that all that walks around it is compiled once for all formulas.
template <int K, class N>
using Inner = void (*)(const std::array<View<N>, K>& in, View<N> out, int64_t count);

// Bit k of kMoves: operand k moves with the loop; otherwise it stands still.
template <unsigned kMoves, class N, class F, size_t... k>
TW_FLATTEN void inner(const std::array<View<N>, sizeof...(k)>& in, View<N> out, int64_t count,
                      std::index_sequence<k...>) {
  const std::array<View<N>, sizeof...(k)> x = in;
#pragma omp simd
  for (int64_t j = 0; j < count; j++) out.set(j, F{}(x[k][kMoves >> k & 1 ? j : 0]...));
}
template <unsigned kMoves, int K, class N, class F>
constexpr Inner<K, N> inner_of() {
  return [](const std::array<View<N>, K>& in, View<N> out, int64_t count) {
    inner<kMoves, N, F>(in, out, count, std::make_index_sequence<K>{});
  };
}
// Of the pattern that is known only now; pattern 0, nothing moves, never occurs.
template <int K, class N, class F, unsigned kPattern = 1>
Inner<K, N> inner_of(unsigned pattern) {
  if constexpr (kPattern + 1 < 1u << K)
    if (pattern != kPattern) return inner_of<K, N, F, kPattern + 1>(pattern);
  return inner_of<kPattern, K, N, F>();
}

// Room for K operands spread out over kSpread elements.
template <class N, int K>
struct Tile {
  static constexpr int64_t kSize = kSpread * (kIsDual<N> ? 2 : 1);
  alignas(64) RealOf<N> memory[K * kSize];
  View<N> of(int k) {
    if constexpr (kIsDual<N>) return View<N>(memory + k * kSize, memory + k * kSize + kSpread);
    else return View<N>(memory + k * kSize);
  }
};

// A task: tiles of table_rows rows. Operands that are the same in every row are spread once.
template <int K, class N>
void run_tiles(const BroadcastLoop<K>& loop, Inner<K, N> f, const std::array<View<N>, K>& in, View<N> out, int64_t row,
               int64_t end) {
  Tile<N, K> tile;
  std::array<View<N>, K> x = in;
  for (bool first = true; row < end; row += loop.table_rows, first = false) {
    const int64_t count = std::min(loop.table_rows, end - row) * loop.inner();
    for (int k = 0; k < K; k++) {
      const View<N> from = in[k].at(row * loop.stride[k][0]), to = tile.of(k);
      x[k] = loop.contiguous(k) ? from : to;
      if (loop.contiguous(k) || (loop.stride[k][0] == 0 && !first)) continue;
      const int32_t* offset = loop.table[k].data();
#pragma omp simd
      for (int64_t j = 0; j < count; j++) to.set(j, from[offset[j]]);
    }
    f(x, out.at(row * loop.inner()), count);
  }
}

// A stretch of the inner loop with operands that stand still spread out over a tile.
template <int K, class N>
void run_spread(unsigned moves, Inner<K, N> f, const std::array<View<N>, K>& in, View<N> out, int64_t count) {
  Tile<N, K> tile;
  const int64_t most = std::min(count, kSpread);
  std::array<View<N>, K> x = in;
  for (int k = 0; k < K; k++) {
    if (moves >> k & 1) continue;
    x[k] = tile.of(k);
    const N value = in[k][0];
    for (int64_t j = 0; j < most; j++) x[k].set(j, value);
  }
  for (int64_t j = 0; j < count; j += most) {
    f(x, out.at(j), std::min(most, count - j));
    for (int k = 0; k < K; k++)
      if (moves >> k & 1) x[k] = x[k].at(most);
  }
}

// Elements [begin, end), a stretch of the inner loop at a time. spread: f takes operands that all move.
template <int K, class N>
void run_rows(const BroadcastLoop<K>& loop, Inner<K, N> f, bool spread, unsigned moves,
              const std::array<View<N>, K>& in, View<N> out, int64_t begin, int64_t end) {
  walk<K>(loop, begin, end, [&](int64_t flat, const auto& at, int64_t count) {
    std::array<View<N>, K> x = in;
    for (int k = 0; k < K; k++) x[k] = in[k].at(at[k]);
    if (spread) run_spread<K, N>(moves, f, x, out.at(flat), count);
    else f(x, out.at(flat), count);
  });
}

// f: the loop in which every operand moves. f_pattern: the one for `moves`; null: operands are spread out for f.
template <int K, class N>
void run(const Exec& exec, const BroadcastLoop<K>& loop, Inner<K, N> f, Inner<K, N> f_pattern, unsigned moves,
         const std::array<View<N>, K>& in, View<N> out, double work_ns) {
  const int64_t n = loop.elements, rows = loop.extent[0], step = loop.table_rows * 16;
  if (loop.table_rows > 0)
    return exec.parallel((rows + step - 1) / step, work_ns, [&](int64_t task, int) {
      run_tiles<K, N>(loop, f, in, out, task * step, std::min(rows, (task + 1) * step));
    });
  exec.parallel((n + kElementsPerTask - 1) / kElementsPerTask, work_ns, [&](int64_t task, int) {
    const int64_t begin = task * kElementsPerTask;
    run_rows<K, N>(loop, f_pattern ? f_pattern : f, !f_pattern, moves, in, out, begin,
                   std::min(n, begin + kElementsPerTask));
  });
}

}  // namespace broadcast_detail

// out = F{}(in...). With kEveryPattern there is a loop for each pattern of operands that move or stand still; formulas
// whose arithmetic outweighs the loads, and those of three operands, have one loop and spread the others out.
template <bool kEveryPattern, int K, class N, class F>
void map_broadcast(const Exec& exec, const BroadcastLoop<K>& loop, F, const std::array<View<N>, K>& in, View<N> out,
                   double ns_per_element = 0.3) {
  using namespace broadcast_detail;
  constexpr unsigned kAll = (1u << K) - 1;
  if (loop.elements == 0) return;
  unsigned moves = 0;
  for (int k = 0; k < K; k++) moves |= unsigned(loop.inner_stride(k) != 0) << k;
  constexpr Inner<K, N> f = inner_of<kAll, K, N, F>();
  Inner<K, N> f_pattern = moves == kAll ? f : nullptr;
  if constexpr (kEveryPattern) f_pattern = inner_of<K, N, F>(moves);
  run<K, N>(exec, loop, f, f_pattern, moves, in, out, double(loop.elements) * ns_per_element);
}

}  // namespace thalweg

// broadcast.h: element loops over an output and K operands that are broadcast to it (NumPy's rule).
//   for_each_broadcast<true>(exec, loop, [=](int64_t o, int64_t a, int64_t b) { y.set(o, x[a] + z[b]); });
// Axes that every operand walks alike are joined once, when the kernel is built; what remains at the end is the inner
// loop, in which an operand either moves by one or stands still. Short inner loops (few channels) are taken many rows
// at a time, through a table of offsets.
#pragma once
#include <array>
#include <utility>
#include <vector>

#include "../tensor/shape.h"
#include "for_each.h"

namespace thalweg {

// Row-major extents with the strides (in elements) of K operands; the last axis is the inner loop.
template <int K> struct Strided {
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
template <int K, class Row> void walk(const Strided<K>& s, int64_t begin, int64_t end, Row row) {
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

template <int K> struct BroadcastLoop : Strided<K> {
  static constexpr int64_t kNarrow = 32, kTable = 1024;
  int64_t elements = 0;
  int64_t table_rows = 0;                        // rows of the table; 0: no table
  std::array<std::vector<int32_t>, K> table;     // offsets of table_rows rows, for operands that are not contiguous
  bool contiguous(int k) const { return this->stride[k][0] == this->extent[1] && this->stride[k][1] == 1; }
};

template <int K> BroadcastLoop<K> broadcast_loop(const Shape& out, const std::array<Shape, K>& in) {
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
  if (loop.rank == 2 && loop.inner() < loop.kNarrow) {
    loop.table_rows = std::min(loop.extent[0], loop.kTable / loop.inner());
    for (int k = 0; k < K; k++)
      for (int64_t j = 0; j < loop.table_rows * loop.inner(); j++)
        loop.table[k].push_back(int32_t(j / loop.inner() * loop.stride[k][0] + j % loop.inner() * loop.stride[k][1]));
  }
  return loop;
}

namespace broadcast_detail {

// Bit k of kMoves: operand k moves with the loop; otherwise it stands still.
template <unsigned kMoves, size_t... k, class F>
TW_HD void inner(int64_t flat, const std::array<int64_t, sizeof...(k)>& at, int64_t count, const F& f,
                 std::index_sequence<k...>) {
#pragma omp simd
  for (int64_t j = 0; j < count; j++) f(flat + j, (at[k] + (kMoves >> k & 1 ? j : 0))...);
}

// Operands with any stride.
template <size_t... k, class F>
TW_HD void inner_strided(int64_t flat, const std::array<int64_t, sizeof...(k)>& at, const Strided<sizeof...(k)>& loop,
                         int64_t count, const F& f, std::index_sequence<k...>) {
  const std::array<int64_t, sizeof...(k)> step{loop.inner_stride(k)...};
#pragma omp simd
  for (int64_t j = 0; j < count; j++) f(flat + j, (at[k] + j * step[k])...);
}

// Bit k of kMoves: operand k is contiguous; otherwise its offsets come from the table.
template <unsigned kMoves, size_t... k, class Loop, class F>
void narrow(const Loop& loop, int64_t row, int64_t rows, const F& f, std::index_sequence<k...>) {
  const int64_t flat = row * loop.inner(), count = rows * loop.inner();
  const std::array<int64_t, sizeof...(k)> at{row * loop.stride[k][0]...};
  const std::array<const int32_t*, sizeof...(k)> table{loop.table[k].data()...};
#pragma omp simd
  for (int64_t j = 0; j < count; j++) f(flat + j, (at[k] + (kMoves >> k & 1 ? j : int64_t(table[k][j])))...);
}

// go(integral_constant) with the pattern that is known only now; kSkip never occurs.
template <int K, unsigned kSkip, unsigned kPattern = 0, class Go> void with_pattern(unsigned pattern, const Go& go) {
  if constexpr (kPattern != kSkip)
    if (pattern == kPattern) return go(std::integral_constant<unsigned, kPattern>{});
  if constexpr (kPattern + 1 < 1u << K) with_pattern<K, kSkip, kPattern + 1>(pattern, go);
}

// Tasks of rows of the table.
template <int K, class F> void run_table(const Exec& exec, const BroadcastLoop<K>& loop, const F& f, double work_ns) {
  unsigned moves = 0;
  for (int k = 0; k < K; k++) moves |= unsigned(loop.contiguous(k)) << k;
  const int64_t rows = loop.extent[0], step = loop.table_rows;
  with_pattern<K, (1u << K) - 1>(moves, [&](auto pattern) {  // were all contiguous, the axes would be one
    exec.parallel((rows + step - 1) / step, work_ns, [&](int64_t task, int) {
      narrow<pattern()>(loop, task * step, std::min(step, rows - task * step), f, std::make_index_sequence<K>{});
    });
  });
}

// Tasks of kElementsPerTask elements; row(flat, at, count) runs a stretch of the inner loop.
template <int K, class Row> void run_rows(const Exec& exec, const BroadcastLoop<K>& loop, double work_ns, const Row& row) {
  const int64_t n = loop.elements;
  exec.parallel((n + kElementsPerTask - 1) / kElementsPerTask, work_ns, [&](int64_t task, int) {
    const int64_t begin = task * kElementsPerTask;
    walk<K>(loop, begin, std::min(n, begin + kElementsPerTask), row);
  });
}

}  // namespace broadcast_detail

// Formulas whose arithmetic outweighs the loads, and those of three operands, get a loop for contiguous operands and
// one for all the rest; the others get one for each pattern of operands that move or stand still.
template <bool kEveryPattern, int K, class F>
void for_each_broadcast(const Exec& exec, const BroadcastLoop<K>& loop, const F& f, double ns_per_element = 0.3) {
  using namespace broadcast_detail;
  constexpr auto operands = std::make_index_sequence<K>{};
  constexpr unsigned kAll = (1u << K) - 1;
  const double work_ns = double(loop.elements) * ns_per_element;
  if (loop.elements == 0) return;
  unsigned moves = 0;
  for (int k = 0; k < K; k++) moves |= unsigned(loop.inner_stride(k) != 0) << k;
  if constexpr (kEveryPattern) {
    if (loop.table_rows > 0) return run_table<K>(exec, loop, f, work_ns);
    with_pattern<K, 0>(moves, [&](auto pattern) {
      run_rows<K>(exec, loop, work_ns, [&](int64_t flat, const std::array<int64_t, K>& at, int64_t count) {
        inner<pattern()>(flat, at, count, f, operands);
      });
    });
  } else if (moves == kAll) {
    run_rows<K>(exec, loop, work_ns, [&](int64_t flat, const std::array<int64_t, K>& at, int64_t count) {
      inner<kAll>(flat, at, count, f, operands);
    });
  } else {
    run_rows<K>(exec, loop, work_ns, [&](int64_t flat, const std::array<int64_t, K>& at, int64_t count) {
      inner_strided(flat, at, loop, count, f, operands);
    });
  }
}

}  // namespace thalweg

// short_shards.h: column sums of a few shards of a few rows each, by one thread, every sum whole in registers. The
// order is that of reduce.h: the rows of a shard in a chain, those of few channels in halves, then the tree over the
// shards.
#pragma once
#include "reduce.h"

namespace thalweg {
namespace short_shards_detail {

template <class N, int kRows, bool kHalves, class X>
TW_HD N sum_rows(const X& x, int64_t i, int64_t step) {
  if constexpr (kRows == 1) {
    return x[i];
  } else if constexpr (kHalves) {
    return sum_rows<N, kRows / 2, true>(x, i, 2 * step) + sum_rows<N, kRows / 2, true>(x, i + step, 2 * step);
  } else {
    return sum_rows<N, kRows - 1, false>(x, i, step) + x[i + (kRows - 1) * step];
  }
}
template <class N, int kShards, int kRows, bool kHalves, class X>
TW_HD N sum_shards(const X& x, int64_t i, int64_t step) {
  if constexpr (kShards == 1) {
    return sum_rows<N, kRows, kHalves>(x, i, step);
  } else {
    constexpr int kHalf = kShards / 2;
    return sum_shards<N, kHalf, kRows, kHalves>(x, i, step) +
           sum_shards<N, kHalf, kRows, kHalves>(x, i + kHalf * kRows * step, step);
  }
}
template <class N, int kShards, int kRows, bool kHalves, class X>
TW_FLATTEN void sum_all(const X& x, int64_t channels, const View<N>& y) {
  const X from = x;  // copies, as in take_rows
  const View<N> to = y;
#pragma omp simd
  for (int64_t c = 0; c < channels; c++) to.set(c, sum_shards<N, kShards, kRows, kHalves>(from, c, channels));
}

}  // namespace short_shards_detail

// 4 or 8 shards of 2, 4 or 8 rows each; of few channels, which are added in row lanes, no more rows than lanes.
struct ShortShards {
  int shards = 0, rows = 0;  // zeros: others
  bool halves = false;

  static ShortShards of(const Columns& plan) {
    const int64_t shards = plan.blocks.shards(), lanes = row_lanes(plan.channels);
    if ((shards != 4 && shards != 8) || plan.blocks.blocks() != shards) return {};
    const int64_t rows = plan.blocks.row[1];
    if ((rows != 2 && rows != 4 && rows != 8) || (lanes > 1 && lanes < rows)) return {};
    for (int64_t s = 0; s < shards; s++)
      if (plan.rows_of_shard(s) != rows) return {};
    return {int(shards), int(rows), lanes > 1};
  }
  explicit operator bool() const { return shards > 0; }

  // y(c) = sum of x[r * channels + c] over all rows r.
  template <class N, class X>
  void sum(const X& x, int64_t channels, const View<N>& y) const {
    if (shards == 4) sum_of<4>(x, channels, y);
    else sum_of<8>(x, channels, y);
  }

 private:
  template <int kShards, class N, class X>
  void sum_of(const X& x, int64_t channels, const View<N>& y) const {
    if (rows == 2) sum_of<kShards, 2>(x, channels, y);
    else if (rows == 4) sum_of<kShards, 4>(x, channels, y);
    else sum_of<kShards, 8>(x, channels, y);
  }
  template <int kShards, int kRows, class N, class X>
  void sum_of(const X& x, int64_t channels, const View<N>& y) const {
    using short_shards_detail::sum_all;
    if (halves) sum_all<N, kShards, kRows, true>(x, channels, y);
    else sum_all<N, kShards, kRows, false>(x, channels, y);
  }
};

}  // namespace thalweg

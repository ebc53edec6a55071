// lanes.h: sums and other folds of n neighbours, in an order that n alone decides: 16 lanes inside a block of 1024 (one
// chain for 16 or fewer), the tree of shards.h over the blocks. A fold is given by Combine, as in reduce.h.
#pragma once
#include "reduce.h"

namespace thalweg {

inline constexpr int64_t kFoldLanes = 16, kLaneBlock = 1024;

namespace lanes_detail {

// Lane l takes element i + l.
template <class N, int K, class At, class Combine>
TW_HD void take_lane(int64_t i, int64_t l, const At& at, const State<N, K>& lanes, Combine combine) {
  const std::array<N, K> x = at(i + l);
  TW_UNROLL for (int k = 0; k < K; k++) lanes[k].set(l, combine(lanes[k][l], x[k]));
}

template <class N, int K, class Element, class Combine>
std::array<N, K> lane_block(int64_t begin, int64_t end, const Element& element, Combine combine) {
  alignas(64) RealOf<N> memory[K * kPlanes<N> * kFoldLanes];
  const State<N, K> lanes = state_at<N, K>(memory, kFoldLanes);
  fill_state<N, K>(lanes, 0, kFoldLanes, Combine::template identity<N>());
  const Element at = element;  // a copy, as in take_rows
  auto take = [=](int64_t i, int64_t count) {
#pragma omp simd
    for (int64_t l = 0; l < count; l++) take_lane<N, K>(i, l, at, lanes, combine);
  };
  int64_t i = begin;
  for (; i + kFoldLanes <= end; i += kFoldLanes) take(i, kFoldLanes);
  if (i < end) take(i, end - i);
  for (int64_t half = kFoldLanes / 2; half >= 1; half /= 2)
    for (int k = 0; k < K; k++)
      for (int64_t l = 0; l < half; l++) lanes[k].set(l, combine(lanes[k][l], lanes[k][l + half]));
  std::array<N, K> out;
  for (int k = 0; k < K; k++) out[k] = lanes[k][0];
  return out;
}

// Up to 16 elements: one chain; the chains of neighbouring rows overlap in the processor, which lanes would prevent.
template <class N, int K, class Element, class Combine>
std::array<N, K> short_chain(int64_t n, const Element& element, Combine combine) {
  std::array<N, K> sum;
  sum.fill(Combine::template identity<N>());
  for (int64_t i = 0; i < n; i++) {
    const std::array<N, K> x = element(i);
    for (int k = 0; k < K; k++) sum[k] = combine(sum[k], x[k]);
  }
  return sum;
}

}  // namespace lanes_detail

// The fold of element(i) (std::array<N, K>) over i = 0 .. n - 1: sums along a trailing axis. n = 0 gives the identity.
template <class N, int K, class Element, class Combine = Add>
std::array<N, K> fold_lanes(int64_t n, const Element& element, Combine combine = {}) {
  using namespace lanes_detail;
  if (n <= kFoldLanes) return short_chain<N, K>(n, element, combine);
  if (n <= kLaneBlock) return lane_block<N, K>(0, n, element, combine);
  std::array<N, K> slot[40];
  fold_tree((n + kLaneBlock - 1) / kLaneBlock,
            [&](int64_t b, int s) {
              const int64_t begin = b * kLaneBlock;
              slot[s] = lane_block<N, K>(begin, std::min(n, begin + kLaneBlock), element, combine);
            },
            [&](int a, int b) {
              for (int k = 0; k < K; k++) slot[a][k] = combine(slot[a][k], slot[b][k]);
            });
  return slot[0];
}

}  // namespace thalweg

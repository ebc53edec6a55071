// tile_lanes_bf16.cpp: depthwise convolutions of bf16, a product of its own in every lane.
#include "flush.h"
#include "tile_bf16.h"
#include "vector.h"

namespace thalweg {
namespace {

constexpr int W = kLanes<float>, V = kSide / W;                                    // vectors of a result
constexpr int kMostResults = kVectorBytes == 64 ? 8 : kVectorBytes == 32 ? 2 : 1;  // whose sums are in registers

// kCount results, which read the same B.
template <int kCount>
TW_NOINLINE void lanes(const LanesBf16& c, const float* a, float* to) {
  Vector<float> sum[kCount * V], low[kCount * V], high[kCount * V];
  auto add = [&](Vector<float>* chain, int64_t k) __attribute__((always_inline)) {
    const float* at = a + c.a_at[k];
    Vector<float> b[V];
    each<V>([&](auto v) __attribute__((always_inline)) { b[v] = load(c.b + k * c.b_step + v * W); });
    each<kCount>([&](auto i) __attribute__((always_inline)) {
      each<V>([&](auto v) __attribute__((always_inline)) { fma_to(chain[i * V + v], load(at + v * W), b[v]); });
      at += c.a_next;
    });
  };
  each<kCount * V>([&](auto n) __attribute__((always_inline)) { sum[n] = Vector<float>{}; });
  for (int64_t g = 0; g < c.groups; g++) {
    each<kCount * V>([&](auto n) __attribute__((always_inline)) { low[n] = high[n] = Vector<float>{}; });
    int64_t k = c.start[g];
    for (; k + 1 < c.start[g + 1]; k += 2) add(low, k), add(high, k + 1);
    if (k < c.start[g + 1]) add(low, k);
    each<kCount * V>([&](auto n) __attribute__((always_inline)) { sum[n] += low[n] + high[n]; });
  }
  each<kCount * V>([&](auto n) __attribute__((always_inline)) { store(to + n * W, sum[n]); });
}
template <int... kIndex>
void lanes(const LanesBf16& c, int count, const float* a, float* to, std::integer_sequence<int, kIndex...>) {
  using Function = void (*)(const LanesBf16&, const float*, float*);
  static constexpr Function table[] = {&lanes<kIndex + 1>...};
  table[count - 1](c, a, to);
}

}  // namespace

void run_lanes(const LanesBf16& c) {
  const FlushScope flush;
  for (int64_t i = 0; i < c.count; i += kMostResults)
    lanes(c, int(std::min<int64_t>(kMostResults, c.count - i)), c.a + i * c.a_next, c.sum + i * kSide,
          std::make_integer_sequence<int, kMostResults>());
}

}  // namespace thalweg

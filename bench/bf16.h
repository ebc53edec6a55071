// bf16.h: what the benchmarks of bf16 products share.
#pragma once
#include <cstdio>

#include "formula/bf16.h"
#include "memory.h"
#include "products.h"
#include "timing.h"

namespace thalweg::bench {

inline float* floats(const Arena& a) { return reinterpret_cast<float*>(a.data()); }
inline Bf16* halves(const Arena& a) { return reinterpret_cast<Bf16*>(a.data()); }
inline Arena rounded(const Arena& a) {
  Arena b(a.bytes() / 2);
  for (int64_t i = 0; i < a.bytes() / 4; i++) halves(b)[i] = to_bf16(floats(a)[i]);
  return b;
}

// One line: operands stored as bf16, as floats, the product of floats, and oneDNN's.
struct Contenders {
  Job bf16, of_floats, float32, peer, peer_blocked;
};
inline void report(const char* what, int threads, double flops, const Contenders& c) {
  const Race r = race({c.bf16, c.of_floats, c.float32, c.peer, c.peer_blocked}, 9, 0.008, threads > 1 ? 0.006 : 0);
  auto rate = [&](size_t i) { return flops / r.time(i) / 1e9; };
  std::printf("  %-16s %6.0f GFLOP/s of bf16 %9.1f us   %6.0f of floats   %5.2f float32", what, rate(0),
              r.time(0) * 1e6, rate(1), r.speedup(0, 2));
  if (c.peer) std::printf("   %5.2f oneDNN (%.0f)", r.speedup(0, 3), rate(3));
  if (c.peer_blocked) std::printf("   %5.2f laid out in advance (%.0f)", r.speedup(0, 4), rate(4));
  std::printf("\n");
}

}  // namespace thalweg::bench

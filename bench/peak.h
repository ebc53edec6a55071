// peak.h: the most that the machine's arithmetic and memory give, as jobs that can take part in a race.
#pragma once
#include "exec/exec.h"
#include "exec/vector.h"

namespace thalweg::bench {

inline constexpr int kPeakTurns = 400000;  // long beside a fork

// 24 independent chains of fma: enough to fill two pipes of latency 4 and more.
template <class T>
inline constexpr double kPeakFlops = 2.0 * 24 * kLanes<T> * kPeakTurns;
template <class T>
inline void peak_chains(T* sink) {
  Vector<T> acc[24];
  const Vector<T> a = splat(T(0.999)), b = splat(T(1e-3));
  for (int i = 0; i < 24; i++) acc[i] = splat(T(i));
  for (int k = 0; k < kPeakTurns; k++) {
#pragma GCC unroll 24
    for (int i = 0; i < 24; i++) acc[i] = fma(acc[i], a, b);
  }
  for (int i = 1; i < 24; i++) acc[0] += acc[i];
  store(sink, acc[0]);
}
// One call does kPeakFlops<T> on each thread of the pool.
template <class T>
inline void peak(const Exec& exec) {
  exec.parallel(exec.pool.threads(), 1e9, [](int64_t, int) {
    T sink[kLanes<T>];
    peak_chains(sink);
    __asm__ volatile("" : : "r"(sink) : "memory");
  });
}

}  // namespace thalweg::bench

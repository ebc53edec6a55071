// update.cpp: the optimizer's pass over the flat arenas: each rule's formula (formula/optimizer.h) on every element of
// the segments, in one vectorised loop. Tasks are fixed stretches of the arena; the gradient is only read.
#include "update.h"

#include "../exec/for_each.h"
#include "../tensor/arena.h"
#include "rules.h"

namespace thalweg {

namespace {

template <class T>
struct Arenas {
  T* w;
  const T* g;
  T* state;
  int64_t stride;
  int64_t end;  // of all segments
};
// Roots and quotients fill the processor's window, so that it does not see the next loads in time.
constexpr int64_t kAheadBytes = 1536;  // 2 KB: a quarter slower on Zen 4
template <int kStates, class T>
TW_HD void fetch(const Place<T>& to, const T* g, int64_t begin, int64_t count) {
  for (int64_t i = begin; i < begin + count; i += kAlign / int64_t(sizeof(T))) {
    __builtin_prefetch(to.w + i, 1, 2);
    __builtin_prefetch(g + i, 0, 2);
    if (kStates > 0) __builtin_prefetch(to.first + i, 1, 2);
    if (kStates > 1) __builtin_prefetch(to.second + i, 1, 2);
  }
}

template <class T, class F>
void update_run(const Arenas<T>& a, GradientRates<T> rates, int64_t begin, int64_t end, F formula) {
  const Place<T> to{a.w, a.state, a.state ? a.state + a.stride : nullptr};
  const UpdateElement<T, F> one{to, a.g, rates, formula};
  constexpr int64_t kRun = 64;  // a fixed count: the compiler unrolls it, and roots overlap with the next loads
  constexpr int64_t kAhead = kAheadBytes / int64_t(sizeof(T));
  int64_t i = begin;
  for (; i + kRun <= end; i += kRun) {
    if (i + kAhead < a.end) fetch<F::kStates>(to, a.g, i + kAhead, kRun);
#pragma omp simd
    for (int64_t k = 0; k < kRun; k++) one(i + k);
  }
#pragma omp simd
  for (int64_t k = i; k < end; k++) one(k);
}

template <class T>
void update_all(const Exec& exec, const Update& u, std::span<const Rates> rates, std::span<const Segment> segments,
                Arenas<T> arenas) {
  int64_t from = arenas.stride, to = 0;
  for (const Segment& s : segments) from = std::min(from, s.begin), to = std::max(to, s.end);
  if (from >= to) return;
  arenas.end = to;
  // Tasks begin where w fills whole cache lines: arrays of a caller's own need not be aligned.
  const int64_t before = int64_t(reinterpret_cast<uintptr_t>(arenas.w + from) % kAlign / sizeof(T)),
                base = from - before;
  const int64_t tasks = (to - base + kElementsPerTask - 1) / kElementsPerTask;
  exec.parallel(tasks, double(to - from) * 0.5, [&](int64_t task, int) {
    const int64_t begin = std::max(from, base + task * kElementsPerTask), end = base + (task + 1) * kElementsPerTask;
    for (const Segment& s : segments) {
      const int64_t first = std::max(begin, s.begin), last = std::min(end, s.end);
      if (first >= last) continue;
      const Rates& r = rates[size_t(s.group)];
      with_formula<T>(u, r,
                      [&](auto formula) { update_run(arenas, gradient_rates<T>(u, r, s), first, last, formula); });
    }
  });
}

}  // namespace

void update(const Exec& exec, DType t, const Update& u, std::span<const Rates> rates, std::span<const Segment> segments,
            std::byte* w, const std::byte* g, std::byte* state, int64_t stride) {
  auto run = [&]<class T>(T) {
    update_all<T>(exec, u, rates, segments,
                  {reinterpret_cast<T*>(w), reinterpret_cast<const T*>(g), reinterpret_cast<T*>(state), stride, 0});
  };
  t == DType::f32 ? run(float{}) : run(double{});
}

}  // namespace thalweg

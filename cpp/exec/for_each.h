// for_each.h: element loops. f(i) touches element i only; the loop is vectorised and cut into tasks of a fixed size.
//   for_each(exec, n, [=](int64_t i) { y.set(i, relu(x[i])); });
//   fill(exec, n, {y, far}, [=](int64_t i) { return relu(x[i]); });    y[i] = f(i); a far result goes past the caches
#pragma once
#include "exec.h"
#include "stream.h"

namespace thalweg {

inline constexpr int64_t kElementsPerTask = 16384;

// On the functions that loop: all that an element calls is inlined, as a call would leave the loop scalar. Left to
// itself the compiler stops inlining a long formula that several loops share.
#define TW_FLATTEN __attribute__((flatten))

// ns_per_element: estimated cost on one thread; about 0.3 for arithmetic, 1 to 2 for exp and its kin.
template <class F>
void for_each(const Exec& exec, int64_t n, F f, double ns_per_element = 0.3) {
  const int64_t tasks = (n + kElementsPerTask - 1) / kElementsPerTask;
  exec.parallel(tasks, double(n) * ns_per_element, [=](int64_t task, int) TW_FLATTEN {
    const int64_t begin = task * kElementsPerTask, end = std::min(n, begin + kElementsPerTask);
    const F at = f;  // a copy: through the closure the compiler would reload pointers
#pragma omp simd
    for (int64_t i = begin; i < end; i++) at(i);
  });
}

// Where a loop puts its results. `far`: larger than the caches, read much later, and none of the memory that is read.
template <class N>
struct Result {
  View<N> y;
  bool far = false;
};

namespace for_each_detail {

inline constexpr int64_t kBuffer = 1024;  // elements that wait in the L1 cache for a far store

template <class N>
void copy_planes_far(View<N> to, const RealOf<N>* from, int64_t n) {
  if constexpr (kIsDual<N>) {
    copy_far(to.v, from, n);
    copy_far(to.t, from + kBuffer, n);
  } else {
    copy_far(to.p, from, n);
  }
}

}  // namespace for_each_detail

// y[i] = f(i) for i in [begin, end), inside a task. A task with far results calls end_far() at its end.
template <class N, class F>
TW_FLATTEN void fill_range(Result<N> to, int64_t begin, int64_t end, const F& f) {
  using for_each_detail::kBuffer;
  const View<N> y = to.y;
  const F at = f;  // a copy: through a reference the compiler would reload pointers
  if (!to.far) {
#pragma omp simd
    for (int64_t i = begin; i < end; i++) y.set(i, at(i));
    return;
  }
  alignas(64) RealOf<N> memory[kPlanes<N> * kBuffer];
  const View<N> buffer = planar<N>(memory, kBuffer);
  for (int64_t i0 = begin; i0 < end; i0 += kBuffer) {
    const int64_t count = std::min(kBuffer, end - i0);
#pragma omp simd
    for (int64_t j = 0; j < count; j++) buffer.set(j, at(i0 + j));
    for_each_detail::copy_planes_far(y.at(i0), memory, count);
  }
}

// y[i] = f(i) for i < n.
template <class N, class F>
void fill(const Exec& exec, int64_t n, Result<N> to, F f, double ns_per_element = 0.3) {
  const int64_t tasks = (n + kElementsPerTask - 1) / kElementsPerTask;
  exec.parallel(tasks, double(n) * ns_per_element, [=](int64_t task, int) {
    const int64_t begin = task * kElementsPerTask;
    fill_range(to, begin, std::min(n, begin + kElementsPerTask), f);
    if (to.far) end_far();
  });
}

}  // namespace thalweg

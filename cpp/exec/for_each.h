// for_each.h: element loops. f(i) touches element i only; the loop is vectorised and cut into tasks of a fixed size.
//   for_each(exec, n, [=](int64_t i) { y.set(i, relu(x[i])); });
#pragma once
#include "exec.h"

namespace thalweg {

inline constexpr int64_t kElementsPerTask = 16384;

// ns_per_element: estimated cost on one thread; about 0.3 for arithmetic, 1 to 2 for exp and its kin.
template <class F>
void for_each(const Exec& exec, int64_t n, F f, double ns_per_element = 0.3) {
  const int64_t tasks = (n + kElementsPerTask - 1) / kElementsPerTask;
  exec.parallel(tasks, double(n) * ns_per_element, [=](int64_t task, int) {
    const int64_t begin = task * kElementsPerTask, end = std::min(n, begin + kElementsPerTask);
#pragma omp simd
    for (int64_t i = begin; i < end; i++) f(i);
  });
}

// A (rows, channels) matrix with per-channel operands: f(i, c) with i = row * channels + c.
template <class F>
void for_each_row(const Exec& exec, int64_t rows, int64_t channels, F f, double ns_per_element = 0.3) {
  if (rows == 0 || channels == 0) return;
  const int64_t rows_per_task = std::max<int64_t>(1, kElementsPerTask / channels);
  const int64_t tasks = (rows + rows_per_task - 1) / rows_per_task;
  exec.parallel(tasks, double(rows) * double(channels) * ns_per_element, [=](int64_t task, int) {
    const int64_t end = std::min(rows, (task + 1) * rows_per_task);
    for (int64_t r = task * rows_per_task; r < end; r++) {
      const int64_t base = r * channels;
#pragma omp simd
      for (int64_t c = 0; c < channels; c++) f(base + c, c);
    }
  });
}

}  // namespace thalweg

// for_each.h: element loops on the GPU; the twin of cpp/exec/for_each.h. f(i) touches element i only.
//   for_each(n, [=] __device__(int64_t i) { y.set(i, relu(x[i])); });
#pragma once
#include "device.h"

namespace thalweg {

inline constexpr int kThreadsPerBlock = 256;

template <class F>
__global__ void for_each_kernel(int64_t n, F f) {
  const int64_t i = int64_t(blockIdx.x) * kThreadsPerBlock + threadIdx.x;
  if (i < n) f(i);
}

// Starts the loop; what reads the results on the host waits (see device.h).
template <class F>
void for_each(int64_t n, const F& f) {
  if (n == 0) return;
  const int64_t blocks = (n + kThreadsPerBlock - 1) / kThreadsPerBlock;
  for_each_kernel<<<unsigned(blocks), kThreadsPerBlock>>>(n, f);
  check(cudaGetLastError(), "the start of a loop");
}

}  // namespace thalweg

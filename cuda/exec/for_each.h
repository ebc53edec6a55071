// for_each.h: element loops on the GPU; the twin of cpp/exec/for_each.h. f(i) touches element i only.
//   for_each(n, f);                                           f(i), a functor with TW_HD
//   fill(n, y, [=] __device__(int64_t i) { return relu(x[i]); });    y[i] = f(i)
#pragma once
#include "../../cpp/tensor/buffer.h"
#include "device.h"

namespace thalweg {

inline constexpr int kThreadsPerBlock = 256;

template <class F>
__global__ void for_each_kernel(int64_t n, F f) {
  const int64_t i = int64_t(blockIdx.x) * kThreadsPerBlock + threadIdx.x;
  if (i < n) f(i);
}

// Blocks of threads for n elements. Loops are started, not finished, on return: what reads the results on the host
// waits (see device.h).
inline unsigned blocks_for(int64_t n, int64_t per_block) { return unsigned((n + per_block - 1) / per_block); }

template <class F>
void for_each(int64_t n, const F& f) {
  if (n == 0) return;
  for_each_kernel<<<blocks_for(n, kThreadsPerBlock), kThreadsPerBlock>>>(n, f);
  check(cudaGetLastError(), "the start of a loop");
}

// A thread computes some elements before it stores the first, so that their loads wait together: of one load at a time
// the memory would be half idle.
inline constexpr int kPerThread = 4, kPerBlock = kPerThread * kThreadsPerBlock;

template <class N, class F>
__global__ void fill_kernel(int64_t n, View<N> y, F f) {
  const int64_t first = int64_t(blockIdx.x) * kPerBlock + threadIdx.x;
  if (int64_t(blockIdx.x + 1) * kPerBlock <= n) {
    N result[kPerThread];
#pragma unroll
    for (int k = 0; k < kPerThread; k++) result[k] = f(first + k * kThreadsPerBlock);
#pragma unroll
    for (int k = 0; k < kPerThread; k++) y.set(first + k * kThreadsPerBlock, result[k]);
  } else {
#pragma unroll 1
    for (int64_t i = first; i < n; i += kThreadsPerBlock) y.set(i, f(i));
  }
}

template <class N, class F>
void fill(int64_t n, View<N> y, const F& f) {
  if (n == 0) return;
  fill_kernel<<<blocks_for(n, kPerBlock), kThreadsPerBlock>>>(n, y, f);
  check(cudaGetLastError(), "the start of a loop");
}

}  // namespace thalweg

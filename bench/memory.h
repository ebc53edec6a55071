// memory.h: buffers for benchmarks, and the rate at which the machine copies them (streaming stores), per thread count.
#pragma once
#include <cstring>
#include <random>
#include <vector>

#include "exec/exec.h"
#include "tensor/arena.h"
#include "timing.h"

namespace thalweg::bench {

inline Arena random_floats(int64_t n, uint64_t seed = 1) {
  Arena a(n * 4);
  std::mt19937_64 bits(seed);
  float* p = reinterpret_cast<float*>(a.data());
  for (int64_t i = 0; i < n; i++) p[i] = float(int32_t(bits())) * 0x1p-31f;
  return a;
}

// Copies `bytes` with the threads of the pool; memcpy streams from a few megabytes on.
inline void copy(const Exec& exec, std::byte* to, const std::byte* from, int64_t bytes) {
  constexpr int64_t kPiece = 4 << 20;
  exec.parallel((bytes + kPiece - 1) / kPiece, 1e9, [=](int64_t t, int) {
    const int64_t at = t * kPiece;
    std::memcpy(to + at, from + at, size_t(std::min(kPiece, bytes - at)));
  });
}

}  // namespace thalweg::bench

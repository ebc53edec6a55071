#include "stored.h"

#include <cstring>

#include "pack_bf16.h"
#include "vector.h"

namespace thalweg {
namespace {

constexpr int64_t kTileRun = 32;  // elements that a register tile makes of a row: loops of that length are written out

}  // namespace

void load_stored(const Bf16* from, int64_t n, float* __restrict__ to) {
#pragma omp simd
  for (int64_t i = 0; i < n; i++) to[i] = to_float(from[i]);
}
void store_stored(const float* from, int64_t n, Bf16* to) { copy_bf16(from, n, to); }

void store_runs(const float* from, int64_t rows, int64_t n, Bf16* to, int64_t step) {
  if (rows == 1 || n != kTileRun) {
    for (int64_t r = 0; r < rows; r++) store_stored(from + r * n, n, to + r * step);
    return;
  }
  alignas(64) Bf16 dense[kStoredPart];
  copy_bf16(from, rows * n, dense);
  for (int64_t r = 0; r < rows; r++) std::memcpy(to + r * step, dense + r * kTileRun, kTileRun * sizeof(Bf16));
}

}  // namespace thalweg

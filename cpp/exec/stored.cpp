#include "stored.h"

#include "pack_bf16.h"

namespace thalweg {

void load_stored(const Bf16* from, int64_t n, float* __restrict__ to) {
#pragma omp simd
  for (int64_t i = 0; i < n; i++) to[i] = to_float(from[i]);
}
void store_stored(const float* from, int64_t n, Bf16* to) { copy_bf16(from, n, to); }
void store_runs(const float* from, int64_t rows, int64_t n, Bf16* to, int64_t step) {
  round_rows_bf16(from, rows, n, to, step);
}

}  // namespace thalweg

// onednn.h: the peer of the product benchmarks. Jobs are empty where oneDNN was not found when this was built.
#pragma once
#include "exec/conv.h"
#include "timing.h"

namespace thalweg::bench {

bool have_onednn();
// C (m, n) = A B with A (m, k), or (k, m) when transposed, likewise B. `blocked`: B in oneDNN's own layout, made once.
struct PeerMatmul {
  int64_t m, n, k;
  bool transpose_a, transpose_b, blocked;
};
Job onednn_matmul(const PeerMatmul&, int threads, const float* a, const float* b, float* c);
Job onednn_matmul_bf16(const PeerMatmul&, int threads);  // random operands and the result in bf16
enum class ConvPart { forward, backward_input, backward_weight };
// A convolution with all operands in oneDNN's own layouts, filled with random values.
Job onednn_conv(const Conv&, ConvPart, int threads, bool bf16 = false);

}  // namespace thalweg::bench

// matmul_bf16.h: matrix products whose operands are rounded to bf16 (float ones while they are packed; see
// formula/bf16.h) and whose sums are float; forms as in matmul.h.
// Bits: K in groups of kGroup, in order. The sum of a group is (even + odd): two chains of fma from +0 over its k = 0,
// 2, 4, ... and 1, 3, 5, ...; the groups are added one after the other to a sum that starts at +0. A last group of
// fewer k is filled with zeros. All this counts denormals, read or written, as zeros of their sign. It is what AMX does
// (TDPBF16PS), and other instruction sets do the same. Bias, accumulation and the folds below are plain additions.
// Weight gradients (fold): K is the batch; each shard is such a sum over its own rows (an empty shard is +0), and the
// shards fold in the tree of shards.h. Nothing depends on M, N, strides, tile, threads, ranks or instruction set. Of
// NaN it is only defined where they are.
#pragma once
#include "../formula/bf16.h"
#include "matmul.h"

namespace thalweg {

inline constexpr int64_t kGroup = 32;

// X, of operands, and Y, of the result: float and float, Bf16 and Bf16, or Bf16 and float.
template <class X, class Y>
void matmul_bf16(const Exec&, const Matmul&, const X* a, const X* b, const float* bias, Y* c,
                 const Follow& follow = {});
// B: float weights.
template <class X, class Y>
void matmul_bf16_weight(const Exec&, const Matmul&, const X* a, const float* b, const float* bias, Y* c,
                        const Follow& follow = {});
template <class X>
void matmul_fold_bf16(const Exec&, const Matmul&, const Shards&, const X* a, const X* b, float* c);

}  // namespace thalweg

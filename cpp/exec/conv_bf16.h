// conv_bf16.h: convolutions whose operands are rounded to bf16 and whose sums are float; forms as in conv.h, rounding
// and the sum over a group of kGroup K as in matmul_bf16.h.
// Bits: for every kh, the K of an output pixel are its taps and input channels in the order kw, in, cut in groups; the
// last group of every kh is filled with zeros. The K of a pixel of d_x are the taps that the stride lets reach it: kh
// falling, and for each the order kw falling, out, in groups likewise. Pixels outside the image are zeros. A weight
// gradient takes one image as a leaf (K = its output pixels in order, in groups); images fold in the tree of shards.h
// inside a shard, then the shards fold. Nothing depends on tile, threads, ranks or instruction set.
#pragma once
#include "conv.h"
#include "matmul_bf16.h"

namespace thalweg {

// X, of operands, and Y, of the result, as in matmul_bf16.h.
template <class X, class Y>
void conv_forward_bf16(const Exec&, const Conv&, const X* x, const float* weight, const float* bias, Y* y,
                       const Follow& follow = {});
template <class X, class Y>
void conv_backward_input_bf16(const Exec&, const Conv&, const X* d_y, const float* weight, Y* d_x,
                              const Follow& follow = {});
template <class X>
void conv_backward_weight_bf16(const Exec&, const Conv&, const Shards&, const X* x, const X* d_y, float* d_w);

}  // namespace thalweg

// conv_winograd.h: 3x3 convolutions of stride 1 in float32 by F(2x2, 3x3) (winograd.h): 2.25 times fewer
// multiplications. Whether a convolution is computed so depends on its channels and the size of its images alone; of a
// weight gradient, on the images of the smallest shard as well.
// Bits: V = B' d B of every square of 4 x 4 inputs (+0 outside the image), U = G g G'; each of the 16 products is a
// matmul over the input channels (blocks of kKBlock); y = A' M A, then + bias. d_x is the same from d_y with the weight
// turned. A weight gradient takes up to kWinogradLeaf squares of a shard as a leaf, a chain of fma in their order; the
// leaves of a shard fold in the tree of shards.h, G' U G of that are the shard's, and the shards fold.
#pragma once
#include "conv_taps.h"

namespace thalweg {

inline constexpr int64_t kWinogradLeaf = 128;
inline constexpr double kWinogradGain = 2.25;  // multiplications that it saves
// Whether it pays: squares are mostly full, and products large beside the transforms of channels and weights.
inline bool winograd_pays(int64_t rows, int64_t cols, int64_t in, int64_t out) {
  constexpr int64_t kLeastChannels = 16, kLeastSquares = 4;
  const int64_t squares = divide_up(rows, 2) * divide_up(cols, 2);
  return squares >= kLeastSquares && in >= kLeastChannels && out >= kLeastChannels &&
         2 * 4 * squares <= 3 * rows * cols;
}

bool conv_winograd_fits(const TapConv&);
void conv_winograd(const Exec&, const TapConv&, const float* source, const float* weight, const float* bias, float* out,
                   bool accumulate, const Follow& follow);

bool conv_winograd_weight_fits(const Conv&, const Shards&);
void conv_winograd_weight(const Exec&, const Conv&, const Shards&, const float* x, const float* d_y, float* d_w,
                          bool accumulate);

}  // namespace thalweg

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

inline int64_t winograd_squares(const Conv& v) { return divide_up(v.out_h(), 2) * divide_up(v.out_w(), 2); }
// Where it can be and pays: squares are mostly full, and products large beside the transforms of channels and weights.
inline bool conv_winograd_fits(const Conv& v) {
  constexpr int64_t kLeastChannels = 16, kLeastSquares = 4;  // of a group; of an image
  const int64_t squares = winograd_squares(v), outputs = v.out_h() * v.out_w();
  return !v.direct && v.kh == 3 && v.kw == 3 && v.stride_h == 1 && v.stride_w == 1 && v.dilation_h == 1 &&
         v.dilation_w == 1 && std::min(v.group_in(), v.group_out()) >= kLeastChannels && squares >= kLeastSquares &&
         2 * 4 * squares <= 3 * outputs;
}
inline bool conv_winograd_weight_fits(const Conv& v, const Shards& shards) {
  constexpr int64_t kLeastSquares = 12;  // of a shard, which is transformed back by itself
  return conv_winograd_fits(v) && shards.fewest * winograd_squares(v) >= kLeastSquares;
}

void conv_winograd(const Exec&, const TapConv&, const float* source, const float* weight, const float* bias, float* out,
                   bool accumulate, const Follow& follow);
void conv_winograd_weight(const Exec&, const Conv&, const Shards&, const float* x, const float* d_y, float* d_w,
                          bool accumulate);

}  // namespace thalweg

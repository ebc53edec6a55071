// init.h: standard deviations and bounds of random initial weights, from the sizes of a layer.
//   fan_in: inputs of one unit; of a convolution channels / groups * kh * kw.   fan_out: out / groups * kh * kw
//   LeCun   std = gain sqrt(1 / fan_in)                (called "Xavier" in some texts; torch's xavier is the next)
//   Glorot  std = gain sqrt(2 / (fan_in + fan_out))
//   He      std = sqrt(2 / ((1 + slope^2) fan_in))     slope of a leaky relu; 0 for relu
//   uniform on [-b, b] with b = sqrt(3) std has the same variance.
// Sources: LeCun et al. 1998; Glorot & Bengio 2010; He et al. 2015, arXiv:1502.01852.
#pragma once
#include "number.h"

namespace thalweg {

TW_HD double lecun_std(double fan_in, double gain = 1) { return gain * sqrt(1.0 / fan_in); }
TW_HD double glorot_std(double fan_in, double fan_out, double gain = 1) {
  return gain * sqrt(2.0 / (fan_in + fan_out));
}
TW_HD double he_std(double fan_in, double slope = 0) { return sqrt(2.0 / ((1.0 + slope * slope) * fan_in)); }
TW_HD double uniform_bound(double std) { return 1.7320508075688772935 * std; }

// What keeps the variance of a layer's output at that of its input; torch.nn.init.calculate_gain's values.
inline constexpr double kGainLinear = 1, kGainTanh = 5.0 / 3.0, kGainRelu = 1.4142135623730950488;
TW_HD double gain_leaky_relu(double slope) { return sqrt(2.0 / (1.0 + slope * slope)); }

TW_HD double conv_fan(double channels_per_group, double kh, double kw) { return channels_per_group * kh * kw; }

}  // namespace thalweg

// init.h: standard deviations and bounds of random initial weights, from the sizes of a layer.
//   std = sqrt(scale / fan)      fan: the inputs or outputs of one unit, or the mean of both; 1 or more
//   LeCun   scale = gain^2, fan_in      (called "Xavier" in some texts; torch's xavier is the next)
//   Glorot  scale = gain^2, (fan_in + fan_out) / 2
//   He      scale = 2, fan_in           before a relu; 2 / (1 + slope^2) before a leaky one
//   uniform on [-b, b] with b = sqrt(3) std has the same variance.
// Sources: LeCun et al. 1998; Glorot & Bengio 2010; He et al. 2015, arXiv:1502.01852.
#pragma once
#include "number.h"

namespace thalweg {

TW_HD double scaled_std(double scale, double fan) { return sqrt(scale / (fan > 1 ? fan : 1)); }
TW_HD double uniform_bound(double std) { return 1.7320508075688772935 * std; }

}  // namespace thalweg

// dropout.h: inverted dropout with a mask that is counted, not drawn: it depends on seed, step, layer, row and index
// alone.
//   y = x / (1 - p) where the element's 32 random bits reach p 2^32, else 0;  backward is the same function of d_y
// Element i of a row takes word (i / 16) mod 4 of counter 16 (i / 64) + i mod 16, so that sixteen counters side by side
// fill 64 neighbours; the mask is the same for float and double.
// Source: Srivastava et al. 2014, Dropout: a simple way to prevent neural networks from overfitting (JMLR 15).
#pragma once
#include "random.h"

namespace thalweg {

struct DropoutRates {
  uint32_t threshold;  // keep where the bits are at least this
  double scale;        // 1 / (1 - p); 0 where nothing is kept
};
TW_HD DropoutRates dropout_rates(double p) {
  return p < 1 ? DropoutRates{uint32_t(p * 0x1p32), 1.0 / (1.0 - p)} : DropoutRates{0xffffffffu, 0.0};
}

template <class N>
TW_HD N dropout(N x, uint32_t bits, uint32_t threshold, RealOf<N> scale) {
  return select(bits >= threshold, x * scale, N(0));
}

}  // namespace thalweg

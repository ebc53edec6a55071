// clip.h: gradient clipping, by the norm (of all gradients, or of one layer's) and by value.
//   scale = max_norm / norm where norm > max_norm, else 1     (max_norm = 0: off; torch divides by norm + 1e-6)
#pragma once
#include "number.h"

namespace thalweg {

template <class T>
TW_HD T clip_scale(T norm, T max_norm) {
  return select((max_norm > T(0)) & (norm > max_norm), max_norm / norm, T(1));
}
template <class N>
TW_HD N clip_value(N g, RealOf<N> limit) {
  return clamp(g, -limit, limit);
}

}  // namespace thalweg

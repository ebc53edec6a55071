// conv_forward.cpp: y from x; K of an output pixel is kh, kw, in, in this order, in blocks of kKBlock.
#include "conv.h"
#include "conv_taps.h"
#include "conv_winograd.h"

namespace thalweg {

template <class T>
void conv_forward(const Exec& exec, const Conv& v, const T* x, const T* weight, const T* bias, T* y, bool accumulate,
                  const Follow& follow) {
  const TapConv taps = forward_taps(v);
  if constexpr (sizeof(T) == 4)
    if (conv_winograd_fits(v)) return conv_winograd(exec, taps, x, weight, bias, y, accumulate, follow);
  const bool inside = conv_taps_follows<T>(taps);
  conv_taps(exec, taps, x, weight, bias, y, accumulate, inside ? follow : Follow{});
  if (follow && !inside) follow_all(exec, v.n * taps.out_image, follow);
}
template void conv_forward(const Exec&, const Conv&, const float*, const float*, const float*, float*, bool,
                           const Follow&);
template void conv_forward(const Exec&, const Conv&, const double*, const double*, const double*, double*, bool,
                           const Follow&);

}  // namespace thalweg

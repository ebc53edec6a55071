// conv_backward_input.cpp: d_x from d_y, phase by phase (conv_taps.h), in blocks of kKBlock.
#include "conv.h"
#include "conv_taps.h"

namespace thalweg {

template <class T>
void conv_backward_input(const Exec& exec, const Conv& v, const T* d_y, const T* weight, T* d_x, bool accumulate,
                         const Follow& follow) {
  bool inside = true;
  each_phase(v, [&](const TapConv& taps, int64_t) { inside &= conv_taps_follows<T>(taps); });
  each_phase(v, [&](const TapConv& taps, int64_t first) {
    conv_taps<T>(exec, taps, d_y, weight, nullptr, d_x + first, accumulate, inside ? follow.from(first) : Follow{});
  });
  if (follow && !inside) follow_all(exec, v.n * v.h * v.w * v.c, follow);
}
template void conv_backward_input(const Exec&, const Conv&, const float*, const float*, float*, bool, const Follow&);
template void conv_backward_input(const Exec&, const Conv&, const double*, const double*, double*, bool, const Follow&);

}  // namespace thalweg

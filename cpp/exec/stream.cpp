#include "stream.h"

#include "vector.h"

namespace thalweg {
template <class T>
void copy_far(T* __restrict__ to, const T* __restrict__ from, int64_t n) {
  constexpr int64_t lanes = kLanes<T>;
  const int64_t ahead = int64_t((0 - reinterpret_cast<uintptr_t>(to)) % kVectorBytes / sizeof(T));
  const int64_t head = ahead < n ? ahead : n;
  int64_t i = 0;
  for (; i < head; i++) to[i] = from[i];
  for (; i + lanes <= n; i += lanes) store_far(to + i, load(from + i));
  for (; i < n; i++) to[i] = from[i];
}

void end_far() {
#if defined(__AVX2__)
  _mm_sfence();
#endif
}

template void copy_far(float*, const float*, int64_t);
template void copy_far(double*, const double*, int64_t);

}  // namespace thalweg

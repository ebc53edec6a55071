#include "stream.h"

#include "vector.h"

namespace thalweg {
namespace {

// One vector to an address that is a multiple of kVectorBytes.
#if defined(__AVX512F__)
TW_INLINE void store_far(float* p, Vector<float> v) { _mm512_stream_ps(p, (__m512)v); }
TW_INLINE void store_far(double* p, Vector<double> v) { _mm512_stream_pd(p, (__m512d)v); }
#elif defined(__AVX2__) && defined(__FMA__)
TW_INLINE void store_far(float* p, Vector<float> v) { _mm256_stream_ps(p, (__m256)v); }
TW_INLINE void store_far(double* p, Vector<double> v) { _mm256_stream_pd(p, (__m256d)v); }
#else
template <class T>
TW_INLINE void store_far(T* p, Vector<T> v) {
  store(p, v);
}
#endif

}  // namespace

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

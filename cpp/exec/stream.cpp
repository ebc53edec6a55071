#include "stream.h"

#include <algorithm>
#include <cstring>

#include "vector.h"

namespace thalweg {

// A cache line at a time.
void copy_far(std::byte* __restrict__ to, const std::byte* __restrict__ from, int64_t bytes) {
  constexpr int64_t line = 64, vectors = line / kVectorBytes;
  const auto ahead = int64_t((0 - reinterpret_cast<uintptr_t>(to)) % line);
  int64_t i = std::min(ahead, bytes);
  if (i) std::memcpy(to, from, size_t(i));
  for (; i + line <= bytes; i += line) {
    Vector<float> v[vectors];
    TW_UNROLL
    for (int k = 0; k < vectors; k++) std::memcpy(&v[k], from + i + k * kVectorBytes, kVectorBytes);
    TW_UNROLL
    for (int k = 0; k < vectors; k++) store_far(reinterpret_cast<float*>(to + i + k * kVectorBytes), v[k]);
  }
  if (i < bytes) std::memcpy(to + i, from + i, size_t(bytes - i));
}

void end_far() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

}  // namespace thalweg

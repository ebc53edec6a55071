// flush.h: denormals as zeros, for a while.
#pragma once
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace thalweg {

// Denormals count as zeros while it lives (where the processor has such a mode).
class FlushScope {
 public:
#if defined(__x86_64__)
  FlushScope() : old_(_mm_getcsr()) { _mm_setcsr(old_ | 0x8040); }
  ~FlushScope() { _mm_setcsr(old_); }

 private:
  unsigned old_;
#endif
};

}  // namespace thalweg

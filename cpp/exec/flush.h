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
  FlushScope() : old_(_mm_getcsr()) { _mm_setcsr((old_ | kFlush) & ~kUnderflow); }
  ~FlushScope() { _mm_setcsr(old_); }
  bool flushed() const { return _mm_getcsr() & kUnderflow; }  // some result, since

 private:
  static constexpr unsigned kFlush = 0x8040, kUnderflow = 0x10;
  unsigned old_;
#endif
};

}  // namespace thalweg

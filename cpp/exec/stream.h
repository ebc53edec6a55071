// stream.h: stores that go past the caches. A result that is larger than them and read much later gains from it: its
// lines need not be read before they are overwritten. Elsewhere it loses: the reader finds nothing in cache.
#pragma once
#include <cstddef>
#include <cstdint>

namespace thalweg {

inline constexpr int64_t kFarBytes = 16 << 20;  // below, the next reader still finds much of it in cache

// Copies past the caches. Before another thread may read what was copied, the copying one calls end_far().
void copy_far(std::byte* to, const std::byte* from, int64_t bytes);
void end_far();

template <class T>
inline void copy_far(T* to, const T* from, int64_t n) {
  copy_far(reinterpret_cast<std::byte*>(to), reinterpret_cast<const std::byte*>(from), n * int64_t(sizeof(T)));
}

}  // namespace thalweg

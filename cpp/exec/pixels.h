// pixels.h: pixels of a few channels between strided and dense rows. A pixel moves as one block of a fixed size, larger
// than itself; what it writes too much is overwritten by the next one, and only the last ones of a row are cut to size.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

namespace thalweg {

inline constexpr int64_t kPixelBytes = 64;  // at most

namespace pixels_detail {

// Copies pixels 0..n-1 of `bytes` bytes; at(i) gives (from, to). Up to `room` pixels may be copied with kBlock bytes.
template <int kBlock, class At>
inline void copy_pixels(int64_t n, int64_t bytes, int64_t room, At at) {
  int64_t i = 0;
  for (; i < room; i++) {
    const auto [from, to] = at(i);
    std::memcpy(to, from, kBlock);
  }
  for (; i < n; i++) {
    const auto [from, to] = at(i);
    std::memcpy(to, from, bytes);
  }
}
template <class At>
inline void copy_pixels(int64_t n, int64_t bytes, At at) {
  auto run = [&](auto block) {
    constexpr int kBlock = decltype(block)::value;
    // Both ends are dense to at least `bytes` a pixel: a block that starts at pixel i ends before the row does.
    const int64_t room = std::max<int64_t>(0, n - (kBlock - 1) / bytes);
    copy_pixels<kBlock>(n, bytes, room, at);
  };
  if (bytes <= 16) run(std::integral_constant<int, 16>());
  else if (bytes <= 32) run(std::integral_constant<int, 32>());
  else run(std::integral_constant<int, 64>());
}

}  // namespace pixels_detail

// to[q c + i] = from[q step + i] for n pixels of c <= kPixelBytes / sizeof(T) channels, step >= c.
template <class T>
inline void split_pixels(const T* from, int64_t step, int64_t n, int64_t c, T* to) {
  pixels_detail::copy_pixels(n, c * int64_t(sizeof(T)),
                             [=](int64_t q) { return std::pair(from + q * step, to + q * c); });
}
// to[(q parts + v) c + i] = from[v part + q c + i] for n pixels of each of the parts.
template <class T>
inline void merge_pixels(const T* from, int64_t part, int64_t parts, int64_t n, int64_t c, T* to) {
  int64_t q = 0, v = -1;
  pixels_detail::copy_pixels(n * parts, c * int64_t(sizeof(T)), [=](int64_t i) mutable {
    if (++v == parts) v = 0, q++;
    return std::pair(from + v * part + q * c, to + i * c);
  });
}

}  // namespace thalweg

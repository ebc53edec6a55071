// random.h: random numbers by counting: Philox4x32-10 turns a key and a counter into four 32-bit words, so that a
// number depends on its place alone, never on threads, ranks or the order of calls. Source: Salmon, Moraes, Dror & Shaw
// 2011, Parallel random numbers: as easy as 1, 2, 3 (SC11).
#pragma once
#include <string_view>

#include "math.h"

namespace thalweg {

struct PhiloxKey {
  uint32_t k0 = 0, k1 = 0;
};
struct Random4 {
  uint32_t a, b, c, d;
};

TW_HD Random4 philox(PhiloxKey key, Random4 x) {
#pragma GCC unroll 10
  for (int round = 0; round < 10; round++) {
    const uint64_t p = uint64_t(0xD2511F53u) * x.a, q = uint64_t(0xCD9E8D57u) * x.c;
    x = {uint32_t(q >> 32) ^ x.b ^ key.k0, uint32_t(q), uint32_t(p >> 32) ^ x.d ^ key.k1, uint32_t(p)};
    key = {key.k0 + 0x9E3779B9u, key.k1 + 0xBB67AE85u};
  }
  return x;
}
// A position of two 64-bit numbers: (row, index in the row), or (step, element).
TW_HD Random4 philox(PhiloxKey key, uint64_t low, uint64_t high) {
  return philox(key, Random4{uint32_t(low), uint32_t(low >> 32), uint32_t(high), uint32_t(high >> 32)});
}

// A 64-bit mixer (the finaliser of splitmix64); every bit of the result depends on every bit of x.
TW_HD constexpr uint64_t mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}
// The stream of a name (a layer's path, a parameter, an epoch): FNV-1a, the same on every platform.
inline constexpr uint64_t stream_key(std::string_view name) {
  uint64_t h = 1469598103934665603u;
  for (char c : name) h = (h ^ static_cast<unsigned char>(c)) * 1099511628211u;
  return h;
}
// The key of one use of random numbers (a layer, a parameter, a shuffle) under a seed.
TW_HD constexpr PhiloxKey random_key(uint64_t seed, uint64_t stream) {
  const uint64_t h = mix(mix(seed + 0x9E3779B97F4A7C15u) ^ (stream * 0xD1342543DE82EF95u + 0x9E3779B97F4A7C15u));
  return {uint32_t(h), uint32_t(h >> 32)};
}
TW_HD constexpr PhiloxKey random_key(uint64_t seed, uint64_t stream, uint64_t step) {
  const PhiloxKey k = random_key(seed, stream);
  return random_key(uint64_t(k.k1) << 32 | k.k0, step);
}

// In [0, 1), a multiple of 2^-24 or 2^-52.
TW_HD float uniform_float(uint32_t bits) { return float(int32_t(bits >> 8)) * 0x1p-24f; }
TW_HD double uniform_double(uint32_t high, uint32_t low) {
  const uint64_t bits = (uint64_t(high) << 32 | low) >> 12;  // 52 bits, set as the mantissa of a number in [1, 2)
  return from_bits(uint64_t(bits | (uint64_t(1023) << 52))) - 1.0;
}
template <class T>
TW_HD T uniform(Random4 x) {
  if constexpr (sizeof(T) == 4) return uniform_float(x.a);
  else return uniform_double(x.a, x.b);
}

// Standard normal: sqrt(-2 log(1 - u)) cos(2 pi v), u from the words a, b and v from c, d. In double for both types, so
// that the tail reaches 8.5.
TW_HD double normal(Random4 x) {
  const double u = uniform_double(x.a, x.b), v = uniform_double(x.c, x.d);
  return sqrt(-2.0 * log1p(-u)) * cos(6.283185307179586477 * v);
}

}  // namespace thalweg

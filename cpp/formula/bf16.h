// bf16.h: the upper half of a float: 8 bits of exponent, 7 of mantissa. A way to store numbers and the operands of
// products; formulas compute in float.
//   to_bf16: to nearest, ties to even; a denormal becomes a zero of its sign and NaN a quiet NaN, as in the processors'
//   own conversion (VCVTNEPS2BF16).
#pragma once
#include "bits.h"

namespace thalweg {

struct Bf16 {
  uint16_t bits;
};

TW_HD float to_float(Bf16 x) { return from_bits(uint32_t(x.bits) << 16); }
TW_HD Bf16 to_bf16(float x) {
  constexpr uint32_t kExponent = 0x7f800000u, kSign = 0x80000000u;
  const uint32_t bits = to_bits(x), size = bits & ~kSign;
  const uint32_t rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16, quiet = (bits | 0x400000u) >> 16;
  return {uint16_t(size > kExponent ? quiet : size < 0x00800000u ? (bits & kSign) >> 16 : rounded)};
}

}  // namespace thalweg

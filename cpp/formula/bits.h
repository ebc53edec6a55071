// bits.h: what the elementary functions are made of: exponent bits, rounding to an integer, exact sums, polynomials.
// Everything is straight-line code on T = float or double and the unsigned integer of its size, so that loops over it
// become vector code on every instruction set, with the same bits: no tables, no branches, fma only where written.
#pragma once
#include "number.h"

namespace thalweg {

template <class T>
struct Format;
template <>
struct Format<float> {
  using Bits = uint32_t;
  static constexpr int kMantissa = 23;
  static constexpr Bits kBias = 127;
  static constexpr float kMagic = 0x1.8p23f;  // x + kMagic rounds x to an integer, which stands in the low bits
  static constexpr float kMinNormal = 0x1p-126f;
  static constexpr float kIntegral = 0x1p23f;  // from here on every number is an integer
  static constexpr float kInf = __builtin_huge_valf();
};
template <>
struct Format<double> {
  using Bits = uint64_t;
  static constexpr int kMantissa = 52;
  static constexpr Bits kBias = 1023;
  static constexpr double kMagic = 0x1.8p52;
  static constexpr double kMinNormal = 0x1p-1022;
  static constexpr double kIntegral = 0x1p52;
  static constexpr double kInf = __builtin_huge_val();
};
template <class T>
using BitsOf = typename Format<T>::Bits;

template <class T>
TW_HD constexpr BitsOf<T> to_bits(T x) {
  return __builtin_bit_cast(BitsOf<T>, x);
}
TW_HD constexpr float from_bits(uint32_t b) { return __builtin_bit_cast(float, b); }
TW_HD constexpr double from_bits(uint64_t b) { return __builtin_bit_cast(double, b); }

TW_HD float copy_sign(float x, float sign) { return __builtin_copysignf(x, sign); }
TW_HD double copy_sign(double x, double sign) { return __builtin_copysign(x, sign); }
template <class T>
TW_HD T not_a_number() {
  return T(__builtin_nanf(""));
}

// The integer nearest to x (ties to even), as a number and modulo 2^bits; |x| < 2^22 or 2^51.
template <class T>
struct Integer {
  T value;
  BitsOf<T> bits;
};
template <class T>
TW_HD Integer<T> round_to_integer(T x) {
  constexpr T magic = Format<T>::kMagic;
  const T shifted = x + magic;
  return {shifted - magic, BitsOf<T>(to_bits(shifted) - to_bits(magic))};
}
// The number of an integer given modulo 2^bits; conversion instructions for 64 bits are missing in AVX2.
template <class T>
TW_HD T number_of(BitsOf<T> n) {
  constexpr T magic = Format<T>::kMagic;
  return from_bits(BitsOf<T>(to_bits(magic) + n)) - magic;
}

// The integer nearest to x factor, |x factor| < 2^22 or 2^51, and in the low bits of `bits` that integer plus `added`:
// what lies above them is to be shifted out.
template <int added, class T>
TW_HD Integer<T> round_product(T x, T factor) {
  constexpr T magic = Format<T>::kMagic + T(added);
  const T shifted = fma(x, factor, magic);
  return {shifted - magic, to_bits(shifted)};
}

// 2^n of normal numbers, given n + kBias in the low bits.
template <class T>
TW_HD T power_of_two(BitsOf<T> biased) {
  return from_bits(BitsOf<T>(biased << Format<T>::kMantissa));
}
// x 2^n for |n| < 2 kBias, given n + 2 kBias in the low bits; in two factors, so that large results overflow and small
// ones become denormal in one rounding.
template <class T>
TW_HD T scale(T x, BitsOf<T> twice_biased) {
  const BitsOf<T> first = twice_biased >> 1, second = twice_biased - first;
  return x * power_of_two<T>(first) * power_of_two<T>(second);
}

// An unevaluated sum hi + lo.
template <class T>
struct Pair {
  T hi, lo;
};
// a + b exactly; |a| >= |b| or a = 0.
template <class T>
TW_HD Pair<T> fast_two_sum(T a, T b) {
  const T s = a + b;
  return {s, (a - s) + b};
}
template <class T>
TW_HD Pair<T> two_sum(T a, T b) {
  const T s = a + b, c = s - a;
  return {s, (a - (s - c)) + (b - c)};
}
template <class T>
TW_HD Pair<T> two_product(T a, T b) {
  const T p = a * b;
  return {p, fma(a, b, -p)};
}
// (a.hi + a.lo) (b.hi + b.lo), without the last term.
template <class T>
TW_HD Pair<T> product(Pair<T> a, Pair<T> b) {
  const Pair<T> p = two_product(a.hi, b.hi);
  return {p.hi, fma(a.hi, b.lo, fma(a.lo, b.hi, p.lo))};
}

// c0 + c1 x + c2 x^2 + ... by Horner's rule.
template <class T>
TW_HD T horner(T, T c0) {
  return c0;
}
template <class T, class... C>
TW_HD T horner(T x, T c0, C... c) {
  return fma(horner(x, c...), x, c0);
}

// The same with x2 = x^2, in pairs: half as many steps wait for each other.
template <class T>
TW_HD T by_pairs(T, T, T c0) {
  return c0;
}
template <class T>
TW_HD T by_pairs(T x, T, T c0, T c1) {
  return fma(x, c1, c0);
}
template <class T, class... C>
TW_HD T by_pairs(T x, T x2, T c0, T c1, C... c) {
  return fma(x2, by_pairs(x, x2, c...), fma(x, c1, c0));
}

// A limit for at_most and at_least: static members of which the compiler may not use the value. What follows a
// comparison with a number that it knows it computes for that number too, and blends by a mask; making one costs as
// much as a multiplication, where a minps runs beside them. Kept as bits, which stores of numbers can't change.
#if defined(__CUDACC__)
#define TW_LIMIT(T) static constexpr T
#else
#define TW_LIMIT(T) static inline constinit Limit<T>
#endif
template <class T>
struct Limit {
  BitsOf<T> bits;
  constexpr Limit(T value) : bits(to_bits(value)) {}
  TW_HD operator T() const { return from_bits(bits); }
};
// min(x, limit), max(x, limit). NaN in x stays NaN.
template <class T>
TW_HD T at_most(T x, std::type_identity_t<T> limit) {
  return limit < x ? limit : x;
}
template <class T>
TW_HD T at_least(T x, std::type_identity_t<T> limit) {
  return limit > x ? limit : x;
}
// Between both, for real numbers: two instructions. clamp() of number.h is for duals too and compares.
template <class T>
TW_HD T within(T x, std::type_identity_t<T> low, std::type_identity_t<T> high) {
  return at_most(at_least(x, low), high);
}

}  // namespace thalweg

// log.h: log, log1p.
//   x = 2^k (1 + f), sqrt(1/2) <= 1 + f < sqrt 2;  s = f / (2 + f);  log(1 + f) = f - f^2/2 + s (f^2/2 + s^2 L(s^2)),
// L a minimax polynomial; f - f^2/2 and k ln 2 are summed with their rounding errors.
// Bounds (measured): 0.65 ulp. log(0) = -inf, log of a negative number NaN; denormal numbers are exact.
#pragma once
#include "exp.h"

namespace thalweg {

template <class T>
struct LogConstants;
template <>
struct LogConstants<float> {
  static constexpr uint32_t kSqrtHalf = 0x3f3504f3;
  static constexpr float kLift = 0x1p25f, kTiny = 0x1p-30f;
  static constexpr uint32_t kLifted = 25;
  static TW_HD float l(float z) { return horner(z, 0x1.555554p-1f, 0x1.999a7ap-2f, 0x1.2438c0p-2f, 0x1.e2fa1ap-3f); }
  static TW_HD float wide(float z, float z2) {
    return by_pairs(z, z2, 0x1.555558p-1f, 0x1.9996b0p-2f, 0x1.2508b0p-2f, 0x1.b6e6cep-3f, 0x1.f1733ep-3f);
  }
};
template <>
struct LogConstants<double> {
  static constexpr uint64_t kSqrtHalf = 0x3fe6a09e667f3bcd;
  static constexpr double kLift = 0x1p54, kTiny = 0x1p-60;
  static constexpr uint64_t kLifted = 54;
  static TW_HD double l(double z) {
    return horner(z, 0x1.5555555555593p-1, 0x1.999999997fc76p-2, 0x1.2492494204543p-2, 0x1.c71c51f8b29adp-3,
                  0x1.746642896e1bdp-3, 0x1.39a157e97326ep-3, 0x1.2f097914cf9e7p-3);
  }
  static TW_HD double wide(double z, double z2) {
    return by_pairs(z, z2, 0x1.5555555555555p-1, 0x1.9999999999944p-2, 0x1.2492492499d46p-2, 0x1.c71c71bedea97p-3,
                    0x1.745d19937b1fcp-3, 0x1.3b13515f6f9efp-3, 0x1.111abdc8abe16p-3, 0x1.e0a2d581ab68fp-4,
                    0x1.bc37f0140c19ep-4, 0x1.32e0d25c9c761p-4, 0x1.401d3e65cdc48p-3);
  }
};

// x = 2^k m, sqrt(1/2) <= m < sqrt 2; denormal x included.
template <class T>
struct Split {
  T k, m;
  BitsOf<T> k_bits;
};
template <class T>
TW_HD Split<T> split_power(T x) {
  using B = BitsOf<T>;
  using C = LogConstants<T>;
  constexpr int mantissa = Format<T>::kMantissa;
  constexpr B one = Format<T>::kBias << mantissa;
  const bool denormal = x < Format<T>::kMinNormal;
  const B shifted = to_bits(select(denormal, x * C::kLift, x)) + (one - C::kSqrtHalf);
  const B k = (shifted >> mantissa) - Format<T>::kBias - (denormal ? C::kLifted : B(0));
  return {number_of<T>(k), from_bits(B((shifted & ((B(1) << mantissa) - 1)) + C::kSqrtHalf)), k};
}

// k ln 2 + log(1 + f + f_lo), |f_lo| <= ulp(f) / 2.
template <class T>
TW_HD T log_sum(T k, T f, T f_lo) {
  const T s = f / (T(2) + f), z = s * s;
  const T half = T(0.5) * f * f, half_lo = fma(T(0.5) * f, f, -half);
  const Pair<T> a = fast_two_sum(f, -half);
  const Pair<T> b = fast_two_sum(k * ExpConstants<T>::kLn2Hi, a.hi);
  const T slope = fma(T(2) * s, s - T(1), T(1));  // 1 / (1 + f) nearly
  const T rest = fma(s, fma(z, LogConstants<T>::l(z), half), fma(f_lo, slope, a.lo - half_lo));
  return b.hi + (b.lo + fma(k, ExpConstants<T>::kLn2Lo, rest));
}
// The values at and beyond the ends: -inf at 0, NaN below, inf at inf.
template <class T>
TW_HD T log_ends(T x, T y) {
  const T end = select(x == T(0), -Format<T>::kInf, select(x > T(0), x, not_a_number<T>()));
  return select((x > T(0)) & (x < Format<T>::kInf), y, end);
}
template <class T>
TW_HD T log_real(T x) {
  const Split<T> p = split_power(x);
  return log_ends(x, log_sum(p.k, p.m - T(1), T(0)));
}
TW_HD float log(float x) { return log_real(x); }
TW_HD double log(double x) { return log_real(x); }
template <class T>
TW_HD Dual<T> log(Dual<T> x) {
  return {log(x.v), x.t / x.v};
}

// log(1 + x), 0 <= x <= 1, in fewer steps: 2 s + s z W(z), s = x / (2 + x), z = s^2. Bound (measured): 2 ulp.
template <class T>
TW_HD T log1p_to_1(T x) {
  const T s = x / (T(2) + x), z = s * s;
  return fma(s * z, LogConstants<T>::wide(z, z * z), s + s);
}

// 1 + x = u + c exactly; the scaled c joins f.
template <class T>
TW_HD T log1p_real(T x) {
  const Pair<T> u = two_sum(T(1), x);
  const Split<T> p = split_power(u.hi);
  constexpr BitsOf<T> most = Format<T>::kBias - 1;  // 2^-k stays normal; there u.lo no longer counts
  const T inverse = power_of_two<T>(Format<T>::kBias - select(p.k < T(most), p.k_bits, most));
  const Pair<T> f = fast_two_sum(p.m - T(1), u.lo * inverse);
  const T y = log_ends(u.hi, log_sum(p.k, f.hi, f.lo));
  return select(abs(x) < LogConstants<T>::kTiny, x, y);
}
TW_HD float log1p(float x) { return log1p_real(x); }
TW_HD double log1p(double x) { return log1p_real(x); }
template <class T>
TW_HD Dual<T> log1p(Dual<T> x) {
  return {log1p(x.v), x.t / (T(1) + x.v)};
}

}  // namespace thalweg

// exp.h: exp, expm1, tanh.
//   x = k ln 2 + r + lo, |r| <= ln 2 / 2;  e^x = 2^k (1 + r + t),  t = r^2/2 (1 + r c(r)) + lo;  c is minimax.
// Bounds (measured): exp 0.65 ulp (denormal results 1 ulp), expm1 0.95 ulp, tanh 0.8 ulp.
#pragma once
#include "bits.h"

namespace thalweg {

template <class T>
struct ExpConstants;
template <>
struct ExpConstants<float> {
  static constexpr float kLog2E = 0x1.715476p+0f, kLn2Hi = 0x1.62e4p-1f, kLn2Lo = 0x1.7f7d1cp-20f;
  static constexpr float kOverflow = 89.0f, kUnderflow = -104.0f;  // beyond: inf and 0
  static constexpr float kMinusOne = -18.0f;                       // expm1 is -1 below
  static constexpr float kTiny = 0x1p-30f;                         // expm1(x) = x below
  static constexpr float kTanhOne = 10.0f;                         // tanh is 1 above
  static TW_HD float c(float r) {
    return horner(r, 0x1.555556p-2f, 0x1.555480p-4f, 0x1.11107cp-6f, 0x1.6d9684p-9f, 0x1.a1b7fep-12f);
  }
};
template <>
struct ExpConstants<double> {
  static constexpr double kLog2E = 0x1.71547652b82fep+0, kLn2Hi = 0x1.62e42fefa38p-1, kLn2Lo = 0x1.ef35793c7673p-45;
  static constexpr double kOverflow = 710.0, kUnderflow = -746.0;
  static constexpr double kMinusOne = -38.0, kTiny = 0x1p-60, kTanhOne = 20.0;
  static TW_HD double c(double r) {
    return horner(r, 0x1.555555555555cp-2, 0x1.555555555555ep-4, 0x1.111111110ebb3p-6, 0x1.6c16c16c13572p-9,
                  0x1.a01a01b3bb285p-12, 0x1.a01a01b45a495p-15, 0x1.71ddef93bc417p-18, 0x1.27e4bf29616b5p-21,
                  0x1.af6cccf380e0fp-25, 0x1.1f9df76be2ebep-28);
  }
};

template <class T>
struct ExpParts {
  T r, t;  // e^x = 2^k (1 + r + t)
  BitsOf<T> k;
};
template <class T>
TW_HD ExpParts<T> exp_parts(T x, T x_lo) {
  using C = ExpConstants<T>;
  const Integer<T> k = round_to_integer(x * C::kLog2E);
  const T exact = fma(-k.value, C::kLn2Hi, x);
  const Pair<T> r = fast_two_sum(exact, fma(-k.value, C::kLn2Lo, x_lo));
  const T half_r = T(0.5) * r.hi, half = half_r * r.hi;
  const T lo = fma(half_r, r.hi, -half) + r.lo;
  return {r.hi, half + fma(half * r.hi, C::c(r.hi), lo), k.bits};
}

// e^(x + x_lo), where x_lo is a small correction; the door of pow.
template <class T>
TW_HD T exp_sum(T x, T x_lo) {
  const ExpParts<T> e = exp_parts(clamp(x, ExpConstants<T>::kUnderflow, ExpConstants<T>::kOverflow), x_lo);
  const Pair<T> one = fast_two_sum(T(1), e.r);
  return scale(one.hi + (one.lo + e.t), e.k);
}
TW_HD float exp(float x) { return exp_sum(x, 0.0f); }
TW_HD double exp(double x) { return exp_sum(x, 0.0); }
template <class T>
TW_HD Dual<T> exp(Dual<T> x) {
  const T y = exp(x.v);
  return {y, y * x.t};
}

// (e^x - 1) / 2, halved so that it does not overflow before e^x does.
template <class T>
TW_HD Pair<T> half_expm1(T x) {
  using C = ExpConstants<T>;
  const ExpParts<T> e = exp_parts(clamp(x, C::kMinusOne, C::kOverflow), T(0));
  const T s = power_of_two<T>(e.k - 1);
  const Pair<T> grown = fast_two_sum(s, s * e.r), difference = two_sum(grown.hi, T(-0.5));
  return fast_two_sum(difference.hi, fma(s, e.t, grown.lo + difference.lo));
}
template <class T>
TW_HD T expm1_real(T x) {
  const T y = T(2) * half_expm1(x).hi;
  return select(abs(x) < ExpConstants<T>::kTiny, x, y);
}
TW_HD float expm1(float x) { return expm1_real(x); }
TW_HD double expm1(double x) { return expm1_real(x); }
template <class T>
TW_HD Dual<T> expm1(Dual<T> x) {
  return {expm1(x.v), exp(x.v) * x.t};
}

// tanh x = h / (1 + h), h = (e^2x - 1) / 2, the quotient corrected by its remainder.
template <class T>
TW_HD T tanh_real(T x) {
  using C = ExpConstants<T>;
  const T a = abs(x);
  const Pair<T> h = half_expm1(T(2) * select(a > C::kTanhOne, C::kTanhOne, a)), d = two_sum(T(1), h.hi);
  const T inverse = T(1) / d.hi, y = h.hi * inverse;
  const T rest = fma(-y, d.hi, h.hi) + fma(-y, d.lo + h.lo, h.lo);
  return copy_sign(fma(rest, inverse, y), x);
}
TW_HD float tanh(float x) { return tanh_real(x); }
TW_HD double tanh(double x) { return tanh_real(x); }
template <class T>
TW_HD Dual<T> tanh(Dual<T> x) {
  const T y = tanh(x.v);
  return {y, fma(-y, y, T(1)) * x.t};
}

}  // namespace thalweg

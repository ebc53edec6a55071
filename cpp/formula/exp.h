// exp.h: exp, expm1, tanh.
//   x = k ln 2 + r, |r| <= ln 2 / 2;  e^x = 2^k (1 + p),  p = e^r - 1 = r + r^2 q(r);  q is minimax.
// Bounds (measured, float over all numbers): exp 0.9 ulp (denormal results 1 ulp), expm1 1.15 ulp, tanh 2.05 ulp.
#pragma once
#include "bits.h"

namespace thalweg {

template <class T>
struct ExpConstants;
template <>
struct ExpConstants<float> {
  static constexpr float kLog2E = 0x1.715476p+0f, kLn2Hi = 0x1.62e4p-1f, kLn2Lo = 0x1.7f7d1cp-20f;
  static constexpr float kTiny = 0x1p-30f;                      // expm1(x) = x below
  TW_LIMIT(float) kOverflow = 89.0f, kUnderflow = -104.0f;      // e^x is inf and 0 there
  TW_LIMIT(float) kMinusOne = -18.0f;                           // expm1 is -1 there
  TW_LIMIT(float) kTanhOne = 10.0f;                             // tanh is 1 there
  static constexpr float kLn2 = 0x1.62e430p-1f;                 // 1.9e-9 above ln 2
  TW_LIMIT(float) kBesideOne = -60.0f, kInfinite = 128 * kLn2;  // 1 + e^x is 1 and inf there
  static TW_HD float q(float r, float r2) {
    return by_pairs(r, r2, 0.5f, 0x1.5554a4p-3f, 0x1.555688p-5f, 0x1.122faep-7f, 0x1.6b6e26p-10f);
  }
};
template <>
struct ExpConstants<double> {
  static constexpr double kLog2E = 0x1.71547652b82fep+0, kLn2Hi = 0x1.62e42fefa38p-1, kLn2Lo = 0x1.ef35793c7673p-45;
  static constexpr double kTiny = 0x1p-60;
  TW_LIMIT(double) kOverflow = 710.0, kUnderflow = -746.0;
  TW_LIMIT(double) kMinusOne = -38.0, kTanhOne = 20.0;
  TW_LIMIT(double) kBesideOne = -60.0, kInfinite = 710.0;
  static TW_HD double q(double r, double r2) {
    return by_pairs(r, r2, 0.5, 0x1.555555555555cp-3, 0x1.555555555555ep-5, 0x1.111111110ebb3p-7, 0x1.6c16c16c13572p-10,
                    0x1.a01a01b3bb285p-13, 0x1.a01a01b45a495p-16, 0x1.71ddef93bc417p-19, 0x1.27e4bf29616b5p-22,
                    0x1.af6cccf380e0fp-26, 0x1.1f9df76be2ebep-29);
  }
};

// x = k ln 2 + r, r = hi + lo with hi exact; the low bits of k hold k + added, as power_of_two and scale take it.
template <class T>
struct ExpParts {
  T hi, lo;
  BitsOf<T> k;
};
template <class T>
TW_HD ExpParts<T> exp_parts(T x, T x_lo, Integer<T> k) {
  return {fma(-k.value, ExpConstants<T>::kLn2Hi, x), fma(-k.value, ExpConstants<T>::kLn2Lo, x_lo), k.bits};
}
template <int added, class T>
TW_HD ExpParts<T> exp_parts(T x, T x_lo = T(0)) {
  return exp_parts(x, x_lo, round_product<added>(x, ExpConstants<T>::kLog2E));
}
// e^r - 1. The rounding of r itself never enters.
template <class T>
TW_HD T near_0(ExpParts<T> e) {
  const T r = e.hi + e.lo, r2 = r * r;
  return e.hi + fma(r2, ExpConstants<T>::q(r, r2), e.lo);
}

// e^(x + x_lo), where x_lo is a small correction, as pow has it.
template <class T>
TW_HD T exp_sum(T x, T x_lo) {
  using C = ExpConstants<T>;
  const auto e = exp_parts<2 * int(Format<T>::kBias)>(within(x, C::kUnderflow, C::kOverflow), x_lo);
  return scale(T(1) + near_0(e), e.k);
}
// e^x in fewer steps where it is far from the ends, |x| <= 88 in float, 708 in double; in double inf from 709.44 to
// 710; anything beyond.
template <class T>
TW_HD T exp_inside(T x) {
  const auto e = exp_parts<int(Format<T>::kBias)>(x);
  return (T(1) + near_0(e)) * power_of_two<T>(e.k);
}
// 1 + e^x in still fewer steps. In float e^r itself is minimax, to 9.2e-8, and ln 2 is one number, which makes e^x too
// small by 2.7e-9 x of itself. inf where k rounds to 128 (1024 in double), half an ln 2 before kInfinite.
TW_HD float one_plus_exp(float x) {
  using C = ExpConstants<float>;
  const float t = within(x, C::kBesideOne, C::kInfinite);
  const auto k = round_product<int(Format<float>::kBias)>(t, C::kLog2E);
  const float r = fma(-k.value, C::kLn2, t);
  const float p = horner(r, 1.0f, 0x1.fffff6p-1f, 0x1.fffdc4p-2f, 0x1.555a7ep-3f, 0x1.573ad8p-5f, 0x1.0fa15cp-7f);
  return fma(p, power_of_two<float>(k.bits), 1.0f);
}
TW_HD double one_plus_exp(double x) {
  using C = ExpConstants<double>;
  return 1.0 + exp_inside(within(x, C::kBesideOne, C::kInfinite));
}
TW_HD float exp(float x) { return exp_sum(x, 0.0f); }
TW_HD double exp(double x) { return exp_sum(x, 0.0); }
template <class T>
TW_HD Dual<T> exp(Dual<T> x) {
  const T y = exp(x.v);
  return {y, y * x.t};
}

// With s = 2^k / 2, so that it does not overflow before e^x does: (e^x - 1) / 2 = (s - 1/2) + s hi + s (p - hi); the
// first two sums are kept with their rounding errors, because for k = 1 they cancel.
template <class T>
TW_HD T expm1_real(T x) {
  using C = ExpConstants<T>;
  const auto e = exp_parts<int(Format<T>::kBias) - 1>(within(x, C::kMinusOne, C::kOverflow));
  const T s = power_of_two<T>(e.k), r = e.hi + e.lo, r2 = r * r;
  const Pair<T> first = fast_two_sum(s, T(-0.5)), sum = fast_two_sum(first.hi, s * e.hi);
  const T half = sum.hi + fma(s, fma(r2, C::q(r, r2), e.lo), sum.lo + first.lo), y = half + half;
  return select(abs(x) < C::kTiny, x, y);
}
TW_HD float expm1(float x) { return expm1_real(x); }
TW_HD double expm1(double x) { return expm1_real(x); }
template <class T>
TW_HD Dual<T> expm1(Dual<T> x) {
  return {expm1(x.v), exp(x.v) * x.t};
}

// tanh |x| = -m / (2 + m), m = e^(-2|x|) - 1 = 2^k p + (2^k - 1), which does not cancel because -2|x| is not positive.
template <class T>
TW_HD T tanh_real(T x) {
  const T a = at_most(abs(x), ExpConstants<T>::kTanhOne);
  const auto e = exp_parts<int(Format<T>::kBias)>(-(a + a));
  const T s = power_of_two<T>(e.k), p = near_0(e);
  const T y = -fma(s, p, s - T(1)) / fma(s, p, s + T(1));
  return copy_sign(y, x);
}
TW_HD float tanh(float x) { return tanh_real(x); }
TW_HD double tanh(double x) { return tanh_real(x); }
template <class T>
TW_HD Dual<T> tanh(Dual<T> x) {
  const T y = tanh(x.v);
  return {y, fma(-y, y, T(1)) * x.t};
}

}  // namespace thalweg

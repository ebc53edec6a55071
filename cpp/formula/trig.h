// trig.h: sin, cos, sincos.
//   x = n pi/2 + r + lo, |r| <= pi/4, with pi/2 in three parts; two minimax polynomials; n mod 4 chooses and signs
//   them.
// The reduction is exact to the last bit for |x| <= 1e5 (float) and 1e9 (double); measured bound 0.8 ulp there.
// Beyond, the argument's error grows with x / 2^72 (float) and x / 2^159 (double) until n no longer fits (about 1e6 and
// 1e13); from there on the result is the sine and cosine of an arbitrary angle in [-pi/4, pi/4]: finite and
// sin^2 + cos^2 = 1, but without meaning. Infinities give NaN.
#pragma once
#include "bits.h"

namespace thalweg {

template <class T>
struct TrigConstants;
template <>
struct TrigConstants<float> {
  static constexpr float kTwoOverPi = 0x1.45f306p-1f;
  static constexpr float kPart1 = 0x1.921fb6p+0f, kPart2 = -0x1.777a5cp-25f, kPart3 = -0x1.ee59dap-50f;
  static constexpr float kMaxAngle = 0.81f, kTiny = 0x1p-30f;
  static TW_HD float s(float z) {
    return horner(z, -0x1.555556p-3f, 0x1.111106p-7f, -0x1.a00e52p-13f, 0x1.6c8ab6p-19f);
  }
  static TW_HD float c(float z) {
    return horner(z, 0x1.555556p-5f, -0x1.6c16b6p-10f, 0x1.a01004p-16f, -0x1.23f134p-22f);
  }
};
template <>
struct TrigConstants<double> {
  static constexpr double kTwoOverPi = 0x1.45f306dc9c883p-1;
  static constexpr double kPart1 = 0x1.921fb54442d18p+0, kPart2 = 0x1.1a62633145c07p-54,
                          kPart3 = -0x1.f1976b7ed8fbcp-110;
  static constexpr double kMaxAngle = 0.81, kTiny = 0x1p-60;
  static TW_HD double s(double z) {
    return horner(z, -0x1.5555555555544p-3, 0x1.111111110f012p-7, -0x1.a01a019affdaap-13, 0x1.71de348788904p-19,
                  -0x1.ae5da8c72bc7cp-26, 0x1.5d5bdb6ff7ebbp-33);
  }
  static TW_HD double c(double z) {
    return horner(z, 0x1.5555555555548p-5, -0x1.6c16c16c14865p-10, 0x1.a01a019bca6f6p-16, -0x1.27e4f760b6f7bp-22,
                  0x1.1ee977dd7b02ap-29, -0x1.8f722e47fb9b1p-37);
  }
};

template <class T>
struct Angle {
  T r, lo;
  BitsOf<T> n;
};
template <class T>
TW_HD Angle<T> reduce_angle(T x) {
  using C = TrigConstants<T>;
  const Integer<T> n = round_to_integer(x * C::kTwoOverPi);
  const T exact = fma(-n.value, C::kPart1, x);
  const Pair<T> second = two_product(-n.value, C::kPart2), r = two_sum(exact, second.hi);
  const Pair<T> sum = fast_two_sum(r.hi, fma(-n.value, C::kPart3, r.lo + second.lo));
  return {clamp(sum.hi, -C::kMaxAngle, C::kMaxAngle), select(abs(sum.hi) < C::kMaxAngle, sum.lo, T(0)), n.bits};
}

template <class T>
struct SinCos {
  T sin, cos;
};
template <class T>
TW_HD SinCos<T> sincos_real(T x) {
  using B = BitsOf<T>;
  constexpr int sign = 8 * int(sizeof(T)) - 1;
  const Angle<T> a = reduce_angle(x);
  const T z = a.r * a.r, half = T(0.5) * z, lo = fma(-half, a.lo, a.lo);
  const T s = a.r + fma(z * a.r, TrigConstants<T>::s(z), lo);
  const Pair<T> one = fast_two_sum(T(1), -half);
  const T z_lo = T(0.5) * fma(a.r, a.r, -z);
  const T c = one.hi + (one.lo + fma(z * z, TrigConstants<T>::c(z), -fma(a.r, a.lo, z_lo)));
  const bool odd = (a.n & 1) != 0;
  const T sine = from_bits(B(to_bits(select(odd, c, s)) ^ ((a.n >> 1) << sign)));
  const T cosine = from_bits(B(to_bits(select(odd, s, c)) ^ (((a.n + 1) >> 1) << sign)));
  return {select(abs(x) < TrigConstants<T>::kTiny, x, sine), cosine};
}
TW_HD SinCos<float> sincos(float x) { return sincos_real(x); }
TW_HD SinCos<double> sincos(double x) { return sincos_real(x); }
template <class T>
TW_HD SinCos<Dual<T>> sincos(Dual<T> x) {
  const SinCos<T> y = sincos(x.v);
  return {{y.sin, y.cos * x.t}, {y.cos, -y.sin * x.t}};
}
TW_HD float sin(float x) { return sincos_real(x).sin; }
TW_HD double sin(double x) { return sincos_real(x).sin; }
TW_HD float cos(float x) { return sincos_real(x).cos; }
TW_HD double cos(double x) { return sincos_real(x).cos; }
template <class T>
TW_HD Dual<T> sin(Dual<T> x) {
  return sincos(x).sin;
}
template <class T>
TW_HD Dual<T> cos(Dual<T> x) {
  return sincos(x).cos;
}

}  // namespace thalweg

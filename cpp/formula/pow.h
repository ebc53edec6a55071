// pow.h: x^y = e^(y log x), the logarithm as a pair of numbers with about 10 bits to spare.
// Bound (measured): 0.9 ulp. Ends as in C: x^0 = 1^y = 1; a negative x needs an integer y (else NaN), odd y keep its
// sign.
#pragma once
#include "log.h"

namespace thalweg {

template <class T>
struct PowConstants;  // log(1 + f) = 2 s + s z (2/3 + z M(z)),  s = f / (2 + f), z = s^2
template <>
struct PowConstants<float> {
  static constexpr float kTwoThirds = 0x1.555556p-1f, kTwoThirdsLo = -0x1.555556p-26f;
  static TW_HD float m(float z) { return horner(z, 0x1.999998p-2f, 0x1.249374p-2f, 0x1.c6592cp-3f, 0x1.8eb704p-3f); }
};
template <>
struct PowConstants<double> {
  static constexpr double kTwoThirds = 0x1.5555555555555p-1, kTwoThirdsLo = 0x1.5555555555555p-55;
  static TW_HD double m(double z) {
    return horner(z, 0x1.9999999999996p-2, 0x1.249249249303ep-2, 0x1.c71c71c57f447p-3, 0x1.745d1832deb80p-3,
                  0x1.3b136290bc0c8p-3, 0x1.1120bb3d04f54p-3, 0x1.de328cfa3029bp-4, 0x1.eb188a671cde3p-4);
  }
};

template <class T>
TW_HD Pair<T> log_pair(T x) {
  const Split<T> p = split_power(x);
  const T f = p.m - T(1);
  const Pair<T> d = fast_two_sum(T(2), f);
  const T inverse = T(1) / d.hi, s_hi = f * inverse;
  const Pair<T> s{s_hi, fma(-s_hi, d.lo, fma(-s_hi, d.hi, f)) * inverse};
  const Pair<T> z = product(s, s);
  const Pair<T> l = fast_two_sum(PowConstants<T>::kTwoThirds, z.hi * PowConstants<T>::m(z.hi));
  const Pair<T> b = product(product(s, z), Pair<T>{l.hi, l.lo + PowConstants<T>::kTwoThirdsLo});
  const Pair<T> near = fast_two_sum(T(2) * s.hi, b.hi);
  const Pair<T> sum = fast_two_sum(p.k * ExpConstants<T>::kLn2Hi, near.hi);
  const T lo = fma(p.k, ExpConstants<T>::kLn2Lo, near.lo + fma(T(2), s.lo, b.lo));
  return fast_two_sum(sum.hi, sum.lo + lo);
}

template <class T>
TW_HD bool is_integer(T a) {  // a >= 0
  constexpr T integral = Format<T>::kIntegral;
  return ((a + integral) - integral == a) | (a >= integral);
}

template <class T>
TW_HD T pow_real(T x, T y) {
  constexpr T inf = Format<T>::kInf;
  const T a = abs(x);
  const Pair<T> log_a = log_pair(a);
  const T log_hi = select(a == T(0), -inf, select(a < inf, log_a.hi, a));
  const T e_hi = y * log_hi, e_lo = product(log_a, Pair<T>{y, T(0)}).lo;
  const T size = exp_sum(e_hi, select(abs(e_hi) < T(2000), e_lo, T(0)));
  const bool whole = is_integer(abs(y)), even = is_integer(T(0.5) * abs(y));
  const T signed_size = select(whole & !even, copy_sign(size, x), size);
  const T real = select((x < T(0)) & (a < inf) & !whole, not_a_number<T>(), signed_size);
  const bool one = (x == T(1)) | (y == T(0)) | ((a == T(1)) & (abs(y) == inf));
  return select(one, T(1), real);
}
TW_HD float pow(float x, float y) { return pow_real(x, y); }
TW_HD double pow(double x, double y) { return pow_real(x, y); }
// d x^y = y x^(y-1) dx + x^y log x dy; the terms are 0 where y = 0, and where x = 0 and y >= 0.
template <class T>
TW_HD Dual<T> pow(Dual<T> x, Dual<T> y) {
  const T value = pow(x.v, y.v);
  const T d_x = select(y.v == T(0), T(0), y.v * pow(x.v, y.v - T(1)));
  const T d_y = select((y.t == T(0)) | ((x.v == T(0)) & (y.v >= T(0))), T(0), value * log(x.v));
  return {value, d_x * x.t + d_y * y.t};
}

}  // namespace thalweg

// erf.h: erf.   |x| < 1: x + x P(x^2 - 1/2);  else 1 - e^(-q0 - u Q(u)), u = |x| - 1, the exponent being -log erfc.
// P and Q are minimax polynomials.
// Bound (measured): 0.95 ulp.
#pragma once
#include "exp.h"

namespace thalweg {

template <class T>
struct ErfConstants;
template <>
struct ErfConstants<float> {
  TW_LIMIT(float) kOne = 4.1f;  // erf is 1 there
  static TW_HD float p(float z) {
    return horner(z, -0x1.1ae14ep-5f, -0x1.1fd162p-2f, 0x1.45436ap-4f, -0x1.2b902ap-6f, 0x1.c827dep-9f,
                  -0x1.2639f8p-11f, 0x1.4a9cd0p-14f, -0x1.438438p-17f);
  }
  static constexpr float kQ0 = 0x1.d97fc0p+0f;
  static TW_HD float q(float u) {
    return horner(u, 0x1.51c9b0p+1f, 0x1.afabbap-1f, 0x1.547d16p-5f, -0x1.4934e6p-7f, 0x1.07bacep-9f, -0x1.2fa7f0p-12f,
                  0x1.6c0626p-16f);
  }
};
template <>
struct ErfConstants<double> {
  TW_LIMIT(double) kOne = 6.0;
  static TW_HD double p(double z) {
    return horner(z, -0x1.1ae14dc34815ap-5, -0x1.1fd16292151fdp-2, 0x1.454368017b042p-4, -0x1.2b902b7b2f28dp-6,
                  0x1.c82aa249df2aap-9, -0x1.263991b803136p-11, 0x1.486638bcd675fp-14, -0x1.429e93e6145d1p-17,
                  0x1.1ad5ed88086f8p-20, -0x1.bf8d2d1bd38ddp-24, 0x1.428f5cb464d93p-27, -0x1.acba41f0fbfe2p-31,
                  0x1.05799fc6bd33dp-34);
  }
  static constexpr double kQ0 = 0x1.d97fbf27aa2a1p+0;
  static TW_HD double q(double u) {
    return horner(u, 0x1.51c9b0006c21ep+1, 0x1.afabc11a2aceep-1, 0x1.5477f099ef493p-5, -0x1.48c9d3888bfa4p-7,
                  0x1.033f5ae293cb7p-9, -0x1.f1b07bfe8968ep-13, -0x1.b929d7c99588bp-16, 0x1.c84b56cba511dp-16,
                  -0x1.4471147a8fad9p-17, 0x1.1dda157c8ae1ap-19, -0x1.b486bd6275e06p-23, -0x1.f923824b3aa1bp-25,
                  0x1.215d956513711p-25, -0x1.27578421caab7p-27, 0x1.6e3aa24f3cbe3p-30, -0x1.096061a9b6b16p-33,
                  0x1.5ab783f80eb61p-38);
  }
};

template <class T>
TW_HD T erf_real(T x) {
  using C = ErfConstants<T>;
  const T a = abs(x), near = fma(x, C::p(fma(x, x, T(-0.5))), x);
  const T u = at_most(a, C::kOne) - T(1);
  const Pair<T> exponent = fast_two_sum(-C::kQ0, -u * C::q(u));
  const T far = T(1) - exp_sum(exponent.hi, exponent.lo);
  return select(a < T(1), near, copy_sign(far, x));
}
TW_HD float erf(float x) { return erf_real(x); }
TW_HD double erf(double x) { return erf_real(x); }
inline constexpr double kTwoOverSqrtPi = 1.1283791670955125739;
template <class T>
TW_HD Dual<T> erf(Dual<T> x) {
  return {erf(x.v), T(kTwoOverSqrtPi) * exp(-x.v * x.v) * x.t};
}

}  // namespace thalweg

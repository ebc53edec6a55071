// erf.h: erf.   |x| < 1: x + x P(x^2);  else 1 - e^(-Q(|x| - 1)), Q = -log erfc; P and Q minimax polynomials.
// Bound (measured): 1 ulp.
#pragma once
#include "exp.h"

namespace thalweg {

template <class T> struct ErfConstants;
template <> struct ErfConstants<float> {
  static constexpr float kOne = 4.1f;  // erf is 1 above
  static TW_HD float p(float z) {
    return horner(z, 0x1.06eba8p-3f, -0x1.812746p-2f, 0x1.ce2f08p-4f, -0x1.b829a8p-6f, 0x1.5628eep-8f, -0x1.bcbe9ep-11f,
                  0x1.d826aap-14f, -0x1.438438p-17f);
  }
  static TW_HD float q(float u) {
    return horner(u, 0x1.d97fc0p+0f, 0x1.51c9b0p+1f, 0x1.afabbap-1f, 0x1.547d16p-5f, -0x1.4934e6p-7f, 0x1.07bacep-9f,
                  -0x1.2fa7f0p-12f, 0x1.6c0626p-16f);
  }
};
template <> struct ErfConstants<double> {
  static constexpr double kOne = 6.0;
  static TW_HD double p(double z) {
    return horner(z, 0x1.06eba8214db69p-3, -0x1.812746b0379e6p-2, 0x1.ce2f21a042b20p-4, -0x1.b82ce3128499cp-6,
                  0x1.565bcd0db02dbp-8, -0x1.c02db3d8ed07ep-11, 0x1.f9a321a11a838p-14, -0x1.f4d1df390b539p-17,
                  0x1.b9def19ab4682p-20, -0x1.5f1d36a635fe1p-23, 0x1.f7a410f7d9dc4p-27, -0x1.386abce304f28p-30,
                  0x1.05799fc6bd33dp-34);
  }
  static TW_HD double q(double u) {
    return horner(u, 0x1.d97fbf27aa2a1p+0, 0x1.51c9b0006c21ep+1, 0x1.afabc11a2aceep-1, 0x1.5477f099ef493p-5,
                  -0x1.48c9d3888bfa4p-7, 0x1.033f5ae293cb7p-9, -0x1.f1b07bfe8968ep-13, -0x1.b929d7c99588bp-16,
                  0x1.c84b56cba511dp-16, -0x1.4471147a8fad9p-17, 0x1.1dda157c8ae1ap-19, -0x1.b486bd6275e06p-23,
                  -0x1.f923824b3aa1bp-25, 0x1.215d956513711p-25, -0x1.27578421caab7p-27, 0x1.6e3aa24f3cbe3p-30,
                  -0x1.096061a9b6b16p-33, 0x1.5ab783f80eb61p-38);
  }
};

template <class T> TW_HD T erf_real(T x) {
  using C = ErfConstants<T>;
  const T a = abs(x), near = fma(x, C::p(x * x), x);
  const T far = T(1) - exp(-C::q(select(a > C::kOne, C::kOne, a) - T(1)));
  return select(a < T(1), near, copy_sign(far, x));
}
TW_HD float erf(float x) { return erf_real(x); }
TW_HD double erf(double x) { return erf_real(x); }
inline constexpr double kTwoOverSqrtPi = 1.1283791670955125739;
template <class T> TW_HD Dual<T> erf(Dual<T> x) { return {erf(x.v), T(kTwoOverSqrtPi) * exp(-x.v * x.v) * x.t}; }

}  // namespace thalweg

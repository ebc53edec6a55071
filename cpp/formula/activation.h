// activation.h: relu, leaky_relu, sigmoid, gelu, gelu_tanh, softplus; tanh is in math.h. The derivative of each stands
// under it, as d_x from d_y and from what is cheapest to keep: the output y or the input x.
#pragma once
#include "math.h"

namespace thalweg {

// max(x, 0).   dy/dx = [y > 0]; 0 at 0. NaN passes.
template <class N>
TW_HD N relu(N x) {
  return select(value(x) <= RealOf<N>(0), N(0), x);
}
template <class N>
TW_HD N relu_backward(N d_y, N y) {
  return select(value(y) <= RealOf<N>(0), N(0), d_y);
}

// x where x > 0, else slope x.   dy/dx = 1 or slope; slope at 0.
template <class N>
TW_HD N leaky_relu(N x, RealOf<N> slope) {
  return select(value(x) > RealOf<N>(0), x, slope * x);
}
template <class N>
TW_HD N leaky_relu_backward(N d_y, N x, RealOf<N> slope) {
  return select(value(x) > RealOf<N>(0), d_y, slope * d_y);
}

// dy/dx = 1 - y^2 of y = tanh x.
template <class N>
TW_HD N tanh_backward(N d_y, N y) {
  return d_y * fma(-y, y, N(1));
}

// 1 / (1 + e^-x); 0 from x = -88.38 down in float, -709.44 in double.   dy/dx = y (1 - y).
// Bounds (measured, float): 3.3 ulp for x > -10, 4.25 for x > -40, 6.2 below.
template <class T>
TW_HD T sigmoid(T x) {
  return T(1) / one_plus_exp(-x);
}
template <class T>
TW_HD Dual<T> sigmoid(Dual<T> x) {
  const T y = sigmoid(x.v);
  return {y, y * (T(1) - y) * x.t};
}
template <class N>
TW_HD N sigmoid_backward(N d_y, N y) {
  return d_y * y * (N(1) - y);
}

// F(-a), a >= 0, of the normal distribution function F.
//   float: (1 + 2 w)^8 / 2 by three squarings, w = a P(a) minimax, because F(-a)^(1/8) is nearly a polynomial; as
//   1 + 2 w2 = (1 + 2 w)^2 with w2 = 2 w w + 2 w, which keeps the digits near 0. It is 0 from kEnd on, where w = -1/2.
//   Bound (measured): 9e-8; of the result 5e-7 for a < 1, 1e-5 for a < 3, 1e-3 for a < 5.5.
//   double: (1 - erf(a / sqrt 2)) / 2.
inline constexpr double kSqrtHalf = 0.70710678118654752440, kInvSqrtTwoPi = 0.39894228040143267794;
template <class T>
struct NormalTail;
template <>
struct NormalTail<float> {
  TW_LIMIT(float) kEnd = 0x1.f53a14p+2f, kZero = 0.0f;
  static TW_HD float at(float a) {
    const float w = a * by_pairs(a, a * a, -0x1.988434p-5f, -0x1.1d3734p-6f, -0x1.812770p-12f, 0x1.ae41f0p-11f,
                                 0x1.3b8cd6p-16f, -0x1.14ca4ep-15f, 0x1.145a86p-18f, -0x1.624522p-23f);
    const float w2 = fma(w + w, w, w + w), half4 = fma(w2 + w2, 1.0f + w2, 0.5f);
    return half4 * (half4 + half4);
  }
};
template <>
struct NormalTail<double> {
  TW_LIMIT(double) kEnd = 12.0, kZero = 0.0;
  static TW_HD double at(double a) { return 0.5 * (1.0 - erf(kSqrtHalf * a)); }
};
template <class T>
struct GeluTail {
  T a, below;  // |x|, or where F(-|x|) becomes 0; F(-a)
};
template <class T>
TW_HD GeluTail<T> gelu_tail(T x) {
  const T a = at_most(abs(x), NormalTail<T>::kEnd);
  return {a, NormalTail<T>::at(a)};
}

// F and its derivative f, the density.
template <class T>
TW_HD T normal_cdf(T x) {
  const T below = gelu_tail(x).below;
  return select(x < T(0), below, T(1) - below);
}
template <class N>
TW_HD N normal_pdf(N x) {
  return RealOf<N>(kInvSqrtTwoPi) * exp(RealOf<N>(-0.5) * x * x);
}
template <class T>
TW_HD Dual<T> normal_cdf(Dual<T> x) {
  return {normal_cdf(x.v), normal_pdf(x.v) * x.t};
}

// x F(x) = max(x, 0) - |x| F(-|x|).   dy/dx = F(x) + x f(x) = 1 - dy/dx(-x).
// Bounds in float: 2.5 ulp for x > 0, those of F(-|x|) below; dy/dx 1.6e-7.
// Source: Hendrycks & Gimpel 2016, arXiv:1606.08415.
template <class T>
TW_HD T gelu(T x) {
  const GeluTail<T> tail = gelu_tail(x);
  return fma(-tail.a, tail.below, at_least(x, NormalTail<T>::kZero));
}
template <class T>
TW_HD T gelu_slope(T x) {
  const T a = abs(x), density = T(kInvSqrtTwoPi) * exp_inside(T(-0.5) * a * a);
  const T inside = fma(-a, density, gelu_tail(x).below), below = select(a > T(13), T(0), inside);
  return select(x < T(0), below, T(1) - below);
}
template <class T>
TW_HD Dual<T> gelu(Dual<T> x) {
  return {gelu(x.v), gelu_slope(x.v) * x.t};
}
template <class T>
TW_HD Dual<T> gelu_slope(Dual<T> x) {
  return {gelu_slope(x.v), normal_pdf(x.v) * fma(-x.v, x.v, T(2)) * x.t};
}
template <class N>
TW_HD N gelu_backward(N d_y, N x) {
  return d_y * gelu_slope(x);
}

// x (1 + tanh u) / 2 = x sigmoid(2 u), u = sqrt(2/pi) (x + 0.044715 x^3); the second form does not cancel for x < 0.
// dy/dx = s + x s (1 - s) 2 u', s = sigmoid(2 u); its second term is 0 long before |x| = 30.
inline constexpr double kGeluSlope = 1.5957691216057307118, kGeluCubic = 0.044715;  // 2 sqrt(2/pi)
template <class N>
TW_HD N gelu_tanh_gate(N x) {
  using T = RealOf<N>;
  return sigmoid(T(kGeluSlope) * x * (T(1) + T(kGeluCubic) * x * x));
}
template <class N>
TW_HD N gelu_tanh(N x) {
  return x * gelu_tanh_gate(x);
}
template <class N>
TW_HD N gelu_tanh_backward(N d_y, N x) {
  using T = RealOf<N>;
  const N s = gelu_tanh_gate(x), c = clamp(x, T(-30), T(30));
  const N slope = T(kGeluSlope) * (T(1) + T(3 * kGeluCubic) * c * c);
  return d_y * (s + c * slope * s * (T(1) - s));
}

// log(1 + e^x), as max(x, 0) + log(1 + e^-|x|).   dy/dx = sigmoid(x).   Bound (measured): 2.8 ulp.
template <class T>
TW_HD T softplus(T x) {
  return relu(x) + log1p_to_1(exp(-abs(x)));
}
template <class T>
TW_HD Dual<T> softplus(Dual<T> x) {
  return {softplus(x.v), sigmoid(x.v) * x.t};
}
template <class N>
TW_HD N softplus_backward(N d_y, N x) {
  return d_y * sigmoid(x);
}

}  // namespace thalweg

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

// 1 / (1 + e^-x), by e^-|x|, so that nothing overflows and small results keep their digits.   dy/dx = y (1 - y).
template <class T>
TW_HD T sigmoid(T x) {
  const T e = exp(-abs(x));
  return select(x < T(0), e, T(1)) / (T(1) + e);
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

// x F(x), F the normal distribution function (1 + erf(x / sqrt 2)) / 2.   dy/dx = F(x) + x f(x), f = F' the density.
// Source: Hendrycks & Gimpel 2016, arXiv:1606.08415.
inline constexpr double kSqrtHalf = 0.70710678118654752440, kInvSqrtTwoPi = 0.39894228040143267794;
template <class N>
TW_HD N normal_cdf(N x) {
  using T = RealOf<N>;
  return T(0.5) * (T(1) + erf(T(kSqrtHalf) * x));
}
template <class N>
TW_HD N normal_pdf(N x) {
  return RealOf<N>(kInvSqrtTwoPi) * exp(RealOf<N>(-0.5) * x * x);
}
template <class N>
TW_HD N gelu(N x) {
  return x * normal_cdf(x);
}
template <class N>
TW_HD N gelu_backward(N d_y, N x) {
  return d_y * fma(x, normal_pdf(x), normal_cdf(x));
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

// log(1 + e^x), as max(x, 0) + log(1 + e^-|x|).   dy/dx = sigmoid(x).
template <class T>
TW_HD T softplus(T x) {
  return maximum(x, T(0)) + log1p(exp(-abs(x)));
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

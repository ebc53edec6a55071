// number.h: the number types that every formula is written for: float, double, and dual numbers over them.
//   Dual (v, t) stands for v + e t with e e = 0: run a formula on it and t is the exact directional derivative.
// Comparisons look at the value only. Formulas branch with select(), so that loops over them vectorise.
// Elementary functions (exp, log, tanh, ...) live in math.h; their dual forms stand there beside them.
#pragma once
#include <cmath>
#include <cstdint>
#include <type_traits>

// TW_HD: a function of processors and GPUs. TW_FORMULA(parameters) { body }: a formula without a name, for the executor
// that the file is compiled for.
#if defined(__CUDACC__)
#define TW_HD __host__ __device__ __forceinline__
#define TW_FORMULA(...) [] __device__(__VA_ARGS__)
#define TW_UNROLL _Pragma("unroll")
#else
#define TW_HD inline __attribute__((always_inline))
#define TW_FORMULA(...) [](__VA_ARGS__)
#define TW_UNROLL _Pragma("GCC unroll 16")
#endif

namespace thalweg {

template <class T>
struct Dual {
  T v{}, t{};
  constexpr Dual() = default;
  TW_HD constexpr Dual(T value, T tangent = T(0)) : v(value), t(tangent) {}
};

// The real type under a number type: RealOf<Dual<float>> is float.
template <class N>
struct RealOfImpl {
  using type = N;
};
template <class T>
struct RealOfImpl<Dual<T>> {
  using type = T;
};
template <class N>
using RealOf = typename RealOfImpl<N>::type;
template <class N>
inline constexpr bool kIsDual = !std::is_same_v<N, RealOf<N>>;

template <class T>
TW_HD T value(T x) {
  return x;
}
template <class T>
TW_HD T value(Dual<T> x) {
  return x.v;
}
template <class T>
TW_HD T tangent(T) {
  return T(0);
}
template <class T>
TW_HD T tangent(Dual<T> x) {
  return x.t;
}

template <class T>
TW_HD Dual<T> operator-(Dual<T> a) {
  return {-a.v, -a.t};
}
template <class T>
TW_HD Dual<T> operator+(Dual<T> a, Dual<T> b) {
  return {a.v + b.v, a.t + b.t};
}
template <class T>
TW_HD Dual<T> operator-(Dual<T> a, Dual<T> b) {
  return {a.v - b.v, a.t - b.t};
}
template <class T>
TW_HD Dual<T> operator*(Dual<T> a, Dual<T> b) {
  return {a.v * b.v, a.v * b.t + a.t * b.v};
}
template <class T>
TW_HD Dual<T> operator/(Dual<T> a, Dual<T> b) {
  const T q = a.v / b.v;
  return {q, (a.t - q * b.t) / b.v};
}
// Plain numbers mix with duals as constants (tangent 0).
// clang-format off
#define TW_MIXED(op)                                                                                                    \
  template <class T> TW_HD Dual<T> operator op(Dual<T> a, std::type_identity_t<T> b) { return a op Dual<T>(b); }         \
  template <class T> TW_HD Dual<T> operator op(std::type_identity_t<T> a, Dual<T> b) { return Dual<T>(a) op b; }
TW_MIXED(+) TW_MIXED(-) TW_MIXED(*) TW_MIXED(/)
#undef TW_MIXED
    // clang-format on
    template <class T>
    TW_HD Dual<T>& operator+=(Dual<T>& a, Dual<T> b) {
  return a = a + b;
}
template <class T>
TW_HD Dual<T>& operator-=(Dual<T>& a, Dual<T> b) {
  return a = a - b;
}
template <class T>
TW_HD Dual<T>& operator*=(Dual<T>& a, Dual<T> b) {
  return a = a * b;
}

// a if condition else b; both sides are evaluated, so the loop stays free of branches.
template <class N>
TW_HD N select(bool condition, N a, N b) {
  return condition ? a : b;
}
template <class T>
TW_HD Dual<T> select(bool condition, Dual<T> a, Dual<T> b) {
  return {condition ? a.v : b.v, condition ? a.t : b.t};
}

// One rounding: a b + c.
TW_HD float fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
TW_HD double fma(double a, double b, double c) { return __builtin_fma(a, b, c); }
template <class T>
TW_HD Dual<T> fma(Dual<T> a, Dual<T> b, Dual<T> c) {
  return {fma(a.v, b.v, c.v), fma(a.v, b.t, fma(a.t, b.v, c.t))};
}

TW_HD float sqrt(float x) { return __builtin_sqrtf(x); }
TW_HD double sqrt(double x) { return __builtin_sqrt(x); }
template <class T>
TW_HD Dual<T> sqrt(Dual<T> x) {
  const T r = sqrt(x.v);
  return {r, x.t / (r + r)};
}
TW_HD float abs(float x) { return __builtin_fabsf(x); }
TW_HD double abs(double x) { return __builtin_fabs(x); }
template <class T>
TW_HD Dual<T> abs(Dual<T> x) {
  return {abs(x.v), x.v < T(0) ? -x.t : (x.v > T(0) ? x.t : T(0))};
}
// NaN in either operand gives NaN, as in NumPy; of equals the first. In this form chains of them vectorise.
template <class N>
TW_HD N maximum(N a, N b) {
  return select(!(value(a) < value(b)) & (value(b) == value(b)), a, b);
}
template <class N>
TW_HD N minimum(N a, N b) {
  return select(!(value(a) > value(b)) & (value(b) == value(b)), a, b);
}
template <class N>
TW_HD N square(N x) {
  return x * x;
}
// x cut to [low, high]; NaN stays NaN. The tangent is 0 where it cuts.
template <class N>
TW_HD N clamp(N x, RealOf<N> low, RealOf<N> high) {
  return select(value(x) > high, N(high), select(value(x) < low, N(low), x));
}

}  // namespace thalweg

// buffer.h: memory of one value while a plan runs, and the typed view that element loops use.
// A dual tensor is planar: its tangent plane lies `plane` elements after its value plane, so products on duals are
// real products on planes; only element formulas see Dual<T>.
#pragma once
#include <cstddef>
#include <cstdint>

#include "../formula/number.h"

namespace thalweg {

struct Buffer {
  std::byte* data = nullptr;
  int64_t plane = 0;  // elements from the value plane to the tangent plane; 0 where there is none
  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(data);
  }
};

// View<N>: v[i] loads, v.set(i, x) stores. Trivially copied into loops. A result may take the memory of an operand. Of
// plain numbers the one store of an element needs all of its loads, so __restrict__ (without which GCC leaves long
// formulas scalar) changes nothing; of duals the first of two stores would let operands be read again, overwritten.
template <class N>
struct View {
  N* __restrict__ p;
  View(Buffer b) : p(b.as<N>()) {}
  explicit View(N* q) : p(q) {}
  TW_HD N operator[](int64_t i) const { return p[i]; }
  TW_HD void set(int64_t i, N x) const { p[i] = x; }
  View at(int64_t i) const { return View(p + i); }
};
template <class T>
struct View<Dual<T>> {
  T* v;
  T* t;
  View(Buffer b) : v(b.as<T>()), t(b.as<T>() + b.plane) {}
  View(T* value, T* tangent) : v(value), t(tangent) {}
  TW_HD Dual<T> operator[](int64_t i) const { return {v[i], t[i]}; }
  TW_HD void set(int64_t i, Dual<T> x) const {
    v[i] = x.v;
    t[i] = x.t;
  }
  View at(int64_t i) const { return View(v + i, t + i); }
};

template <class N>
inline constexpr int kPlanes = kIsDual<N> ? 2 : 1;

// The view of planes of `width` elements that lie one after the other at p, indexed from element i0 on.
template <class N>
TW_HD View<N> planar(RealOf<N>* p, int64_t width, int64_t i0 = 0) {
  if constexpr (kIsDual<N>) return View<N>(p - i0, p + width - i0);
  else return View<N>(p - i0);
}

}  // namespace thalweg

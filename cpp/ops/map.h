// map.h: kernels of operators that treat elements alike: a formula on one, two or three broadcast operands.
//   .kernel = map1<[](auto x) { return exp(x); }, 1.0>        y = f(x)
//   .kernel = map2<[](auto a, auto b) { return a + b; }>      y = f(a, b), broadcast by NumPy's rule; map3 likewise
//   .kernel = zip2<...>                                       y = f(a, b), operands of one shape: backward rules
// The second parameter is the estimated cost in nanoseconds per element on one thread.
#pragma once
#include "../exec/broadcast.h"
#include "common.h"

namespace thalweg {

template <auto kFormula, double kNs = 0.3> Kernel map1(const Site& site) {
  return with_number(site.number, [&](auto zero) -> Kernel {
    using N = decltype(zero);
    const int64_t n = site.out[0].shape.size();
    return [n](const Launch& l) {
      const View<N> x(l.in[0]), y(l.out[0]);
      for_each(l.exec, n, [=](int64_t i) { y.set(i, kFormula(x[i])); }, kNs);
    };
  });
}

template <auto kFormula, double kNs = 0.3> Kernel zip2(const Site& site) {
  return with_number(site.number, [&](auto zero) -> Kernel {
    using N = decltype(zero);
    const int64_t n = site.out[0].shape.size();
    return [n](const Launch& l) {
      const View<N> a(l.in[0]), b(l.in[1]), y(l.out[0]);
      for_each(l.exec, n, [=](int64_t i) { y.set(i, kFormula(a[i], b[i])); }, kNs);
    };
  });
}

template <auto kFormula, double kNs = 0.3> Kernel map2(const Site& site) {
  auto loop = broadcast_loop<2>(site.out[0].shape, {site.in[0].shape, site.in[1].shape});
  return with_number(site.number, [&](auto zero) -> Kernel {
    using N = decltype(zero);
    return [loop](const Launch& l) {
      const View<N> a(l.in[0]), b(l.in[1]), y(l.out[0]);
      for_each_broadcast<(kNs < 1)>(
          l.exec, loop, [=](int64_t o, int64_t i, int64_t j) { y.set(o, kFormula(a[i], b[j])); }, kNs);
    };
  });
}

template <auto kFormula, double kNs = 0.3> Kernel map3(const Site& site) {
  auto loop = broadcast_loop<3>(site.out[0].shape, {site.in[0].shape, site.in[1].shape, site.in[2].shape});
  return with_number(site.number, [&](auto zero) -> Kernel {
    using N = decltype(zero);
    return [loop](const Launch& l) {
      const View<N> a(l.in[0]), b(l.in[1]), c(l.in[2]), y(l.out[0]);
      for_each_broadcast<false>(
          l.exec, loop, [=](int64_t o, int64_t i, int64_t j, int64_t k) { y.set(o, kFormula(a[i], b[j], c[k])); }, kNs);
    };
  });
}

// Flops of an element, for formulas that take more than one.
template <int kFlops> Cost map_cost(const Site& site) {
  return moved_bytes(site, double(kFlops) * double(site.out[0].shape.size()));
}

}  // namespace thalweg

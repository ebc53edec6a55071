// map.h: kernels of operators that treat elements alike: a formula on one, two or three broadcast operands.
//   .kernel = map1<[](auto x) { return exp(x); }, 1.0>        y = f(x)
//   .kernel = map2<[](auto a, auto b) { return a + b; }>      y = f(a, b), broadcast by NumPy's rule; map3 likewise
//   .kernel = zip2<...>                                       y = f(a, b), operands of one shape: backward rules
//   .block = block_of<..., K>                                 the same formula of K operands on a block, as a follower
//   on_all(block, n, ns)                                      a kernel: the block of all n elements
// The second parameter is the estimated cost in nanoseconds per element on one thread. Blocks also
// take operands that are stored as bf16, all of them.
#pragma once
#include "../exec/broadcast.h"
#include "../exec/stored.h"
#include "common.h"

namespace thalweg {

template <auto kFormula, double kNs = 0.3>
Kernel map1(const Site& site) {
  return with_number(site.number, [&](auto zero) -> Kernel {
    using N = decltype(zero);
    const int64_t n = site.out[0].shape.size();
    return [n](const Launch& l) {
      const View<N> x(l.in[0]), y(l.out[0]);
      for_each(l.exec, n, [=](int64_t i) { y.set(i, kFormula(x[i])); }, kNs);
    };
  });
}

template <auto kFormula, double kNs = 0.3>
Kernel zip2(const Site& site) {
  return with_number(site.number, [&](auto zero) -> Kernel {
    using N = decltype(zero);
    const int64_t n = site.out[0].shape.size();
    return [n](const Launch& l) {
      const View<N> a(l.in[0]), b(l.in[1]), y(l.out[0]);
      for_each(l.exec, n, [=](int64_t i) { y.set(i, kFormula(a[i], b[i])); }, kNs);
    };
  });
}

// A formula of one or two operands of the result's shape, on a block.
template <int K, class F>
BlockKernel block_with(const Site& site, const F& formula) {
  if (site.out[0].kind == Kind::bf16)
    return [formula](const Launch& l, const Block& block) {
      const View<Bf16> a(l.in[0]), b(l.in[K - 1]);
      fill_stored(l.out[0].as<Bf16>(), block, [=](int64_t i) -> float {
        if constexpr (K == 1) return formula(a[i]);
        else return formula(a[i], b[i]);
      });
    };
  return with_number(site.number, [&](auto zero) -> BlockKernel {
    using N = decltype(zero);
    return [formula](const Launch& l, const Block& block) {
      const View<N> a(l.in[0]), b(l.in[K - 1]), y(l.out[0]);
      for_block<!kIsDual<N>>(block, [=](int64_t i) {  // what follows duals runs on all of them at once
        if constexpr (K == 1) y.set(i, formula(a[i]));
        else y.set(i, formula(a[i], b[i]));
      });
    };
  });
}
// The same of a formula without constants; null where an operand is broadcast.
template <auto kFormula, int K>
BlockKernel block_of(const Site& site) {
  for (int k = 0; k < K; k++)
    if (!(site.in[k].shape == site.out[0].shape)) return nullptr;
  return block_with<K>(site, kFormula);
}
inline Kernel on_all(BlockKernel block, int64_t n, double ns_per_element) {
  return [=](const Launch& l) { for_parts(l.exec, n, ns_per_element, [&](const Block& part) { block(l, part); }); };
}
// The kernel of an operator that has a block: one loop serves both.
template <auto kFormula, int K, double kNs = 0.3>
Kernel by_block(const Site& site) {
  return on_all(block_of<kFormula, K>(site), site.out[0].shape.size(), kNs);
}

// For operators of K operands: nothing is won by running a formula that takes longer than its memory inside another.
template <auto kFormula, int K, double kNs>
constexpr auto quick_block() -> BlockKernel (*)(const Site&) {
  if constexpr (kNs < 1) return block_of<kFormula, K>;
  else return nullptr;
}

template <auto kFormula, int K, bool kEveryPattern, double kNs>
Kernel map_kernel(const Site& site) {
  std::array<Shape, K> shapes;
  for (int k = 0; k < K; k++) shapes[k] = site.in[k].shape;
  auto loop = broadcast_loop<K>(site.out[0].shape, shapes);
  return with_number(site.number, [&](auto zero) -> Kernel {
    using N = decltype(zero);
    return [loop](const Launch& l) {
      const auto in = [&]<size_t... k>(std::index_sequence<k...>) {
        return std::array<View<N>, K>{View<N>(l.in[k])...};
      }(std::make_index_sequence<K>{});
      map_broadcast<kEveryPattern, K, N>(l.exec, loop, kFormula, in, View<N>(l.out[0]), kNs);
    };
  });
}

template <auto kFormula, double kNs = 0.3>
Kernel map2(const Site& site) {
  return map_kernel<kFormula, 2, (kNs < 1), kNs>(site);
}
template <auto kFormula, double kNs = 0.3>
Kernel map3(const Site& site) {
  return map_kernel<kFormula, 3, false, kNs>(site);
}

// Flops of an element, for formulas that take more than one.
template <int kFlops>
Cost map_cost(const Site& site) {
  return moved_bytes(site, double(kFlops) * double(site.out[0].shape.size()));
}

}  // namespace thalweg

// product.h: products on number types as products on planes. This is the only place that does so.
//   plain numbers   C = A B
//   duals           value C.v = A.v B.v        tangent C.t = A.v B.t, then + A.t B.v
// The same three lines serve matrix products, folds over the batch and the three forms of a convolution; the bits of
// the value plane are those of a plain product.
#pragma once
#include <optional>

#include "../exec/conv.h"
#include "../exec/matmul.h"
#include "common.h"

namespace thalweg {

template <class N>
using Maybe = std::optional<View<N>>;  // an operand that may be absent: bias, gamma, beta

// f(a, b, bias, c, accumulate) is one product on planes of the real type; bias may be null.
template <class N, class F>
void on_planes(View<N> a, View<N> b, const Maybe<N>& bias, View<N> c, F f) {
  if constexpr (kIsDual<N>) {
    f(a.v, b.v, bias ? bias->v : nullptr, c.v, false);
    f(a.v, b.t, bias ? bias->t : nullptr, c.t, false);
    f(a.t, b.v, nullptr, c.t, true);
  } else {
    f(a.p, b.p, bias ? bias->p : nullptr, c.p, false);
  }
}

// What follows a result runs on its parts while they are in cache; of duals, when both planes are done.
template <class N, class F>
void followed(const Launch& l, int64_t size, F make) {
  const Follow follow = l.follow();
  make(kIsDual<N> ? Follow{} : follow);
  if (kIsDual<N> && follow) follow_all(l.exec, size, follow);
}

template <class N>
void product(const Launch& l, const Matmul& p, View<N> a, View<N> b, const Maybe<N>& bias, View<N> c) {
  using T = RealOf<N>;
  followed<N>(l, p.batch * p.m * p.n, [&](const Follow& follow) {
    on_planes<N>(a, b, bias, c, [&](const T* x, const T* y, const T* z, T* out, bool accumulate) {
      Matmul q = p;
      q.accumulate = accumulate;
      matmul<T>(l.exec, q, x, y, z, out, follow);
    });
  });
}

// C = fold over the shards of A B, where the batch is what is summed over.
template <class N>
void product_fold(const Exec& exec, const Matmul& p, const Shards& shards, View<N> a, View<N> b, View<N> c) {
  using T = RealOf<N>;
  on_planes<N>(a, b, {}, c, [&](const T* x, const T* y, const T*, T* out, bool accumulate) {
    Matmul q = p;
    q.accumulate = accumulate;
    matmul_fold<T>(exec, q, shards, x, y, out);
  });
}

template <class N>
void product_conv(const Launch& l, const Conv& p, View<N> x, View<N> weight, const Maybe<N>& bias, View<N> y) {
  using T = RealOf<N>;
  followed<N>(l, p.n * p.out_h() * p.out_w() * p.out, [&](const Follow& follow) {
    on_planes<N>(x, weight, bias, y, [&](const T* a, const T* b, const T* z, T* out, bool accumulate) {
      conv_forward<T>(l.exec, p, a, b, z, out, accumulate, follow);
    });
  });
}

template <class N>
void product_conv_input(const Launch& l, const Conv& p, View<N> d_y, View<N> weight, View<N> d_x) {
  using T = RealOf<N>;
  followed<N>(l, p.n * p.h * p.w * p.c, [&](const Follow& follow) {
    on_planes<N>(d_y, weight, {}, d_x, [&](const T* a, const T* b, const T*, T* out, bool accumulate) {
      conv_backward_input<T>(l.exec, p, a, b, out, accumulate, follow);
    });
  });
}

template <class N>
void product_conv_weight(const Exec& exec, const Conv& p, const Shards& shards, View<N> x, View<N> d_y, View<N> d_w) {
  using T = RealOf<N>;
  on_planes<N>(x, d_y, {}, d_w, [&](const T* a, const T* b, const T*, T* out, bool accumulate) {
    conv_backward_weight<T>(exec, p, shards, a, b, out, accumulate);
  });
}

// What every product costs and what every bias of one receives.
inline Cost product_cost(const Site& site, double mult_adds) {
  Cost cost = moved_bytes(site, 2 * mult_adds);
  cost.mult_adds = mult_adds;
  return cost;
}
inline Value bias_gradient(Recorder& r, Value d_y) {
  std::vector<int64_t> leading;
  for (int i = 0; i + 1 < r.type(d_y).shape.rank(); i++) leading.push_back(i);
  return leading.empty() ? d_y : r.apply("reduce_sum", {d_y}, {{"axes", leading}, {"keepdims", false}});
}
inline void check_bias(const Inputs& in, size_t i, int64_t outputs) {
  check_real(in, i, "bias");
  check_shape(in, i, "bias", {outputs}, "outputs of weight");
  check_replicated(in, i, "bias");
}

}  // namespace thalweg

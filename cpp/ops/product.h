// product.h: products as the kernels of operators ask for them. This is the only place that knows how a number type or
// the precision of a plan changes a product.
//   plain numbers   C = A B
//   duals           value C.v = A.v B.v        tangent C.t = A.v B.t, then + A.t B.v: real products on planes
//   plans in bf16   C = bf16(A) bf16(B), summed in float32; activations and C float32, or stored as bf16, or C alone
//                   float32
// The same lines serve matrix products, folds over the batch and the three forms of a convolution; the bits of the
// value plane of duals are those of a plain product.
#pragma once
#include <optional>

#include "../exec/conv.h"
#include "../exec/conv_bf16.h"
#include "../exec/matmul.h"
#include "../exec/matmul_bf16.h"
#include "common.h"

namespace thalweg {

template <class N>
using Maybe = std::optional<View<N>>;  // an operand that may be absent: bias, gamma, beta

// How a product is computed: on numbers, or on operands rounded to bf16 whose activations are stored as X and whose
// result is stored as Y. A kernel keeps its own.
template <class N>
struct Plain {
  MatmulMemo<RealOf<N>> memo;
};
template <class X, class Y>
struct Rounded {};

// f(how); `activation`: the type of one that the product reads.
template <class F>
auto with_product(const Site& s, const Type& activation, F&& f) {
  if (activation.kind == Kind::bf16 && s.out[0].kind == Kind::bf16) return f(Rounded<Bf16, Bf16>{});
  if (activation.kind == Kind::bf16) return f(Rounded<Bf16, float>{});
  if (s.number == Number::f32 && s.attrs.text(kPrecision, "") == "bf16") return f(Rounded<float, float>{});
  return with_number(s.number, [&](auto zero) { return f(Plain<decltype(zero)>{}); });
}

// What a product reads and writes. bias: null where there is none.
struct Operands {
  const Buffer &a, &b;
  const Buffer* bias;
  const Buffer& c;
};

// f(a, b, bias, c, accumulate) is one product on planes of the real type; bias may be null.
template <class N, class F>
void on_planes(const Operands& o, F f) {
  const View<N> a(o.a), b(o.b), c(o.c);
  const Maybe<N> bias = o.bias ? Maybe<N>(View<N>(*o.bias)) : std::nullopt;
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

// A matrix product. `weight`: b is a parameter, float32 in every plan of that precision.
template <bool weight, class N>
void product(Plain<N>& how, const Launch& l, const Matmul& p, const Operands& o) {
  using T = RealOf<N>;
  followed<N>(l, p.batch * p.m * p.n, [&](const Follow& follow) {
    on_planes<N>(o, [&](const T* a, const T* b, const T* bias, T* c, bool accumulate) {
      Matmul q = p;
      q.accumulate = accumulate;
      matmul<T>(l.exec, q, a, b, bias, c, follow, &how.memo);
    });
  });
}
inline const float* bias_of(const Operands& o) { return o.bias ? o.bias->as<float>() : nullptr; }
template <bool weight, class X, class Y>
void product(Rounded<X, Y>, const Launch& l, const Matmul& p, const Operands& o) {
  const X* a = o.a.as<X>();
  Y* c = o.c.as<Y>();
  if constexpr (weight) matmul_bf16_weight<X, Y>(l.exec, p, a, o.b.as<float>(), bias_of(o), c, l.follow());
  else matmul_bf16<X, Y>(l.exec, p, a, o.b.as<X>(), bias_of(o), c, l.follow());
}

// C = fold over the shards of A B, where the batch is what is summed over.
template <class N>
void product_fold(Plain<N>& how, const Exec& exec, const Matmul& p, const Shards& shards, const Operands& o) {
  using T = RealOf<N>;
  on_planes<N>(o, [&](const T* a, const T* b, const T*, T* c, bool accumulate) {
    Matmul q = p;
    q.accumulate = accumulate;
    matmul_fold<T>(exec, q, shards, a, b, c, &how.memo);
  });
}
template <class X, class Y>
void product_fold(Rounded<X, Y>, const Exec& exec, const Matmul& p, const Shards& shards, const Operands& o) {
  matmul_fold_bf16<X>(exec, p, shards, o.a.as<X>(), o.b.as<X>(), o.c.as<float>());
}

// Convolutions: (x, weight) -> y, (d_y, weight) -> d_x, (x, d_y) -> d_weight.
template <class N>
void product_conv(const Plain<N>&, const Launch& l, const Conv& p, const Operands& o) {
  using T = RealOf<N>;
  followed<N>(l, p.n * p.out_h() * p.out_w() * p.out, [&](const Follow& follow) {
    on_planes<N>(o, [&](const T* x, const T* weight, const T* bias, T* y, bool accumulate) {
      conv_forward<T>(l.exec, p, x, weight, bias, y, accumulate, follow);
    });
  });
}
template <class X, class Y>
void product_conv(Rounded<X, Y>, const Launch& l, const Conv& p, const Operands& o) {
  conv_forward_bf16<X, Y>(l.exec, p, o.a.as<X>(), o.b.as<float>(), bias_of(o), o.c.as<Y>(), l.follow());
}

template <class N>
void product_conv_input(const Plain<N>&, const Launch& l, const Conv& p, const Operands& o) {
  using T = RealOf<N>;
  followed<N>(l, p.n * p.h * p.w * p.c, [&](const Follow& follow) {
    on_planes<N>(o, [&](const T* d_y, const T* weight, const T*, T* d_x, bool accumulate) {
      conv_backward_input<T>(l.exec, p, d_y, weight, d_x, accumulate, follow);
    });
  });
}
template <class X, class Y>
void product_conv_input(Rounded<X, Y>, const Launch& l, const Conv& p, const Operands& o) {
  conv_backward_input_bf16<X, Y>(l.exec, p, o.a.as<X>(), o.b.as<float>(), o.c.as<Y>(), l.follow());
}

template <class N>
void product_conv_weight(const Plain<N>&, const Exec& exec, const Conv& p, const Shards& shards, const Operands& o) {
  using T = RealOf<N>;
  on_planes<N>(o, [&](const T* x, const T* d_y, const T*, T* d_w, bool accumulate) {
    conv_backward_weight<T>(exec, p, shards, x, d_y, d_w, accumulate);
  });
}
template <class X, class Y>
void product_conv_weight(Rounded<X, Y>, const Exec& exec, const Conv& p, const Shards& shards, const Operands& o) {
  conv_backward_weight_bf16<X>(exec, p, shards, o.a.as<X>(), o.b.as<X>(), o.c.as<float>());
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

// elementwise.cpp: arithmetic, comparisons and elementary functions of one, two or three operands.
//   add sub mul div maximum minimum pow; greater ... not_equal (1 or 0); where; neg exp expm1 log log1p sqrt square abs
//   sin cos erf. Formulas: formula/math.h.
// Shapes: operands broadcast by NumPy's rule. Gradients are summed back to each operand's shape.
// At a tie maximum and minimum give each operand half of the gradient; abs gives 0 at 0.
#include <numbers>

#include "../formula/math.h"
#include "map.h"
#include "register.h"

namespace thalweg {
namespace {

using Values = std::vector<Value>;
using Flow = std::span<const Value>;  // the gradients of the outputs

std::vector<Type> infer_map(const Inputs& in, size_t operands) {
  check_count(in, operands, operands);
  const char* names[] = {"a", "b", "c"};
  for (size_t i = 0; i < operands; i++) check_real(in, i, names[i]);
  return {broadcast_types(in)};
}
std::vector<Type> infer2(const Inputs& in) { return infer_map(in, 2); }
std::vector<Type> infer3(const Inputs& in) { return infer_map(in, 3); }

// ---- two operands ----

Values add_backward(Recorder& g, const Applied& n, Flow d) {
  return {sum_back(g, d[0], n.in[0]), sum_back(g, d[0], n.in[1])};
}

Values sub_backward(Recorder& g, const Applied& n, Flow d) {
  return {sum_back(g, d[0], n.in[0]), sum_back(g, g.apply("neg", {d[0]}), n.in[1])};
}

Values mul_backward(Recorder& g, const Applied& n, Flow d) {
  return {sum_back(g, g.apply("mul", {d[0], n.in[1]}), n.in[0]), sum_back(g, g.apply("mul", {d[0], n.in[0]}), n.in[1])};
}

// d_a = d_y / b;  d_b = -(d_y / b) y
Values div_backward(Recorder& g, const Applied& n, Flow d) {
  const Value d_a = g.apply("div", {d[0], n.in[1]});
  return {sum_back(g, d_a, n.in[0]), sum_back(g, g.apply("neg", {g.apply("mul", {d_a, n.out[0]})}), n.in[1])};
}

// The share of d_y that goes to a in y = max(a, b): all where a > b, half at a tie. NaN gets nothing.
constexpr auto kLargerShare = []<class N>(N d, N a, N b) {
  return select(value(a) > value(b), d, select(value(a) == value(b), N(RealOf<N>(0.5)) * d, N(0)));
};

Values maximum_rule(Recorder& g, const Applied& n, Flow d) {
  return {sum_back(g, g.apply("maximum_backward", {d[0], n.in[0], n.in[1]}), n.in[0]),
          sum_back(g, g.apply("maximum_backward", {d[0], n.in[1], n.in[0]}), n.in[1])};
}

Values minimum_rule(Recorder& g, const Applied& n, Flow d) {  // a < b as b > a
  return {sum_back(g, g.apply("minimum_backward", {d[0], n.in[0], n.in[1]}), n.in[0]),
          sum_back(g, g.apply("minimum_backward", {d[0], n.in[1], n.in[0]}), n.in[1])};
}

// d_a = d_y b a^(b-1), 0 where b = 0;  d_b = d_y y log a, 0 where a = 0
Values pow_backward(Recorder& g, const Applied& n, Flow d) {
  const Value a = n.in[0], b = n.in[1], zero = g.constant(0), one = g.constant(1);
  const Value slope = g.apply("mul", {b, g.apply("pow", {a, g.apply("sub", {b, one})})});
  const Value by_a = g.apply("where", {b, slope, zero});
  const Value by_b = g.apply("where", {a, g.apply("mul", {n.out[0], g.apply("log", {a})}), zero});
  return {sum_back(g, g.apply("mul", {d[0], by_a}), a), sum_back(g, g.apply("mul", {d[0], by_b}), b)};
}

Values where_backward(Recorder& g, const Applied& n, Flow d) {
  const Value zero = g.constant(0);
  return {kNone, sum_back(g, g.apply("where", {n.in[0], d[0], zero}), n.in[1]),
          sum_back(g, g.apply("where", {n.in[0], zero, d[0]}), n.in[2])};
}

// ---- one operand ----

Values neg_backward(Recorder& g, const Applied&, Flow d) { return {g.apply("neg", {d[0]})}; }
Values exp_backward(Recorder& g, const Applied& n, Flow d) { return {g.apply("mul", {d[0], n.out[0]})}; }
Values expm1_backward(Recorder& g, const Applied& n, Flow d) {
  return {g.apply("mul", {d[0], g.apply("exp", {n.in[0]})})};
}
Values log_backward(Recorder& g, const Applied& n, Flow d) { return {g.apply("div", {d[0], n.in[0]})}; }
Values log1p_backward(Recorder& g, const Applied& n, Flow d) {
  return {g.apply("div", {d[0], g.apply("add", {n.in[0], g.constant(1)})})};
}
Values sqrt_backward(Recorder& g, const Applied& n, Flow d) {
  return {g.apply("div", {d[0], g.apply("add", {n.out[0], n.out[0]})})};
}
Values square_backward(Recorder& g, const Applied& n, Flow d) {
  return {g.apply("mul", {d[0], g.apply("add", {n.in[0], n.in[0]})})};
}
constexpr auto kSignedLike = []<class N>(N d, N x) {
  return select(value(x) < RealOf<N>(0), -d, select(value(x) > RealOf<N>(0), d, N(0)));
};
Values abs_rule(Recorder& g, const Applied& n, Flow d) { return {g.apply("abs_backward", {d[0], n.in[0]})}; }
Values sin_backward(Recorder& g, const Applied& n, Flow d) {
  return {g.apply("mul", {d[0], g.apply("cos", {n.in[0]})})};
}
Values cos_backward(Recorder& g, const Applied& n, Flow d) {
  return {g.apply("neg", {g.apply("mul", {d[0], g.apply("sin", {n.in[0]})})})};
}
// erf' = 2 / sqrt(pi) exp(-x^2)
Values erf_backward(Recorder& g, const Applied& n, Flow d) {
  const Value bell = g.apply("exp", {g.apply("neg", {g.apply("square", {n.in[0]})})});
  return {g.apply("mul", {g.apply("mul", {d[0], bell}), g.constant(2 * std::numbers::inv_sqrtpi)})};
}

// ---- the table ----

template <auto kFormula, double kNs = 0.3, int kFlops = 1>
Operator binary(const char* name, decltype(Operator::backward) backward) {
  return {.name = name,
          .infer = infer2,
          .kernel = map2<kFormula, kNs>,
          .backward = backward,
          .block = quick_block<kFormula, 2, kNs>(),
          .cost = map_cost<kFlops>,
          .inplace = 3};
}

template <auto kFormula, double kNs>
constexpr auto unary_kernel() -> Kernel (*)(const Site&) {
  if constexpr (kNs < 1) return by_block<kFormula, 1, kNs>;
  else return map1<kFormula, kNs>;
}

template <auto kFormula, double kNs = 0.3, int kFlops = 1>
Operator unary(const char* name, decltype(Operator::backward) backward) {
  return {.name = name,
          .infer = infer_same,
          .kernel = unary_kernel<kFormula, kNs>(),
          .backward = backward,
          .block = quick_block<kFormula, 1, kNs>(),
          .cost = map_cost<kFlops>,
          .inplace = 1};
}

template <auto kFormula>
Operator ternary(const char* name, decltype(Operator::backward) backward) {
  return {.name = name, .infer = infer3, .kernel = map3<kFormula>, .backward = backward, .inplace = 7};
}

// Comparisons look at the values only; their tangents are zero.
template <auto kTest, class T>
Kernel compare_kernel(const BroadcastLoop<2>& loop, bool dual) {
  return [loop, dual](const Launch& l) {
    T *y = l.out[0].as<T>(), *t = y + l.out[0].plane;
    auto test = [](T a, T b) { return kTest(a, b) ? T(1) : T(0); };
    map_broadcast<false, 2, T>(l.exec, loop, test, {View<T>(l.in[0]), View<T>(l.in[1])}, View<T>(y));
    if (dual) for_each(l.exec, loop.elements, [=](int64_t i) { t[i] = T(0); });
  };
}

template <auto kTest>
Kernel compare(const Site& site) {
  const auto loop = broadcast_loop<2>(site.out[0].shape, {site.in[0].shape, site.in[1].shape});
  const bool dual = is_dual(site.number);
  if (dtype_of(site.number) == DType::f32) return compare_kernel<kTest, float>(loop, dual);
  return compare_kernel<kTest, double>(loop, dual);
}

template <auto kTest>
Operator comparison(const char* name) {
  return {.name = name, .infer = infer2, .kernel = compare<kTest>, .inplace = 3};
}

constexpr auto kSum = [](auto a, auto b) { return a + b; };

Kernel add_kernel(const Site& site) {  // stored as bf16: of one shape
  if (site.out[0].kind == Kind::bf16) return by_block<kSum, 2>(site);
  return map2<kSum>(site);
}

void register_binary(Registry& r) {
  Operator sum = binary<kSum>("add", add_backward);
  sum.kernel = add_kernel;
  sum.bf16_in = 3, sum.bf16_out = 1;
  r.add(sum);
  r.add(binary<[](auto a, auto b) { return a - b; }>("sub", sub_backward));
  r.add(binary<[](auto a, auto b) { return a * b; }>("mul", mul_backward));
  r.add(binary<[](auto a, auto b) { return a / b; }>("div", div_backward));
  r.add(binary<[](auto a, auto b) { return maximum(a, b); }>("maximum", maximum_rule));
  r.add(binary<[](auto a, auto b) { return minimum(a, b); }>("minimum", minimum_rule));
  r.add(binary<[](auto a, auto b) { return pow(a, b); }, 4.0, 30>("pow", pow_backward));
  r.add(comparison<[](auto a, auto b) { return (a > b); }>("greater"));
  r.add(comparison<[](auto a, auto b) { return a >= b; }>("greater_equal"));
  r.add(comparison<[](auto a, auto b) { return a < b; }>("less"));
  r.add(comparison<[](auto a, auto b) { return a <= b; }>("less_equal"));
  r.add(comparison<[](auto a, auto b) { return a == b; }>("equal"));
  r.add(comparison<[](auto a, auto b) { return a != b; }>("not_equal"));
  r.add(ternary<[]<class N>(N test, N a, N b) { return select(value(test) != RealOf<N>(0), a, b); }>("where",
                                                                                                     where_backward));
  r.add(ternary<kLargerShare>("maximum_backward", nullptr));
  r.add(ternary<[]<class N>(N d, N a, N b) { return kLargerShare(d, -a, -b); }>("minimum_backward", nullptr));
}

void register_unary(Registry& r) {
  r.add(unary<[](auto x) { return -x; }>("neg", neg_backward));
  r.add(unary<[](auto x) { return exp(x); }, 1.0, 12>("exp", exp_backward));
  r.add(unary<[](auto x) { return expm1(x); }, 1.5, 20>("expm1", expm1_backward));
  r.add(unary<[](auto x) { return log(x); }, 1.0, 14>("log", log_backward));
  r.add(unary<[](auto x) { return log1p(x); }, 1.5, 20>("log1p", log1p_backward));
  r.add(unary<[](auto x) { return sqrt(x); }>("sqrt", sqrt_backward));
  r.add(unary<[](auto x) { return square(x); }>("square", square_backward));
  r.add(unary<[](auto x) { return abs(x); }>("abs", abs_rule));
  r.add(unary<[](auto x) { return sin(x); }, 2.0, 20>("sin", sin_backward));
  r.add(unary<[](auto x) { return cos(x); }, 2.0, 20>("cos", cos_backward));
  r.add(unary<[](auto x) { return erf(x); }, 2.0, 24>("erf", erf_backward));
  r.add({.name = "abs_backward",
         .infer = infer_pair,
         .kernel = by_block<kSignedLike, 2>,
         .block = block_of<kSignedLike, 2>,
         .inplace = 3});
}

}  // namespace

void register_elementwise(Registry& r) {
  register_binary(r);
  register_unary(r);
}

}  // namespace thalweg

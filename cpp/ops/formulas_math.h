// formulas_math.h: elementary functions and activations by name.
#pragma once
#include "../formula/activation.h"
#include "formulas.h"

namespace thalweg {

#define TW_ONE(f) table.template add<1>(#f, TW_FORMULA(auto x) { return f(x); })
#define TW_TWO(f) table.template add<2>(#f, TW_FORMULA(auto x, auto y) { return f(x, y); })
template <class Table>
void add_math(Table& table) {
  TW_ONE(exp);
  TW_ONE(expm1);
  TW_ONE(tanh);
  TW_ONE(log);
  TW_ONE(log1p);
  TW_ONE(erf);
  TW_ONE(sin);
  TW_ONE(cos);
  TW_ONE(sqrt);
  TW_ONE(abs);
  TW_TWO(pow);
  TW_TWO(maximum);
  TW_TWO(minimum);
  table.template add<3>("clamp", TW_FORMULA(auto x, auto low, auto high) { return clamp(x, value(low), value(high)); });
  table.template add<3>("fma", TW_FORMULA(auto a, auto b, auto c) { return fma(a, b, c); });
  TW_ONE(relu);
  TW_ONE(sigmoid);
  TW_ONE(gelu);
  TW_ONE(gelu_tanh);
  TW_ONE(softplus);
  TW_ONE(normal_cdf);
  TW_ONE(normal_pdf);
  table.template add<2>("leaky_relu", TW_FORMULA(auto x, auto slope) { return leaky_relu(x, value(slope)); });
  TW_TWO(relu_backward);
  TW_TWO(tanh_backward);
  TW_TWO(sigmoid_backward);
  TW_TWO(gelu_backward);
  TW_TWO(gelu_tanh_backward);
  TW_TWO(softplus_backward);
  table.template add<3>(
      "leaky_relu_backward",
      TW_FORMULA(auto d, auto x, auto slope) { return leaky_relu_backward(d, x, value(slope)); });
}
#undef TW_ONE
#undef TW_TWO

}  // namespace thalweg

// formulas_math.cpp: elementary functions and activations by name.
#include "../formula/activation.h"
#include "formulas.h"

namespace thalweg {

#define TW_ONE(f) entry<1>(#f, [](auto x) { return f(x); })
#define TW_TWO(f) entry<2>(#f, [](auto x, auto y) { return f(x, y); })

std::vector<Formula> math_formulas() {
  return {
      TW_ONE(exp),
      TW_ONE(expm1),
      TW_ONE(tanh),
      TW_ONE(log),
      TW_ONE(log1p),
      TW_ONE(erf),
      TW_ONE(sin),
      TW_ONE(cos),
      TW_ONE(sqrt),
      TW_ONE(abs),
      TW_TWO(pow),
      TW_TWO(maximum),
      TW_TWO(minimum),
      entry<3>("clamp", [](auto x, auto low, auto high) { return clamp(x, value(low), value(high)); }),
      entry<3>("fma", [](auto a, auto b, auto c) { return fma(a, b, c); }),
      TW_ONE(relu),
      TW_ONE(sigmoid),
      TW_ONE(gelu),
      TW_ONE(gelu_tanh),
      TW_ONE(softplus),
      TW_ONE(normal_cdf),
      TW_ONE(normal_pdf),
      entry<2>("leaky_relu", [](auto x, auto slope) { return leaky_relu(x, value(slope)); }),
      TW_TWO(relu_backward),
      TW_TWO(tanh_backward),
      TW_TWO(sigmoid_backward),
      TW_TWO(gelu_backward),
      TW_TWO(gelu_tanh_backward),
      TW_TWO(softplus_backward),
      entry<3>("leaky_relu_backward",
               [](auto d, auto x, auto slope) { return leaky_relu_backward(d, x, value(slope)); }),
  };
}

}  // namespace thalweg

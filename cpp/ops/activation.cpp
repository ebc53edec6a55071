// activation.cpp: relu, leaky_relu {slope}, tanh, sigmoid, gelu {approximate: "none" or "tanh"}, softplus.
// Formulas and their sources: formula/activation.h.   Shapes: any; y and the gradients have that of x.
// Saved for backward: y for relu, tanh and sigmoid, so x may give its memory to y; x for the others.
#include "../formula/activation.h"

#include "map.h"
#include "register.h"

namespace thalweg {
namespace {

using Values = std::vector<Value>;
using Flow = std::span<const Value>;

// What each rule names: the backward operator, and whether it reads y or x.
template <const char* kName, bool kReadsY>
Values rule(Recorder& g, const Applied& n, Flow d) {
  return {g.apply(kName, {d[0], kReadsY ? n.out[0] : n.in[0]}, n.attrs)};
}

constexpr char kRelu[] = "relu_backward", kLeakyRelu[] = "leaky_relu_backward", kTanh[] = "tanh_backward",
               kSigmoid[] = "sigmoid_backward", kGelu[] = "gelu_backward", kSoftplus[] = "softplus_backward";

// ---- leaky_relu: a slope from the attributes ----

BlockKernel leaky_relu_block(const Site& site) {
  return block_with<1>(
      site, [slope = site.attrs.real("slope", 0.01)]<class N>(N x) { return leaky_relu(x, RealOf<N>(slope)); });
}
BlockKernel leaky_relu_backward_block(const Site& site) {
  return block_with<2>(site, [slope = site.attrs.real("slope", 0.01)]<class N>(N d_y, N x) {
    return leaky_relu_backward(d_y, x, RealOf<N>(slope));
  });
}

template <BlockKernel (*kBlock)(const Site&)>
Kernel leaky_kernel(const Site& site) {
  return on_all(kBlock(site), site.out[0].shape.size(), 0.3);
}

// ---- gelu: one of two formulas ----

bool by_tanh(const Attrs& attrs) { return attrs.text("approximate", "none") == "tanh"; }

void check_approximate(const Inputs& in) {
  const std::string approximate = in.attrs.text("approximate", "none");
  check(approximate == "none" || approximate == "tanh", in, "approximate is '", approximate,
        "', expected 'none' or 'tanh'");
}

std::vector<Type> infer_gelu(const Inputs& in) {
  check_approximate(in);
  return infer_same(in);
}

std::vector<Type> infer_gelu_backward(const Inputs& in) {
  check_approximate(in);
  return infer_pair(in);
}

constexpr auto kGeluExact = [](auto x) { return gelu(x); };
constexpr auto kGeluTanh = [](auto x) { return gelu_tanh(x); };
constexpr auto kGeluExactBackward = [](auto d_y, auto x) { return gelu_backward(d_y, x); };
constexpr auto kGeluTanhBackward = [](auto d_y, auto x) { return gelu_tanh_backward(d_y, x); };

Kernel gelu_kernel(const Site& site) {
  return by_tanh(site.attrs) ? map1<kGeluTanh, 2.0>(site) : map1<kGeluExact, 2.0>(site);
}
Kernel gelu_backward_kernel(const Site& site) {
  return by_tanh(site.attrs) ? zip2<kGeluTanhBackward, 3.0>(site) : zip2<kGeluExactBackward, 3.0>(site);
}

std::vector<Type> infer_leaky_relu(const Inputs& in) {
  in.attrs.real("slope", 0.01);  // a slope that is no number is refused here
  return infer_same(in);
}

constexpr auto kReluOf = [](auto x) { return relu(x); };
constexpr auto kTanhOf = [](auto x) { return tanh(x); };
constexpr auto kSigmoidOf = [](auto x) { return sigmoid(x); };
constexpr auto kSoftplusOf = [](auto x) { return softplus(x); };
constexpr auto kReluBack = [](auto d_y, auto y) { return relu_backward(d_y, y); };
constexpr auto kTanhBack = [](auto d_y, auto y) { return tanh_backward(d_y, y); };
constexpr auto kSigmoidBack = [](auto d_y, auto y) { return sigmoid_backward(d_y, y); };
constexpr auto kSoftplusBack = [](auto d_y, auto x) { return softplus_backward(d_y, x); };

void register_forward(Registry& r) {
  r.add({.name = "relu",
         .infer = infer_same,
         .kernel = by_block<kReluOf, 1>,
         .backward = rule<kRelu, true>,
         .block = block_of<kReluOf, 1>,
         .inplace = 1,
         .bf16_in = 1,
         .bf16_out = 1});
  r.add({.name = "leaky_relu",
         .infer = infer_leaky_relu,
         .kernel = leaky_kernel<leaky_relu_block>,
         .backward = rule<kLeakyRelu, false>,
         .block = leaky_relu_block,
         .inplace = 1,
         .bf16_in = 1,
         .bf16_out = 1});
  r.add({.name = "tanh",
         .infer = infer_same,
         .kernel = by_block<kTanhOf, 1, 1.5>,
         .backward = rule<kTanh, true>,
         .block = block_of<kTanhOf, 1>,
         .cost = map_cost<20>,
         .inplace = 1,
         .bf16_in = 1,
         .bf16_out = 1});
  r.add({.name = "sigmoid",
         .infer = infer_same,
         .kernel = by_block<kSigmoidOf, 1, 1.5>,
         .backward = rule<kSigmoid, true>,
         .block = block_of<kSigmoidOf, 1>,
         .cost = map_cost<16>,
         .inplace = 1,
         .bf16_in = 1,
         .bf16_out = 1});
  r.add({.name = "gelu",
         .infer = infer_gelu,
         .kernel = gelu_kernel,
         .backward = rule<kGelu, false>,
         .cost = map_cost<28>,
         .inplace = 1});
  r.add({.name = "softplus",
         .infer = infer_same,
         .kernel = map1<kSoftplusOf, 2.0>,
         .backward = rule<kSoftplus, false>,
         .cost = map_cost<30>,
         .inplace = 1});
}

void register_backward(Registry& r) {
  r.add({.name = kRelu,
         .infer = infer_pair,
         .kernel = by_block<kReluBack, 2>,
         .block = block_of<kReluBack, 2>,
         .inplace = 3,
         .bf16_in = 3,
         .bf16_out = 1});
  r.add({.name = kLeakyRelu,
         .infer = infer_pair,
         .kernel = leaky_kernel<leaky_relu_backward_block>,
         .block = leaky_relu_backward_block,
         .inplace = 3,
         .bf16_in = 3,
         .bf16_out = 1});
  r.add({.name = kTanh,
         .infer = infer_pair,
         .kernel = by_block<kTanhBack, 2>,
         .block = block_of<kTanhBack, 2>,
         .cost = map_cost<3>,
         .inplace = 3,
         .bf16_in = 3,
         .bf16_out = 1});
  r.add({.name = kSigmoid,
         .infer = infer_pair,
         .kernel = by_block<kSigmoidBack, 2>,
         .block = block_of<kSigmoidBack, 2>,
         .cost = map_cost<3>,
         .inplace = 3,
         .bf16_in = 3,
         .bf16_out = 1});
  r.add({.name = kGelu,
         .infer = infer_gelu_backward,
         .kernel = gelu_backward_kernel,
         .cost = map_cost<45>,
         .inplace = 3});
  r.add(
      {.name = kSoftplus, .infer = infer_pair, .kernel = zip2<kSoftplusBack, 1.5>, .cost = map_cost<17>, .inplace = 3});
}

}  // namespace

void register_activation(Registry& r) {
  register_forward(r);
  register_backward(r);
}

}  // namespace thalweg

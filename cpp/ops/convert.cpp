// convert.cpp: between the two ways of storing a real value of a plan in bf16 (plan/precision.h records these nodes).
//   to_bf16      rounded to nearest        to_float32   exact
// Shapes: any; y has that of x. float32 only.
#include "map.h"
#include "register.h"

namespace thalweg {
namespace {

template <class From, class To>
BlockKernel block(const Site&) {
  return [](const Launch& l, const Block& part) {
    const View<From> x(l.in[0]);
    const View<To> y(l.out[0]);
    for_block<true>(part, [=](int64_t i) { y.set(i, x[i]); });
  };
}

template <class From, class To>
Kernel kernel(const Site& site) {
  return on_all(block<From, To>(site), site.out[0].shape.size(), 0.2);
}

template <Kind from, Kind to>
std::vector<Type> infer(const Inputs& in) {
  check_count(in, 1, 1);
  check(in[0].kind == from, in, "x of shape ", in[0].shape, " is not stored as ", name_of(DType::f32, from));
  return {{in[0].shape, to, place_of(in[0])}};
}

template <class From, class To, Kind from, Kind to>
Operator convert(const char* name) {
  return {.name = name, .infer = infer<from, to>, .kernel = kernel<From, To>, .block = block<From, To>};
}

}  // namespace

void register_convert(Registry& r) {
  r.add(convert<float, Bf16, Kind::real, Kind::bf16>(kToBf16));
  r.add(convert<Bf16, float, Kind::bf16, Kind::real>(kToFloat32));
}

}  // namespace thalweg

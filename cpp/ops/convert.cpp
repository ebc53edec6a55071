// convert.cpp: between the two ways of storing a real value of a plan in bf16 (plan/precision.h records these nodes).
//   to_bf16      rounded to nearest        to_float32   exact
// Shapes: any; y has that of x. float32 only.
#include "map.h"
#include "register.h"

namespace thalweg {
namespace {

template <class Move>
BlockKernel by_runs(Move move) {
  return [move](const Launch& l, const Block& b) {
    for (int64_t r = 0, i = b.begin; r < b.rows; r++, i += b.step) move(l.in[0], l.out[0], i, b.n);
  };
}

BlockKernel round_block(const Site&) {
  return by_runs([](const Buffer& x, const Buffer& y, int64_t i, int64_t n) {
    store_stored(x.as<float>() + i, n, y.as<Bf16>() + i);
  });
}
BlockKernel load_block(const Site&) {
  return by_runs([](const Buffer& x, const Buffer& y, int64_t i, int64_t n) {
    load_stored(x.as<Bf16>() + i, n, y.as<float>() + i);
  });
}

template <BlockKernel (*kBlock)(const Site&)>
Kernel kernel(const Site& site) {
  return on_all(kBlock(site), site.out[0].shape.size(), 0.2);
}

template <Kind from, Kind to>
std::vector<Type> infer(const Inputs& in) {
  check_count(in, 1, 1);
  check(in[0].kind == from, in, "x of shape ", in[0].shape, " is not stored as ", name_of(DType::f32, from));
  return {{in[0].shape, to, place_of(in[0])}};
}

}  // namespace

void register_convert(Registry& r) {
  r.add({.name = kToBf16, .infer = infer<Kind::real, Kind::bf16>, .kernel = kernel<round_block>, .block = round_block});
  r.add(
      {.name = kToFloat32, .infer = infer<Kind::bf16, Kind::real>, .kernel = kernel<load_block>, .block = load_block});
}

}  // namespace thalweg

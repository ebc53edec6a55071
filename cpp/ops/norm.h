// norm.h: checks and rules that the normalising operators share.
#pragma once
#include "common.h"

namespace thalweg {

inline void check_eps(const Inputs& in) {
  const double eps = in.attrs.real("eps");
  check(eps >= 0 && eps < 1e30, in, "eps is ", eps, ", expected a number of at least 0");
}

// Inputs from i on: none, or gamma and beta of the given shape.
inline void check_affine(const Inputs& in, size_t i, const Shape& expected, const std::string& why) {
  if (in.size() == i) return;
  check(in.size() == i + 2, in, "takes gamma and beta together, got ", in.size() - i, " of them");
  for (size_t k : {i, i + 1}) {
    const char* name = k == i ? "gamma" : "beta";
    check_real(in, k, name);
    check_shape(in, k, name, expected, why.c_str());
    check_replicated(in, k, name);
  }
}

// Row k of a (2, C) value, in the shape of a parameter.
inline Value row_of(Recorder& r, Value sums, int64_t k, const Shape& shape, bool own = false) {
  using Ints = std::vector<int64_t>;
  const int64_t channels = r.type(sums).shape[1];
  Attrs slice{{"begin", Ints{k, 0}}, {"end", Ints{k + 1, channels}}, {"step", Ints{1, 1}}};
  Attrs reshape{{"shape", shape.vector()}};
  if (own) slice.set(kSync, "rank"), reshape.set(kSync, "rank");
  return r.apply("reshape", {r.apply("slice", {sums}, slice)}, reshape);
}

}  // namespace thalweg

// window.h: checks shared by the operators that slide a window over images (N, H, W, C): conv2d and pooling.
#pragma once
#include "common.h"

namespace thalweg {

inline constexpr int64_t kLargestInt = int64_t(1) << 31;  // of a window's numbers: sums and products of two fit 63 bits

// Attribute `name` holds `count` integers of at least `least`.
inline void check_ints(const Inputs& in, const char* name, size_t count, int64_t least) {
  const std::vector<int64_t>& v = in.attrs.ints(name);
  check(v.size() == count, in, name, " has ", v.size(), " numbers, expected ", count);
  for (int64_t n : v)
    check(n >= least && n <= kLargestInt, in, name, " is ", n, ", expected ", least, " to ", kLargestInt);
}

// Input i is a batch of images with pixels and channels; there may be no images.
inline void check_image(const Inputs& in, size_t i, const char* name) {
  check_real(in, i, name);
  check_rank(in, i, name, 4, 4);
  const Shape& x = in[i].shape;
  check(x[1] > 0 && x[2] > 0 && x[3] > 0, in, name, " of shape ", x, " has no pixels or no channels");
  check(x[1] <= kLargestInt && x[2] <= kLargestInt, in, name, " of shape ", x, " is too large");
}

}  // namespace thalweg

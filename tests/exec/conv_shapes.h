// conv_shapes.h: convolutions that the checks of products try.
#pragma once
#include "exec/conv.h"
#include "products_check.h"

namespace thalweg {

// Up to so many images, pixels and kernel positions along an axis, groups, and channels of a depthwise one.
inline Conv random_conv(int64_t images, int64_t size, int64_t kernel, int64_t groups, int64_t depth) {
  Conv v{pick(0, images), pick(1, size), pick(1, size), pick(1, 40), pick(1, 40), pick(1, kernel), pick(1, kernel)};
  v.stride_h = pick(1, 3), v.stride_w = pick(1, 3), v.dilation_h = pick(1, 2), v.dilation_w = pick(1, 2);
  v.pad_top = pick(0, 3), v.pad_bottom = pick(0, 3), v.pad_left = pick(0, 3), v.pad_right = pick(0, 3);
  if (pick(0, 3) == 0) {
    v.groups = pick(2, groups);
    v.c = v.groups * pick(1, 8), v.out = v.groups * pick(1, 20);
  } else if (pick(0, 4) == 0) {
    v.c = v.out = v.groups = pick(1, depth);
  }
  return v;
}
inline Conv same_conv(int64_t n, int64_t size, int64_t c, int64_t out, int64_t kernel, int64_t stride = 1) {
  Conv v{n, size, size, c, out, kernel, kernel};
  v.stride_h = v.stride_w = stride;
  v.pad_top = v.pad_bottom = v.pad_left = v.pad_right = kernel / 2;
  return v;
}
// Of many channels, with a padding that is not even.
inline Conv panels_conv(int64_t groups) {
  Conv v = same_conv(3, 5, 128, 120, 3);
  v.groups = groups, v.pad_top = 2, v.pad_left = 0, v.pad_right = 3;
  v.stride_h = v.dilation_w = groups;
  return v;
}
inline Conv depthwise_conv(int64_t n, int64_t h, int64_t w, int64_t c, int64_t kh, int64_t kw) {
  Conv v{n, h, w, c, c, kh, kw};
  v.groups = c;
  v.pad_top = v.pad_bottom = kh / 2, v.pad_left = v.pad_right = kw / 2;
  return v;
}

}  // namespace thalweg

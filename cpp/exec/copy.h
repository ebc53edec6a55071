// copy.h: moves elements between two strided layouts: transpose, slice, concat, broadcast. No arithmetic, no order to
// keep. Contiguous stretches are copied as such; a transpose goes through square tiles, so both sides use whole cache
// lines.
#pragma once
#include "broadcast.h"

namespace thalweg {

// Element (i0, i1, ...) goes from in[in_offset + sum i stride[0]] to out[out_offset + sum i stride[1]].
struct Copy : Strided<2> {
  int64_t elements = 0, in_offset = 0, out_offset = 0;
  int fast = -1;  // the axis on which the input is contiguous, when it is not the last one: a transpose
};

inline Copy strided_copy(std::span<const int64_t> extent, std::span<const int64_t> in_stride,
                         std::span<const int64_t> out_stride, int64_t in_offset = 0, int64_t out_offset = 0) {
  Copy copy;
  copy.elements = 1;
  for (int64_t n : extent) copy.elements *= n;
  copy.in_offset = in_offset;
  copy.out_offset = out_offset;
  if (copy.elements == 0) return copy;
  for (size_t i = 0; i < extent.size(); i++) copy.append(extent[i], {in_stride[i], out_stride[i]});
  const int last = copy.rank - 1;
  for (int i = 0; i < last && copy.stride[0][last] > 1; i++)
    if (copy.stride[0][i] == 1) copy.fast = i;
  return copy;
}

// Row-major strides of a shape.
inline std::vector<int64_t> strides_of(const Shape& shape) {
  std::vector<int64_t> stride(shape.rank(), 1);
  for (int i = shape.rank() - 2; i >= 0; i--) stride[i] = stride[i + 1] * shape[i + 1];
  return stride;
}

namespace copy_detail {

inline constexpr int64_t kTile = 32;

template <class T>
void copy_row(const T* __restrict__ in, T* __restrict__ out, int64_t in_step, int64_t out_step, int64_t n) {
  if (in_step == 1 && out_step == 1) {
    for (int64_t j = 0; j < n; j++) out[j] = in[j];
  } else if (in_step == 0 && out_step == 1) {
    for (int64_t j = 0; j < n; j++) out[j] = *in;
  } else {
    for (int64_t j = 0; j < n; j++) out[j * out_step] = in[j * in_step];
  }
}

// Rows [a0, a1) of the fast axis, all of the last one; in and out point at element 0 of both.
template <class T>
void transpose_rows(const Copy& copy, const T* __restrict__ in, T* __restrict__ out, int64_t a0, int64_t a1) {
  const int last = copy.rank - 1;
  const int64_t n = copy.extent[last], in_step = copy.stride[0][last], out_step = copy.stride[1][last];
  const int64_t out_row = copy.stride[1][copy.fast];
  for (int64_t b0 = 0; b0 < n; b0 += kTile) {
    const int64_t b1 = std::min(n, b0 + kTile);
    for (int64_t a = a0; a < a1; a++)
      for (int64_t b = b0; b < b1; b++) out[a * out_row + b * out_step] = in[a + b * in_step];
  }
}

template <class T>
void transpose(const Exec& exec, const Copy& copy, const T* in, T* out, double work_ns) {
  Strided<2> outer;  // the axes but the two that are tiled
  for (int i = 0; i < copy.rank - 1; i++)
    if (i != copy.fast) outer.append(copy.extent[i], {copy.stride[0][i], copy.stride[1][i]});
  const int64_t rows = copy.extent[copy.fast], tiles = (rows + kTile - 1) / kTile;
  exec.parallel(outer.size() * tiles, work_ns, [&](int64_t task, int) {
    const int64_t a0 = task % tiles * kTile, a1 = std::min(rows, a0 + kTile), item = task / tiles;
    walk<2>(outer, item, item + 1, [&](int64_t, const std::array<int64_t, 2>& at, int64_t) {
      transpose_rows(copy, in + at[0], out + at[1], a0, a1);
    });
  });
}

}  // namespace copy_detail

template <class T>
void run_copy(const Exec& exec, const Copy& copy, const T* in, T* out) {
  using namespace copy_detail;
  const int64_t n = copy.elements;
  if (n == 0) return;
  in += copy.in_offset;
  out += copy.out_offset;
  const double work_ns = double(n) * (copy.fast >= 0 ? 1.0 : 0.3);
  if (copy.fast >= 0) return transpose(exec, copy, in, out, work_ns);
  exec.parallel((n + kElementsPerTask - 1) / kElementsPerTask, work_ns, [&](int64_t task, int) {
    const int64_t begin = task * kElementsPerTask, end = std::min(n, begin + kElementsPerTask);
    walk<2>(copy, begin, end, [&](int64_t, const std::array<int64_t, 2>& at, int64_t count) {
      copy_row(in + at[0], out + at[1], copy.inner_stride(0), copy.inner_stride(1), count);
    });
  });
}

}  // namespace thalweg

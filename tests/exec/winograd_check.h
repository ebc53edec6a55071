// winograd_check.h: the sums of conv_winograd.h, number by number, with the engine's transforms in one dimension: their
// order is checked here, their formula by tests of conv2d beside float64.
#pragma once
#include "conv_shapes.h"
#include "exec/conv_winograd.h"
#include "exec/winograd.h"
#include "matmul_check.h"

namespace thalweg {

using Points = std::array<float, 16>;  // (a, b) at 4 a + b

// A transform of at(r, s), down, then across.
template <int from, int to, class At, class F>
std::array<float, to * to> ref_both_ways(At at, F transform) {
  float down[to][from];
  for (int s = 0; s < from; s++) {
    float column[from], made[to];
    for (int r = 0; r < from; r++) column[r] = at(r, s);
    transform(column, made);
    for (int a = 0; a < to; a++) down[a][s] = made[a];
  }
  std::array<float, to * to> result;
  for (int a = 0; a < to; a++) {
    float made[to];
    transform(down[a], made);
    std::copy_n(made, to, &result[to * a]);
  }
  return result;
}
template <class At>
Points ref_winograd_input(At d) {
  return ref_both_ways<4, 4>(d, [](const float (&in)[4], float (&out)[4]) { winograd_input(in, out); });
}
template <class At>
Points ref_winograd_weight(At g) {
  return ref_both_ways<3, 4>(g, [](const float (&in)[3], float (&out)[4]) { winograd_weight(in, out); });
}
inline std::array<float, 4> ref_winograd_output(const Points& m) {
  return ref_both_ways<4, 2>([&](int a, int b) { return m[4 * a + b]; },
                             [](const float (&in)[4], float (&out)[2]) { winograd_output(in, out); });
}
template <class At>
Points ref_winograd_d_output(At y) {
  return ref_both_ways<2, 4>(y, [](const float (&in)[2], float (&out)[4]) {
    out[0] = in[0], out[1] = in[0] + in[1], out[2] = in[0] - in[1], out[3] = in[1];
  });
}
// (r, s) at 3 r + s; across first.
inline std::array<float, 9> ref_winograd_d_weight(const Points& u) {
  const auto turned = ref_both_ways<4, 3>([&](int b, int a) { return u[4 * a + b]; },
                                          [](const float (&in)[4], float (&out)[3]) { winograd_d_weight(in, out); });
  std::array<float, 9> g;
  for (int i = 0; i < 9; i++) g[i] = turned[3 * (i % 3) + i / 3];
  return g;
}

// The pixel, or +0 outside.
inline float ref_pixel(const float* image, int64_t h, int64_t w, int64_t c, int64_t y, int64_t x, int64_t channel) {
  return y >= 0 && y < h && x >= 0 && x < w ? image[(y * w + x) * c + channel] : 0.0f;
}

// Every output without bias, in the order of a whole result.
inline std::vector<float> ref_winograd(const TapConv& v, const float* source, const float* weight) {
  std::vector<float> out(v.n * v.out_image);
  const int64_t in = v.group_in, outs = v.group_out;
  std::vector<Points> u(v.groups * outs * in), square(in);
  for (int64_t g = 0; g < v.groups; g++)
    for (int64_t o = 0; o < outs; o++)
      for (int64_t c = 0; c < in; c++)
        u[(g * outs + o) * in + c] = ref_winograd_weight(
            [&](int64_t r, int64_t s) { return weight[g * v.w_group + v.weight_at(r, s) + c * v.w_in + o * v.w_out]; });
  for (int64_t n = 0; n < v.n; n++)
    for (int64_t i = 0; i < v.rows; i += 2)
      for (int64_t j = 0; j < v.cols; j += 2)
        for (int64_t g = 0; g < v.groups; g++) {
          for (int64_t c = 0; c < in; c++)
            square[c] = ref_winograd_input([&](int64_t r, int64_t s) {
              return ref_pixel(source + n * v.in_h * v.in_w * v.in_c, v.in_h, v.in_w, v.in_c, i + v.tap_h.offset + r,
                               j + v.tap_w.offset + s, g * in + c);
            });
          for (int64_t o = 0; o < outs; o++) {
            Points m;
            for (int p = 0; p < 16; p++) {
              BlockSum<float> sum;
              for (int64_t c = 0; c < in; c++) sum.add(square[c][p], u[(g * outs + o) * in + c][p]);
              m[p] = sum.sum();
            }
            const auto y = ref_winograd_output(m);
            for (int64_t p = 0; p < std::min<int64_t>(2, v.rows - i); p++)
              for (int64_t q = 0; q < std::min<int64_t>(2, v.cols - j); q++)
                out[n * v.out_image + (i + p) * v.out_row + (j + q) * v.out_col + g * outs + o] = y[2 * p + q];
          }
        }
  return out;
}

// All of d_w.
inline std::vector<float> ref_winograd_weights(const Conv& v, const Shards& shards, const float* x, const float* d_y) {
  const int64_t down = divide_up(v.out_h(), 2), across = divide_up(v.out_w(), 2), squares = v.n * down * across;
  const int64_t in = v.group_in();
  std::vector<Points> input(v.c * squares), output(v.out * squares);
  for (int64_t s = 0; s < squares; s++) {
    const int64_t n = s / (down * across), i = s / across % down * 2, j = s % across * 2;
    for (int64_t c = 0; c < v.c; c++)
      input[c * squares + s] = ref_winograd_input([&](int64_t r, int64_t t) {
        return ref_pixel(x + n * v.h * v.w * v.c, v.h, v.w, v.c, i - v.pad_top + r, j - v.pad_left + t, c);
      });
    for (int64_t o = 0; o < v.out; o++)
      output[o * squares + s] = ref_winograd_d_output([&](int64_t p, int64_t q) {
        return ref_pixel(d_y + n * v.out_h() * v.out_w() * v.out, v.out_h(), v.out_w(), v.out, i + p, j + q, o);
      });
  }
  // U of a shard, of an output and a channel.
  auto points_of = [&](int64_t shard, const Points* a, const Points* b) {
    const int64_t first = shards.offset[shard] * down * across, last = shards.offset[shard + 1] * down * across;
    Points u;
    for (int p = 0; p < 16; p++)
      u[p] = ref_fold<float>(divide_up(last - first, kWinogradLeaf), [&](int64_t leaf) {
        const int64_t begin = first + leaf * kWinogradLeaf;
        float sum = 0;
        for (int64_t i = begin; i < std::min(last, begin + kWinogradLeaf); i++) sum = std::fma(a[i][p], b[i][p], sum);
        return sum;
      });
    return u;
  };
  std::vector<float> d_w(v.out * 9 * in);
  for (int64_t o = 0; o < v.out; o++)
    for (int64_t c = 0; c < in; c++) {
      std::vector<std::array<float, 9>> kernel;
      for (int s = 0; s < shards.count(); s++) {
        const Points* x_of = &input[(o / v.group_out() * in + c) * squares];
        kernel.push_back(ref_winograd_d_weight(points_of(s, x_of, &output[o * squares])));
      }
      for (int i = 0; i < 9; i++)
        d_w[(o * 9 + i) * in + c] = ref_fold<float>(shards.count(), [&](int64_t s) { return kernel[s][i]; });
    }
  return d_w;
}

}  // namespace thalweg

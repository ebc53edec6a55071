// winograd_check.h: the sums of conv_winograd.h, number by number, with the engine's transforms in one dimension: their
// order is checked here, their formula by tests of conv2d beside float64.
#pragma once
#include "conv_shapes.h"
#include "exec/conv_winograd.h"
#include "exec/winograd.h"
#include "matmul_check.h"

namespace thalweg {

using Points = std::array<float, 16>;  // (a, b) at 4 a + b

// B' d B, d(r, s) a pixel.
template <class F>
Points ref_winograd_input(F d) {
  float down[4][4];
  for (int s = 0; s < 4; s++) {
    const float column[4] = {d(0, s), d(1, s), d(2, s), d(3, s)};
    float to[4];
    winograd_input(column, to);
    for (int a = 0; a < 4; a++) down[a][s] = to[a];
  }
  Points v;
  for (int a = 0; a < 4; a++) {
    float to[4];
    winograd_input(down[a], to);
    std::copy_n(to, 4, &v[4 * a]);
  }
  return v;
}
// G g G'.
template <class F>
Points ref_winograd_weight(F g) {
  float down[4][3];
  for (int s = 0; s < 3; s++) {
    const float column[3] = {g(0, s), g(1, s), g(2, s)};
    float to[4];
    winograd_weight(column, to);
    for (int a = 0; a < 4; a++) down[a][s] = to[a];
  }
  Points u;
  for (int a = 0; a < 4; a++) {
    float to[4];
    winograd_weight(down[a], to);
    std::copy_n(to, 4, &u[4 * a]);
  }
  return u;
}
// A' m A.
inline std::array<float, 4> ref_winograd_output(const Points& m) {
  float down[2][4];
  for (int b = 0; b < 4; b++) {
    const float column[4] = {m[b], m[4 + b], m[8 + b], m[12 + b]};
    float to[2];
    winograd_output(column, to);
    down[0][b] = to[0], down[1][b] = to[1];
  }
  float y[2][2];
  winograd_output(down[0], y[0]), winograd_output(down[1], y[1]);
  return {y[0][0], y[0][1], y[1][0], y[1][1]};
}
// A y A', y(p, q) an output.
template <class F>
Points ref_winograd_d_output(F y) {
  auto spread = [](float first, float second) {
    return std::array<float, 4>{first, first + second, first - second, second};
  };
  const auto left = spread(y(0, 0), y(1, 0)), right = spread(y(0, 1), y(1, 1));
  Points m;
  for (int a = 0; a < 4; a++) std::ranges::copy(spread(left[a], right[a]), &m[4 * a]);
  return m;
}
// G' u G: (r, s) at 3 r + s, from across first.
inline std::array<float, 9> ref_winograd_d_weight(const Points& u) {
  float across[4][3];
  for (int a = 0; a < 4; a++) {
    const float row[4] = {u[4 * a], u[4 * a + 1], u[4 * a + 2], u[4 * a + 3]};
    winograd_d_weight(row, across[a]);
  }
  std::array<float, 9> g;
  for (int s = 0; s < 3; s++) {
    const float column[4] = {across[0][s], across[1][s], across[2][s], across[3][s]};
    float to[3];
    winograd_d_weight(column, to);
    for (int r = 0; r < 3; r++) g[3 * r + s] = to[r];
  }
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

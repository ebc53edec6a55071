// winograd.h: the transforms of Winograd's minimal filtering F(2x2, 3x3), in one dimension: two outputs of a
// convolution of stride 1 with three weights take four multiplications instead of six, so a square of 2 x 2 outputs
// takes 16 instead of 36.
//   y = A' [(G g) . (B' d)]       y_i = sum_j d_(i+j) g_j,  4 numbers d, 3 weights g, 2 outputs y
// In two dimensions each is applied down, then across. The gradient of the weights is the adjoint: d_g = G' [(B' d) .
// (A d_y)]. Sums of small whole numbers are exact; in general errors are up to about twice those of plain sums, and
// relative to the largest of the 4 x 4 inputs of a square, not of an output's own 3 x 3. Winograd, Arithmetic
// Complexity of Computations, 1980; Lavin and Gray, 2016.
#pragma once
#include "vector.h"

namespace thalweg {

inline constexpr int kWinogradPoints = 16;  // products of a square

// V is a number or a vector of them. B' d, number i of it: only two of d's are looked at.
template <int i, class V>
TW_INLINE V winograd_input_at(const V (&d)[4]) {
  static_assert(i >= 0 && i < 4);
  if constexpr (i == 0) return d[0] - d[2];
  else if constexpr (i == 1) return d[1] + d[2];
  else if constexpr (i == 2) return d[2] - d[1];
  else return d[3] - d[1];
}
template <class V>
TW_INLINE void winograd_input(const V (&d)[4], V (&to)[4]) {
  each<4>([&](auto i) { to[i] = winograd_input_at<i>(d); });
}
// G g.
template <class V>
TW_INLINE void winograd_weight(const V (&g)[3], V (&to)[4]) {
  const V outer = (g[0] + g[2]) * 0.5f, inner = g[1] * 0.5f;
  to[0] = g[0], to[1] = outer + inner, to[2] = outer - inner, to[3] = g[2];
}
// A' m.
template <class V>
TW_INLINE void winograd_output(const V (&m)[4], V (&to)[2]) {
  to[0] = (m[0] + m[1]) + m[2], to[1] = (m[1] - m[2]) + m[3];
}
// A d_y, number i of it.
template <int i, class V>
TW_INLINE V winograd_d_output_at(const V (&d_y)[2]) {
  static_assert(i >= 0 && i < 4);
  if constexpr (i == 0) return d_y[0];
  else if constexpr (i == 1) return d_y[0] + d_y[1];
  else if constexpr (i == 2) return d_y[0] - d_y[1];
  else return d_y[1];
}
// G' u.
template <class V>
TW_INLINE void winograd_d_weight(const V (&u)[4], V (&to)[3]) {
  const V sum = (u[1] + u[2]) * 0.5f;
  to[0] = u[0] + sum, to[1] = (u[1] - u[2]) * 0.5f, to[2] = sum + u[3];
}

// A transform in two dimensions: down, then across.
template <int from, int to, class V, class F>
TW_INLINE void winograd_square(const V (&d)[from][from], V (&result)[to][to], F transform) {
  V down[to][from];
  TW_UNROLL for (int s = 0; s < from; s++) {
    V column[from], made[to];
    TW_UNROLL for (int r = 0; r < from; r++) column[r] = d[r][s];
    transform(column, made);
    TW_UNROLL for (int a = 0; a < to; a++) down[a][s] = made[a];
  }
  TW_UNROLL for (int a = 0; a < to; a++) transform(down[a], result[a]);
}

}  // namespace thalweg

// batch_norm.h: normalise each channel of a mini-batch, forward and backward.
//   x_hat = (x - mean) inv_std,  inv_std = 1 / sqrt(var + eps),  y = gamma x_hat + beta     (var biased, over m rows)
// Backward, sums over the rows; d_x_hat = gamma d_y:
//   d_beta = sum d_y,  d_gamma = sum d_y x_hat
//   d_var  = sum d_x_hat (x - mean) (-1/2) inv_std^3
//   d_mean = -inv_std sum d_x_hat                         (+ d_var sum -2 (x - mean) / m, which is 0)
//   d_x    = d_x_hat inv_std + d_var 2 (x - mean) / m + d_mean / m
//          = gamma inv_std (d_y - sum d_y / m - x_hat sum (d_y x_hat) / m)
// Source: Ioffe & Szegedy 2015, arXiv:1502.03167, algorithm 1.
#pragma once
#include "number.h"

namespace thalweg {

template <class N>
TW_HD N inv_std(N var, RealOf<N> eps) {
  return N(1) / sqrt(var + eps);
}
template <class N>
TW_HD N normalize(N x, N mean, N inv_std) {
  return (x - mean) * inv_std;
}
template <class N>
TW_HD N affine(N x_hat, N gamma, N beta) {
  return fma(gamma, x_hat, beta);
}

// d_x of one element. mean_d = sum d_y / m, mean_d_x_hat = sum (d_y x_hat) / m; scale = gamma inv_std.
template <class N>
TW_HD N normalize_backward(N d_y, N x_hat, N mean_d, N mean_d_x_hat, N scale) {
  return scale * ((d_y - mean_d) - x_hat * mean_d_x_hat);
}

// new = (1 - momentum) old + momentum batch.
template <class N>
TW_HD N running(N old, N batch, RealOf<N> momentum) {
  return (RealOf<N>(1) - momentum) * old + momentum * batch;
}

}  // namespace thalweg

// layer_norm.h: normalise each sample over its trailing axes, forward and backward.
//   x_hat = (x - mean) inv_std,  y = gamma x_hat + beta       mean, biased var over the D elements of the sample;
// gamma and beta belong to the elements. With d_x_hat = gamma d_y and means over the D elements:
//   d_x = inv_std (d_x_hat - mean(d_x_hat) - x_hat mean(d_x_hat x_hat)),  d_gamma = sum d_y x_hat,  d_beta = sum d_y
// the last two over the samples. The element formulas (normalize, affine, inv_std) are batch norm's.
// Source: Ba, Kiros & Hinton 2016, arXiv:1607.06450.
#pragma once
#include "batch_norm.h"

namespace thalweg {

template <class N>
TW_HD N layer_norm(N x, N mean, N inv_std, N gamma, N beta) {
  return affine(normalize(x, mean, inv_std), gamma, beta);
}
// mean_d, mean_d_x_hat: of d_x_hat = gamma d_y and of d_x_hat x_hat over the sample.
template <class N>
TW_HD N layer_norm_backward(N d_y, N gamma, N x_hat, N mean_d, N mean_d_x_hat, N inv_std) {
  return normalize_backward(gamma * d_y, x_hat, mean_d, mean_d_x_hat, inv_std);
}

}  // namespace thalweg

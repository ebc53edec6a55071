// loss.h: cross entropy on logits and the squared error.
// Over C classes, m = max z and S = sum e^(z - m):  lse = m + log S,  p_c = e^(z_c - lse).
//   cross entropy with smoothing s:  (1 - s) (lse - z_label) + s (lse - mean z);  d/dz_c = p_c - target_c
//   target_c = (1 - s) [c = label] + s / C.     With a distribution t as labels: sum t_c (lse - z_c); d = p_c sum t -
//   t_c
#pragma once
#include "math.h"

namespace thalweg {

template <class N>
TW_HD N log_sum_exp(N max, N sum_exp) {
  return max + log(sum_exp);
}
template <class N>
TW_HD N softmax(N z, N lse) {
  return exp(z - lse);
}
// d_x of softmax and log_softmax; dot = sum d_y y, sum = sum d_y along the axis.
template <class N>
TW_HD N softmax_backward(N d_y, N y, N dot) {
  return y * (d_y - dot);
}
template <class N>
TW_HD N log_softmax_backward(N d_y, N y, N sum) {
  return d_y - exp(y) * sum;
}

template <class N>
TW_HD N cross_entropy(N lse, N z_label, N mean_z, RealOf<N> smoothing) {
  const N spread =
      smoothing * (z_label - mean_z);  // NaN for an infinite logit, which must not matter without smoothing
  return (lse - z_label) + select(smoothing == RealOf<N>(0), N(0), spread);
}
template <class T>
TW_HD T smooth_target(bool is_label, T smoothing, T classes) {
  return select(is_label, T(1) - smoothing, T(0)) + smoothing / classes;
}
template <class N>
TW_HD N cross_entropy_backward(N d_loss, N z, N lse, N target) {
  return d_loss * (softmax(z, lse) - target);
}
// The same with e^(z - m) and S at hand: one division instead of a second exp. total = sum t.
template <class N>
TW_HD N probability(N exp_z, N sum_exp) {
  return exp_z / sum_exp;
}
template <class N>
TW_HD N cross_entropy_gradient(N d_loss, N p, N total, N target) {
  return d_loss * (p * total - target);
}
// One term of sum t (lse - z); where t is 0 the term is 0, even for z = -inf.
template <class N>
TW_HD N cross_entropy_term(N t, N z, N lse) {
  return select(value(t) == RealOf<N>(0) && tangent(t) == RealOf<N>(0), N(0), t * (lse - z));
}

// One term of the mean over n elements; d/d prediction, which is minus d/d target.
template <class N>
TW_HD N squared_error(N prediction, N target) {
  return square(prediction - target);
}
template <class N>
TW_HD N mse_backward(N d_loss, N prediction, N target, RealOf<N> n) {
  return d_loss * (prediction - target) * (RealOf<N>(2) / n);
}

}  // namespace thalweg

// optimizer.h: one element's update by each rule: (w, state), g -> (w, state). Rates are computed in double once a
// step.
//   before every rule:  g = clip(grad_scale g) + l2 w;  w = shrink w          (shrink = 1 - lr weight_decay: AdamW)
//   sgd         v = momentum v + (1 - dampening) g (first step: v = g)        w -= lr v
//   nesterov    the same v                                                    w -= lr (g + momentum v)
//   heavy_ball  u = momentum u - lr g                                         w += u       u = w - w_previous
//   duda        u = momentum u - (1 - momentum) lr g                          w += u       u: the previous *update*
//   adagrad     s += g^2                                                      w -= lr g / root(s)
//   rmsprop     s = decay s + (1 - decay) g^2                                 w -= lr g / root(s)
//               with momentum: v = momentum v + g / root(s)                   w -= lr v
//   adam        m = beta1 m + (1 - beta1) g; s = beta2 s + (1 - beta2) g^2    w -= lr c1 m / root(c2 s)
//               c = 1 / (1 - beta^t), or 1 without bias correction
//   root(s) = sqrt(s) + eps, or sqrt(s + eps) with eps inside, which floors it at sqrt(eps).
// The lecture's forms: adagrad and adam with eps inside, adam without bias correction, momentum as duda or heavy_ball.
// Uncorrected Adam multiplies the step by up to 6.57 (at t = 12) with the usual betas.
// Sources: Polyak 1964 (heavy ball); Sutskever et al. 2013 (Nesterov, torch's form); Duchi et al. 2011 (Adagrad);
// Tieleman & Hinton 2012 (RMSprop); Kingma & Ba 2015, arXiv:1412.6980; Loshchilov & Hutter 2019, arXiv:1711.05101.
#pragma once
#include "clip.h"
#include "pow.h"

namespace thalweg {

template <class T>
struct GradientRates {
  T scale, limit;  // of the summed gradient: clip factor / count, then cut to +-limit (inf: not at all)
  T l2, shrink;    // weight decay in the gradient, or decoupled; 0 and 1 where there is none
};
template <class N>
TW_HD N gradient(N g, N w, GradientRates<RealOf<N>> r) {
  return fma(N(r.l2), w, clip_value(r.scale * g, r.limit));
}

// eps inside or outside the root: one of the two is 0, and adding 0 changes no bit.
template <class T>
struct Eps {
  T inside, outside;
};
template <class N>
TW_HD N root(N s, Eps<RealOf<N>> eps) {
  return sqrt(s + eps.inside) + eps.outside;
}

template <class N>
struct Weight {
  N w;
};
template <class N>
struct MomentumState {
  N w, v;
};
template <class N>
struct SquaresState {
  N w, s;
};
template <class N>
struct MomentsState {
  N w, m, s;
};

template <class N>
TW_HD Weight<N> sgd(Weight<N> x, N g, RealOf<N> lr) {
  return {x.w - lr * g};
}

template <class T>
struct MomentumRates {
  T lr, momentum, gain;  // gain: 1 - dampening, 1 in the first step; of the Duda form 1 - momentum
};
template <class N>
TW_HD MomentumState<N> sgd_momentum(MomentumState<N> x, N g, MomentumRates<RealOf<N>> r) {
  const N v = fma(N(r.momentum), x.v, r.gain * g);
  return {x.w - r.lr * v, v};
}
template <class N>
TW_HD MomentumState<N> sgd_nesterov(MomentumState<N> x, N g, MomentumRates<RealOf<N>> r) {
  const N v = fma(N(r.momentum), x.v, r.gain * g);
  return {x.w - r.lr * fma(N(r.momentum), v, g), v};
}
// Heavy ball with gain = 1, the Duda form with gain = 1 - momentum.
template <class N>
TW_HD MomentumState<N> heavy_ball(MomentumState<N> x, N g, MomentumRates<RealOf<N>> r) {
  const N u = fma(N(r.momentum), x.v, -(r.gain * r.lr) * g);
  return {x.w + u, u};
}

template <class T>
struct SquaresRates {
  T lr, decay, rest;  // s = decay s + rest g^2; Adagrad: 1 and 1
  Eps<T> eps;
};
template <class N>
TW_HD N decayed_square(N s, N g, RealOf<N> decay, RealOf<N> rest) {
  return fma(N(decay), s, rest * square(g));
}
template <class N>
TW_HD SquaresState<N> rmsprop(SquaresState<N> x, N g, SquaresRates<RealOf<N>> r) {
  const N s = decayed_square(x.s, g, r.decay, r.rest);
  return {x.w - r.lr * (g / root(s, r.eps)), s};
}
template <class N>
TW_HD MomentsState<N> rmsprop_momentum(MomentsState<N> x, N g, SquaresRates<RealOf<N>> r, RealOf<N> momentum) {
  const N s = decayed_square(x.s, g, r.decay, r.rest), v = fma(N(momentum), x.m, g / root(s, r.eps));
  return {x.w - r.lr * v, v, s};
}

template <class T>
struct AdamRates {
  T lr, beta1, rest1, beta2, rest2, correct2;  // lr holds c1; rest = 1 - beta
  Eps<T> eps;
};
template <class N>
TW_HD MomentsState<N> adam(MomentsState<N> x, N g, AdamRates<RealOf<N>> r) {
  const N m = fma(N(r.beta1), x.m, r.rest1 * g), s = decayed_square(x.s, g, r.beta2, r.rest2);
  return {x.w - r.lr * (m / root(r.correct2 * s, r.eps)), m, s};
}

// 1 / (1 - beta^t), t from 1: makes a moving average that starts at 0 unbiased.
TW_HD double bias_correction(double beta, double t) { return 1.0 / (1.0 - pow(beta, t)); }

}  // namespace thalweg

// rules.h: what binds the formulas of formula/optimizer.h to arrays, written once for every executor: the rates of a
// step, and the functor that updates element i by a rule.
//   with_formula<T>(update, rates, [&](auto formula) { ... UpdateElement<T, decltype(formula)> ... });
#pragma once
#include "../formula/optimizer.h"
#include "update.h"

namespace thalweg {

// One element's place; `first` and `second` are its states, in the order in which they are listed below.
template <class T>
struct Place {
  T* __restrict__ w;
  T* __restrict__ first;
  T* __restrict__ second;
};

// What binds a formula to its arrays: element i with decayed weight w and gradient g.
template <class T>
struct Sgd {
  static constexpr int kStates = 0;
  T lr;
  TW_HD void operator()(int64_t i, T w, T g, const Place<T>& to) const { to.w[i] = sgd(Weight<T>{w}, g, lr).w; }
};
enum class MomentumForm { plain, nesterov, ball };
template <class T, MomentumForm form>
struct Momentum {  // first: v or u
  static constexpr int kStates = 1;
  MomentumRates<T> rates;
  TW_HD void operator()(int64_t i, T w, T g, const Place<T>& to) const {
    const MomentumState<T> x{w, to.first[i]};
    const MomentumState<T> y = form == MomentumForm::plain      ? sgd_momentum(x, g, rates)
                               : form == MomentumForm::nesterov ? sgd_nesterov(x, g, rates)
                                                                : heavy_ball(x, g, rates);
    to.w[i] = y.w, to.first[i] = y.v;
  }
};
template <class T>
struct Squares {  // first: s
  static constexpr int kStates = 1;
  SquaresRates<T> rates;
  TW_HD void operator()(int64_t i, T w, T g, const Place<T>& to) const {
    const SquaresState<T> y = rmsprop(SquaresState<T>{w, to.first[i]}, g, rates);
    to.w[i] = y.w, to.first[i] = y.s;
  }
};
template <class T>
struct SquaresMomentum {  // first: s, second: v
  static constexpr int kStates = 2;
  SquaresRates<T> rates;
  T momentum;
  TW_HD void operator()(int64_t i, T w, T g, const Place<T>& to) const {
    const MomentsState<T> y = rmsprop_momentum(MomentsState<T>{w, to.second[i], to.first[i]}, g, rates, momentum);
    to.w[i] = y.w, to.first[i] = y.s, to.second[i] = y.m;
  }
};
template <class T>
struct Adam {  // first: m, second: s
  static constexpr int kStates = 2;
  AdamRates<T> rates;
  TW_HD void operator()(int64_t i, T w, T g, const Place<T>& to) const {
    const MomentsState<T> y = adam(MomentsState<T>{w, to.first[i], to.second[i]}, g, rates);
    to.w[i] = y.w, to.first[i] = y.m, to.second[i] = y.s;
  }
};

// Element i by a rule's functor.
template <class T, class F>
struct UpdateElement {
  Place<T> to;
  const T* __restrict__ g;
  GradientRates<T> rates;
  F formula;
  TW_HD void operator()(int64_t i) const { formula(i, rates.shrink * to.w[i], gradient(g[i], to.w[i], rates), to); }
};

template <class T>
GradientRates<T> gradient_rates(const Update& u, const Rates& r, const Segment& s) {
  const T limit = u.clip_value > 0 ? T(u.clip_value) : Format<T>::kInf;
  const bool decoupled = u.rule.decoupled;
  return {T(u.grad_scale * s.scale), limit, T(decoupled ? 0 : r.weight_decay),
          T(decoupled ? 1 - r.lr * r.weight_decay : 1)};
}
template <class T>
Eps<T> eps_of(const Update& u, const Rates& r) {
  return u.rule.eps_inside ? Eps<T>{T(r.eps), T(0)} : Eps<T>{T(0), T(r.eps)};
}
template <class T>
MomentumRates<T> momentum_rates(const Update& u, const Rates& r) {
  const double gain = u.rule.rule == Rule::duda         ? 1 - r.momentum
                      : u.rule.rule == Rule::heavy_ball ? 1
                                                        : (u.t == 1 ? 1 : 1 - r.dampening);
  return {T(r.lr), T(r.momentum), T(gain)};
}
template <class T>
SquaresRates<T> squares_rates(const Update& u, const Rates& r) {
  const bool sum = u.rule.rule == Rule::adagrad;
  return {T(r.lr), T(sum ? 1 : r.decay), T(sum ? 1 : 1 - r.decay), eps_of<T>(u, r)};
}
template <class T>
AdamRates<T> adam_rates(const Update& u, const Rates& r) {
  const double t = double(u.t), one = u.rule.bias_correction ? bias_correction(r.beta1, t) : 1;
  const double two = u.rule.bias_correction ? bias_correction(r.beta2, t) : 1;
  return {T(r.lr * one), T(r.beta1), T(1 - r.beta1), T(r.beta2), T(1 - r.beta2), T(two), eps_of<T>(u, r)};
}

// run(functor) with the rule's functor and the rates of one group.
template <class T, class Run>
void with_formula(const Update& u, const Rates& r, Run run) {
  switch (u.rule.rule) {
    case Rule::sgd:
      if (!u.has_momentum) return run(Sgd<T>{T(r.lr)});
      if (u.rule.nesterov) return run(Momentum<T, MomentumForm::nesterov>{momentum_rates<T>(u, r)});
      return run(Momentum<T, MomentumForm::plain>{momentum_rates<T>(u, r)});
    case Rule::heavy_ball:
    case Rule::duda: return run(Momentum<T, MomentumForm::ball>{momentum_rates<T>(u, r)});
    case Rule::rmsprop:
      if (u.has_momentum) return run(SquaresMomentum<T>{squares_rates<T>(u, r), T(r.momentum)});
      [[fallthrough]];
    case Rule::adagrad: return run(Squares<T>{squares_rates<T>(u, r)});
    case Rule::adam: return run(Adam<T>{adam_rates<T>(u, r)});
  }
}

}  // namespace thalweg

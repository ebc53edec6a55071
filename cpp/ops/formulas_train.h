// formulas_train.h: moments, norms, losses, clipping and optimizer rules by name.
#pragma once
#include "../formula/layer_norm.h"
#include "../formula/loss.h"
#include "../formula/moments.h"
#include "../formula/optimizer.h"
#include "formulas.h"

namespace thalweg {

template <class N>
TW_HD Moments<N> merged(N n_a, N mean_a, N m2_a, N n_b, N mean_b, N m2_b) {
  return merge(Moments<N>{mean_a, m2_a, value(n_a)}, Moments<N>{mean_b, m2_b, value(n_b)});
}
template <class N>
TW_HD MomentumRates<RealOf<N>> momentum_rates(N lr, N momentum, N gain) {
  return {value(lr), value(momentum), value(gain)};
}
template <class N>
TW_HD SquaresRates<RealOf<N>> squares_rates(N lr, N decay, N rest, N inside, N outside) {
  return {value(lr), value(decay), value(rest), {value(inside), value(outside)}};
}
template <class N>
TW_HD MomentsState<N> adam_step(N w, N m, N s, N g, N lr, N b1, N r1, N b2, N r2, N c2, N inside, N outside) {
  return adam(MomentsState<N>{w, m, s}, g,
              AdamRates<RealOf<N>>{
                  value(lr), value(b1), value(r1), value(b2), value(r2), value(c2), {value(inside), value(outside)}});
}

template <class Table>
void add_norms(Table& table) {
  table.template add<6>("merge_n", TW_FORMULA(auto... x) { return merged(x...).n; });
  table.template add<6>("merge_mean", TW_FORMULA(auto... x) { return merged(x...).mean; });
  table.template add<6>("merge_m2", TW_FORMULA(auto... x) { return merged(x...).m2; });
  table.template add<2>(
      "variance", TW_FORMULA(auto n, auto m2) { return variance(Moments<decltype(m2)>{m2, m2, value(n)}); });
  table.template add<2>(
      "unbiased_variance",
      TW_FORMULA(auto n, auto m2) { return unbiased_variance(Moments<decltype(m2)>{m2, m2, value(n)}); });
  table.template add<2>("inv_std", TW_FORMULA(auto var, auto eps) { return inv_std(var, value(eps)); });
  table.template add<3>("normalize", TW_FORMULA(auto... x) { return normalize(x...); });
  table.template add<3>("affine", TW_FORMULA(auto... x) { return affine(x...); });
  table.template add<5>("normalize_backward", TW_FORMULA(auto... x) { return normalize_backward(x...); });
  table.template add<3>("running", TW_FORMULA(auto old, auto batch, auto m) { return running(old, batch, value(m)); });
  table.template add<5>("layer_norm", TW_FORMULA(auto... x) { return layer_norm(x...); });
  table.template add<6>("layer_norm_backward", TW_FORMULA(auto... x) { return layer_norm_backward(x...); });
}

template <class Table>
void add_losses(Table& table) {
  table.template add<2>("log_sum_exp", TW_FORMULA(auto... x) { return log_sum_exp(x...); });
  table.template add<2>("softmax", TW_FORMULA(auto... x) { return softmax(x...); });
  table.template add<3>("softmax_backward", TW_FORMULA(auto... x) { return softmax_backward(x...); });
  table.template add<3>("log_softmax_backward", TW_FORMULA(auto... x) { return log_softmax_backward(x...); });
  table.template add<4>(
      "cross_entropy",
      TW_FORMULA(auto lse, auto z, auto mean, auto s) { return cross_entropy(lse, z, mean, value(s)); });
  table.template add<3>(
      "smooth_target",
      TW_FORMULA(auto is, auto s, auto c) { return smooth_target(value(is) != 0, value(s), value(c)); });
  table.template add<4>("cross_entropy_backward", TW_FORMULA(auto... x) { return cross_entropy_backward(x...); });
  table.template add<3>("cross_entropy_term", TW_FORMULA(auto... x) { return cross_entropy_term(x...); });
  table.template add<2>("probability", TW_FORMULA(auto... x) { return probability(x...); });
  table.template add<4>("cross_entropy_gradient", TW_FORMULA(auto... x) { return cross_entropy_gradient(x...); });
  table.template add<2>("squared_error", TW_FORMULA(auto... x) { return squared_error(x...); });
  table.template add<4>(
      "mse_backward", TW_FORMULA(auto d, auto p, auto y, auto n) { return mse_backward(d, p, y, value(n)); });
}

template <class Table>
void add_momentum(Table& table) {
  table.template add<2>("clip_scale", TW_FORMULA(auto norm, auto max) { return clip_scale(value(norm), value(max)); });
  table.template add<2>("clip_value", TW_FORMULA(auto g, auto limit) { return clip_value(g, value(limit)); });
  table.template add<2>(
      "bias_correction",
      TW_FORMULA(auto beta, auto n) { return bias_correction(double(value(beta)), double(value(n))); });
  table.template add<5>(
      "gradient", TW_FORMULA(auto g, auto w, auto scale, auto limit, auto l2) {
        return gradient(g, w, GradientRates<decltype(value(g))>{value(scale), value(limit), value(l2), 1});
      });
  table.template add<3>(
      "sgd", TW_FORMULA(auto w, auto g, auto lr) { return sgd(Weight<decltype(w)>{w}, g, value(lr)).w; });
#define TW_MOMENTUM(rule, part)                                                             \
  table.template add<6>(                                                                    \
      #rule "_" #part, TW_FORMULA(auto w, auto v, auto g, auto lr, auto m, auto gain) {     \
        return rule(MomentumState<decltype(w)>{w, v}, g, momentum_rates(lr, m, gain)).part; \
      })
  TW_MOMENTUM(sgd_momentum, w);
  TW_MOMENTUM(sgd_momentum, v);
  TW_MOMENTUM(sgd_nesterov, w);
  TW_MOMENTUM(sgd_nesterov, v);
  TW_MOMENTUM(heavy_ball, w);
  TW_MOMENTUM(heavy_ball, v);
#undef TW_MOMENTUM
}

template <class Table>
void add_adaptive(Table& table) {
#define TW_SQUARES(part)                                                                  \
  table.template add<8>(                                                                  \
      "rmsprop_" #part, TW_FORMULA(auto w, auto s, auto g, auto... rates) {               \
        return rmsprop(SquaresState<decltype(w)>{w, s}, g, squares_rates(rates...)).part; \
      })
#define TW_SQUARES_MOMENTUM(name, part)                                                                           \
  table.template add<10>(                                                                                         \
      name, TW_FORMULA(auto w, auto v, auto s, auto g, auto lr, auto decay, auto rest, auto inside, auto outside, \
                       auto momentum) {                                                                           \
        return rmsprop_momentum(MomentsState<decltype(w)>{w, v, s}, g,                                            \
                                squares_rates(lr, decay, rest, inside, outside), value(momentum))                 \
            .part;                                                                                                \
      })
  TW_SQUARES(w);
  TW_SQUARES(s);
  TW_SQUARES_MOMENTUM("rmsprop_momentum_w", w);
  TW_SQUARES_MOMENTUM("rmsprop_momentum_v", m);
  TW_SQUARES_MOMENTUM("rmsprop_momentum_s", s);
  table.template add<12>("adam_w", TW_FORMULA(auto... x) { return adam_step(x...).w; });
  table.template add<12>("adam_m", TW_FORMULA(auto... x) { return adam_step(x...).m; });
  table.template add<12>("adam_s", TW_FORMULA(auto... x) { return adam_step(x...).s; });
#undef TW_SQUARES
#undef TW_SQUARES_MOMENTUM
}

template <class Table>
void add_train(Table& table) {
  add_norms(table);
  add_losses(table);
  add_momentum(table);
  add_adaptive(table);
}

}  // namespace thalweg

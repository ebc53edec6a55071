// formulas_train.cpp: moments, norms, losses, clipping and optimizer rules by name.
#include "../formula/layer_norm.h"
#include "../formula/loss.h"
#include "../formula/moments.h"
#include "../formula/optimizer.h"
#include "formulas.h"

namespace thalweg {
namespace {

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

void add_norms(std::vector<Formula>& t) {
  t.push_back(entry<6>("merge_n", [](auto... x) { return merged(x...).n; }));
  t.push_back(entry<6>("merge_mean", [](auto... x) { return merged(x...).mean; }));
  t.push_back(entry<6>("merge_m2", [](auto... x) { return merged(x...).m2; }));
  t.push_back(entry<2>("variance", [](auto n, auto m2) { return variance(Moments<decltype(m2)>{m2, m2, value(n)}); }));
  t.push_back(entry<2>("unbiased_variance",
                       [](auto n, auto m2) { return unbiased_variance(Moments<decltype(m2)>{m2, m2, value(n)}); }));
  t.push_back(entry<2>("inv_std", [](auto var, auto eps) { return inv_std(var, value(eps)); }));
  t.push_back(entry<3>("normalize", [](auto... x) { return normalize(x...); }));
  t.push_back(entry<3>("affine", [](auto... x) { return affine(x...); }));
  t.push_back(entry<5>("normalize_backward", [](auto... x) { return normalize_backward(x...); }));
  t.push_back(entry<3>("running", [](auto old, auto batch, auto m) { return running(old, batch, value(m)); }));
  t.push_back(entry<5>("layer_norm", [](auto... x) { return layer_norm(x...); }));
  t.push_back(entry<6>("layer_norm_backward", [](auto... x) { return layer_norm_backward(x...); }));
}

void add_losses(std::vector<Formula>& t) {
  t.push_back(entry<2>("log_sum_exp", [](auto... x) { return log_sum_exp(x...); }));
  t.push_back(entry<2>("softmax", [](auto... x) { return softmax(x...); }));
  t.push_back(entry<3>("softmax_backward", [](auto... x) { return softmax_backward(x...); }));
  t.push_back(entry<3>("log_softmax_backward", [](auto... x) { return log_softmax_backward(x...); }));
  t.push_back(entry<4>("cross_entropy",
                       [](auto lse, auto z, auto mean, auto s) { return cross_entropy(lse, z, mean, value(s)); }));
  t.push_back(entry<3>("smooth_target",
                       [](auto is, auto s, auto c) { return smooth_target(value(is) != 0, value(s), value(c)); }));
  t.push_back(entry<4>("cross_entropy_backward", [](auto... x) { return cross_entropy_backward(x...); }));
  t.push_back(entry<3>("cross_entropy_term", [](auto... x) { return cross_entropy_term(x...); }));
  t.push_back(entry<2>("squared_error", [](auto... x) { return squared_error(x...); }));
  t.push_back(entry<4>("mse_backward", [](auto d, auto p, auto y, auto n) { return mse_backward(d, p, y, value(n)); }));
}

void add_momentum(std::vector<Formula>& t) {
  t.push_back(entry<2>("clip_scale", [](auto norm, auto max) { return clip_scale(value(norm), value(max)); }));
  t.push_back(entry<2>("clip_value", [](auto g, auto limit) { return clip_value(g, value(limit)); }));
  t.push_back(entry<2>("bias_correction",
                       [](auto beta, auto n) { return bias_correction(double(value(beta)), double(value(n))); }));
  t.push_back(entry<5>("gradient", [](auto g, auto w, auto scale, auto limit, auto l2) {
    return gradient(g, w, GradientRates<decltype(value(g))>{value(scale), value(limit), value(l2), 1});
  }));
  t.push_back(entry<3>("sgd", [](auto w, auto g, auto lr) { return sgd(Weight<decltype(w)>{w}, g, value(lr)).w; }));
#define TW_MOMENTUM(rule, part)                                                                  \
  t.push_back(entry<6>(#rule "_" #part, [](auto w, auto v, auto g, auto lr, auto m, auto gain) { \
    return rule(MomentumState<decltype(w)>{w, v}, g, momentum_rates(lr, m, gain)).part;          \
  }))
  TW_MOMENTUM(sgd_momentum, w);
  TW_MOMENTUM(sgd_momentum, v);
  TW_MOMENTUM(sgd_nesterov, w);
  TW_MOMENTUM(sgd_nesterov, v);
  TW_MOMENTUM(heavy_ball, w);
  TW_MOMENTUM(heavy_ball, v);
#undef TW_MOMENTUM
}

void add_adaptive(std::vector<Formula>& t) {
#define TW_SQUARES(part)                                                              \
  t.push_back(entry<8>("rmsprop_" #part, [](auto w, auto s, auto g, auto... rates) {  \
    return rmsprop(SquaresState<decltype(w)>{w, s}, g, squares_rates(rates...)).part; \
  }))
#define TW_SQUARES_MOMENTUM(name, part)                                                                             \
  t.push_back(entry<10>(name, [](auto w, auto v, auto s, auto g, auto lr, auto decay, auto rest, auto inside,       \
                                 auto outside, auto momentum) {                                                     \
    return rmsprop_momentum(MomentsState<decltype(w)>{w, v, s}, g, squares_rates(lr, decay, rest, inside, outside), \
                            value(momentum))                                                                        \
        .part;                                                                                                      \
  }))
  TW_SQUARES(w);
  TW_SQUARES(s);
  TW_SQUARES_MOMENTUM("rmsprop_momentum_w", w);
  TW_SQUARES_MOMENTUM("rmsprop_momentum_v", m);
  TW_SQUARES_MOMENTUM("rmsprop_momentum_s", s);
  t.push_back(entry<12>("adam_w", [](auto... x) { return adam_step(x...).w; }));
  t.push_back(entry<12>("adam_m", [](auto... x) { return adam_step(x...).m; }));
  t.push_back(entry<12>("adam_s", [](auto... x) { return adam_step(x...).s; }));
#undef TW_SQUARES
#undef TW_SQUARES_MOMENTUM
}

}  // namespace

std::vector<Formula> train_formulas() {
  std::vector<Formula> table;
  add_norms(table);
  add_losses(table);
  add_momentum(table);
  add_adaptive(table);
  return table;
}

}  // namespace thalweg

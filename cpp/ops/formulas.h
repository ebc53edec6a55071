// formulas.h: every formula by name, on arrays, for the tests. The loops vectorise as the operators' loops do, so what
// the tests see is the code that runs. Arguments are arrays of equal length, rates and other constants too; those that
// a formula takes as plain reals use the value of a dual.
//
//   formulas_math.cpp   exp expm1 tanh log log1p erf sin cos sqrt abs (x);  pow maximum minimum (x, y);  clamp (x, low,
//   high)
//     fma (a, b, c);  relu sigmoid gelu gelu_tanh softplus normal_cdf normal_pdf (x);  leaky_relu (x, slope)
//     relu_backward tanh_backward sigmoid_backward (d_y, y);  gelu_backward gelu_tanh_backward softplus_backward (d_y,
//     x) leaky_relu_backward (d_y, x, slope)
//   formulas_train.cpp  the rest:
//     moments     merge_n merge_mean merge_m2 (n_a, mean_a, m2_a, n_b, mean_b, m2_b);  variance unbiased_variance (n,
//     m2) norms       inv_std (var, eps);  normalize (x, mean, inv_std);  affine (x_hat, gamma, beta);  running (old,
//     batch,
//                 momentum);  normalize_backward (d_y, x_hat, mean_d, mean_d_x_hat, scale);  layer_norm (x, mean,
//                 inv_std, gamma, beta);  layer_norm_backward (d_y, gamma, x_hat, mean_d, mean_d_x_hat, inv_std)
//     losses      log_sum_exp (max, sum);  softmax (z, lse);  softmax_backward (d_y, y, dot);  log_softmax_backward
//     (d_y,
//                 y, sum);  cross_entropy (lse, z_label, mean_z, smoothing);  smooth_target (is_label, smoothing,
//                 classes); cross_entropy_backward (d_loss, z, lse, target);  cross_entropy_term (t, z, lse);
//                 squared_error (p, t); mse_backward (d_loss, p, t, n)
//     clipping    clip_scale (norm, max_norm);  clip_value (g, limit)
//     optimizers  gradient (g, w, scale, limit, l2);  sgd (w, g, lr);  bias_correction (beta, t)
//                 sgd_momentum_{w,v} sgd_nesterov_{w,v} heavy_ball_{w,v} (w, v, g, lr, momentum, gain)
//                 rmsprop_{w,s} (w, s, g, lr, decay, rest, eps_inside, eps_outside)
//                 rmsprop_momentum_{w,v,s} (w, v, s, g, lr, decay, rest, eps_inside, eps_outside, momentum)
//                 adam_{w,m,s} (w, m, s, g, lr, beta1, rest1, beta2, rest2, correct2, eps_inside, eps_outside)
//   formulas_scalar.cpp, in double:
//     schedules   step_factor (t, every, factor);  cosine_factor (t, total, floor);  warmup_factor (t, steps)
//                 inverse_time_factor (t, c);  one_cycle_factor (t, total, rise, start, end)
//     initial     scaled_std (scale, fan);  uniform_bound (std)
//     random      philox_{0,1,2,3} random_uniform random_normal (k0, k1, c0, c1, c2, c3): integers below 2^32
//                 random_key_{0,1} (seed, stream)
#pragma once
#include <span>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "../exec/exec.h"

namespace thalweg {

struct Formula {
  const char* name;
  size_t arguments;
  void (*run)(Number, std::span<const Buffer> in, Buffer out, int64_t n);
};

// Formula f of `count` arguments: f(x[i], y[i], ...) for every i. F has no state.
template <size_t count, class F>
Formula entry(const char* name, F) {
  return {name, count, [](Number number, std::span<const Buffer> in, Buffer out, int64_t n) {
            with_number(number, [&](auto zero) {
              using N = decltype(zero);
              [&]<size_t... k>(std::index_sequence<k...>) {
                const View<N> to(out);
                const auto from = std::make_tuple(View<N>(in[k])...);
#pragma omp simd
                for (int64_t i = 0; i < n; i++) to.set(i, N(F{}(std::get<k>(from)[i]...)));
              }(std::make_index_sequence<count>{});
            });
          }};
}

std::vector<Formula> math_formulas();
std::vector<Formula> train_formulas();
std::vector<Formula> scalar_formulas();

// out = the named formula; false if there is none of that name with in.size() arguments.
bool formula(const std::string& name, Number, std::span<const Buffer> in, Buffer out, int64_t n);

}  // namespace thalweg

// formulas.h: every formula by name, on arrays, for the tests. The loops vectorise as the operators' loops do, so what
// the tests see is the code that runs. Arguments are arrays of equal length, rates and other constants too; those that
// a formula takes as plain reals use the value of a dual. The table is written once, for any executor: a class Loop
// with `static void fill(int64_t n, View<N> y, F f)`: y[i] = f(i) for every i.
//
//   formulas_math.h     exp expm1 tanh log log1p erf sin cos sqrt abs (x);  pow maximum minimum (x, y);  clamp (x, low,
//   high)
//     fma (a, b, c);  relu sigmoid gelu gelu_tanh softplus normal_cdf normal_pdf (x);  leaky_relu (x, slope)
//     relu_backward tanh_backward sigmoid_backward (d_y, y);  gelu_backward gelu_tanh_backward softplus_backward (d_y,
//     x) leaky_relu_backward (d_y, x, slope)
//   formulas_train.h    the rest:
//     moments     merge_n merge_mean merge_m2 (n_a, mean_a, m2_a, n_b, mean_b, m2_b);  variance unbiased_variance (n,
//     m2) norms       inv_std (var, eps);  normalize (x, mean, inv_std);  affine (x_hat, gamma, beta);  running (old,
//     batch,
//                 momentum);  normalize_backward (d_y, x_hat, mean_d, mean_d_x_hat, scale);  layer_norm (x, mean,
//                 inv_std, gamma, beta);  layer_norm_backward (d_y, gamma, x_hat, mean_d, mean_d_x_hat, inv_std)
//     losses      log_sum_exp (max, sum);  softmax (z, lse);  softmax_backward (d_y, y, dot);  log_softmax_backward
//     (d_y,
//                 y, sum);  cross_entropy (lse, z_label, mean_z, smoothing);  smooth_target (is_label, smoothing,
//                 classes); cross_entropy_backward (d_loss, z, lse, target);  cross_entropy_term (t, z, lse);
//                 probability (exp_z, sum_exp);  cross_entropy_gradient (d_loss, p, total, target);
//                 squared_error (p, t); mse_backward (d_loss, p, t, n)
//     clipping    clip_scale (norm, max_norm);  clip_value (g, limit)
//     optimizers  gradient (g, w, scale, limit, l2);  sgd (w, g, lr);  bias_correction (beta, t)
//                 sgd_momentum_{w,v} sgd_nesterov_{w,v} heavy_ball_{w,v} (w, v, g, lr, momentum, gain)
//                 rmsprop_{w,s} (w, s, g, lr, decay, rest, eps_inside, eps_outside)
//                 rmsprop_momentum_{w,v,s} (w, v, s, g, lr, decay, rest, eps_inside, eps_outside, momentum)
//                 adam_{w,m,s} (w, m, s, g, lr, beta1, rest1, beta2, rest2, correct2, eps_inside, eps_outside)
//   formulas_scalar.h, in double:
//     schedules   step_factor (t, every, factor);  cosine_factor (t, total, floor);  warmup_factor (t, steps)
//                 inverse_time_factor (t, c);  one_cycle_factor (t, total, rise, start, end)
//     initial     scaled_std (scale, fan);  uniform_bound (std)
//     random      philox_{0,1,2,3} random_uniform random_normal (k0, k1, c0, c1, c2, c3): integers below 2^32
//                 random_key_{0,1} (seed, stream)
#pragma once
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "../exec/exec.h"

namespace thalweg {

// out = a formula of in[0], in[1], ..., element by element.
using RunFormula = std::function<void(Number, std::span<const Buffer> in, Buffer out, int64_t n)>;
struct Formula {
  const char* name;
  size_t arguments;
  RunFormula run;
};

template <size_t count>
using Arguments = std::make_index_sequence<count>;

// Formula f of `count` arguments on arrays: its value at element i.
template <class N, size_t count, class F>
struct OnArrays {
  View<N> x[count];
  F f;
  template <size_t... k>
  TW_HD N at(int64_t i, std::index_sequence<k...>) const {
    return N(f(x[k][i]...));
  }
  TW_HD N operator()(int64_t i) const { return at(i, Arguments<count>{}); }
};

// A formula of plain doubles, whatever the number type of the arrays.
template <class F>
struct InDouble {
  F f;
  template <class... N>
  TW_HD auto operator()(N... x) const {
    return RealOf<std::common_type_t<N...>>(f(double(value(x))...));
  }
};

template <class Loop>
class FormulaTable {
 public:
  template <size_t count, class F>
  void add(const char* name, F f) {
    entries_.push_back({name, count, [f](Number number, std::span<const Buffer> in, Buffer out, int64_t n) {
                          with_number(number,
                                      [&](auto zero) { run<decltype(zero)>(f, in, out, n, Arguments<count>{}); });
                        }});
  }
  template <size_t count, class F>
  void add_real(const char* name, F f) {
    add<count>(name, InDouble<F>{f});
  }
  const std::vector<Formula>& entries() const { return entries_; }

 private:
  template <class N, class F, size_t... k>
  static void run(F f, std::span<const Buffer> in, Buffer out, int64_t n, std::index_sequence<k...>) {
    Loop::fill(n, View<N>(out), OnArrays<N, sizeof...(k), F>{{View<N>(in[k])...}, f});
  }
  std::vector<Formula> entries_;
};

// An executor's table has three parts, which compile side by side; find_formula looks in all of them.
using FormulaParts = std::span<const std::vector<Formula>>;
inline const Formula* find_formula(FormulaParts parts, const std::string& name, size_t arguments) {
  for (const auto& part : parts)
    for (const Formula& f : part)
      if (name == f.name && arguments == f.arguments) return &f;
  return nullptr;
}
// The parts for loops on this processor / on the GPU (in the CUDA plug-in).
std::vector<Formula> math_formulas();
std::vector<Formula> train_formulas();
std::vector<Formula> scalar_formulas();

// out = the named formula; false if there is none of that name with in.size() arguments.
bool formula(const std::string& name, Number, std::span<const Buffer> in, Buffer out, int64_t n);
std::vector<std::pair<std::string, size_t>> formula_names();  // of the whole table, with their numbers of arguments

}  // namespace thalweg

// batch_norm_inference.cpp: batch norm by statistics that are kept from training.
//   batch_norm_running     running = (1 - momentum) running + momentum batch, for mean and variance
//   batch_norm_inference   y = gamma (x - running_mean) / sqrt(running_var + eps) + beta; a program may add relu to it
// Shapes: x, y (..., C); stats (2, C); gamma, beta, running_* (C).
#include "batch_norm_common.h"
#include "register.h"

namespace thalweg {
namespace {

using namespace batch_norm;

template <class N>
Kernel running_kernel(const Rows& r, double momentum, bool unbiased) {
  return [=](const Launch& l) {
    using T = RealOf<N>;
    const View<N> mean(l.in[0]), var(l.in[1]), stats(l.in[2]), m2 = stats.at(r.channels), new_mean(l.out[0]),
                                                               new_var(l.out[1]);
    const T rate = T(momentum), count = T(r.count);
    for_each(l.exec, r.channels, [=](int64_t c) {
      const Moments<N> batch{stats[c], m2[c], count};
      new_mean.set(c, running(mean[c], batch.mean, rate));
      new_var.set(c, running(var[c], unbiased ? unbiased_variance(batch) : variance(batch), rate));
    });
  };
}

Kernel kernel_running(const Site& s) {
  const Rows r = rows_of(s, s.in[3]);
  need_two(r.count, "[batch_norm] ");
  const double momentum = s.attrs.real("momentum");
  const bool unbiased = s.attrs.flag("unbiased", true);
  return with_number(s.number, [&](auto zero) { return running_kernel<decltype(zero)>(r, momentum, unbiased); });
}

Kernel kernel_inference(const Site& s) {
  const Rows r = rows_of(s, s.in[0]);
  return with_types(s, [&]<class N, class A>(N, A) {
    return normalise_kernel<N, A>(r, is_stored(s.in[0]), s.attrs.real("eps"), true, s.in.size() == 5);
  });
}

// ---- rules ----

void check_channels(const Inputs& in, size_t i, const char* name, const Shape& x) {
  check_real(in, i, name);
  check_shape(in, i, name, {x.back()}, text("channels of x ", x).c_str());
  check_replicated(in, i, name);
}

std::vector<Type> infer_inference(const Inputs& in) {
  check_count(in, 3, 5);
  check_x(in, 0, "x");
  check_channels(in, 1, "running_mean", in[0].shape);
  check_channels(in, 2, "running_var", in[0].shape);
  check_affine(in, 3, {in[0].shape.back()}, text("channels of x ", in[0].shape));
  check_eps(in);
  check(!in.attrs.has(kActivation), in, "takes no activation while it is recorded");  // it has no rule for it
  return {like(in[0])};
}

std::vector<Type> infer_running(const Inputs& in) {
  check_count(in, 4, 4);
  check_x(in, 3, "x");
  check_channels(in, 0, "running_mean", in[3].shape);
  check_channels(in, 1, "running_var", in[3].shape);
  check_stats(in, 2, "stats", in[3].shape);
  const double momentum = in.attrs.real("momentum");
  check(momentum >= 0 && momentum <= 1, in, "momentum is ", momentum, ", expected 0 to 1");
  return {like(in[0]), like(in[1])};
}

// The statistics are ordinary inputs here: the chain rule, written with the elementwise operators.
std::vector<Value> backward_inference(Recorder& r, const Applied& n, std::span<const Value> d_out) {
  const Value d_y = d_out[0], x = n.in[0], mean = n.in[1];
  const Value var = r.apply("add", {n.in[2], r.constant(n.attrs.real("eps"))}), std = r.apply("sqrt", {var});
  const Value x_hat = r.apply("div", {r.apply("sub", {x, mean}), std});
  const Value d_beta = r.apply("sum_to", {d_y, mean}),
              d_gamma = r.apply("sum_to", {r.apply("mul", {d_y, x_hat}), mean});
  const bool affine = n.in.size() == 5;
  auto times_gamma = [&](Value v) { return affine ? r.apply("mul", {v, n.in[3]}) : v; };
  std::vector<Value> d{r.apply("div", {times_gamma(d_y), std}),
                       r.apply("neg", {r.apply("div", {times_gamma(d_beta), std})}),
                       r.apply("mul", {r.apply("div", {times_gamma(d_gamma), var}), r.constant(-0.5)})};
  if (affine) d.insert(d.end(), {d_gamma, d_beta});
  return d;
}

}  // namespace

void register_batch_norm_inference(Registry& r) {
  r.add({.name = "batch_norm_running",
         .infer = infer_running,
         .kernel = kernel_running,
         .shape_only = 1u << 3,
         .inplace = 1,
         .called = "batch_norm"});
  r.add({.name = "batch_norm_inference",
         .infer = infer_inference,
         .kernel = kernel_inference,
         .backward = backward_inference,
         .leads = true,
         .cost = cost_of,
         .inplace = 1,
         .activations = "relu",
         .bf16_in = 1,
         .bf16_out = 1});
}

}  // namespace thalweg

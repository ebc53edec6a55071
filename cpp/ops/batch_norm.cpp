// batch_norm.cpp: normalise each channel of a mini-batch, as nodes that do not communicate.
//   moments                     stats = (mean, M2) of every channel; the graph merges them over the ranks
//   batch_norm                  y = gamma (x - mean) / sqrt(M2 / count + eps) + beta
//   batch_norm_backward_sums    (sum of d_y, sum of d_y x_hat), which are d_beta and d_gamma; summed over the ranks
//   batch_norm_backward_input   d_x through x, mean and variance
//                               these three take {activation: "relu"}: y is then relu of the above and d_y that of the
//                               relu; backward takes its sign from x again, so y need not be kept
//                               {sync: "rank"}: with the rows of this rank alone
// Shapes: x, y (..., C) with at least one leading axis; stats, sums (2, C); gamma, beta (C).
// Sums over rows: two passes over a block in cache, blocks and shards merged in the tree of shards.h.
#include "batch_norm_common.h"
#include "register.h"

namespace thalweg {
namespace {

using namespace batch_norm;

// ---- statistics ----

template <class N>
Kernel moments_kernel(const Columns& plan, bool stored) {
  return [plan, stored](const Launch& l) {
    const View<N> out(l.out[0]);
    const int64_t channels = plan.channels;
    auto leaf = [&](const auto& in, int64_t r0, int64_t r1, int64_t c0, int64_t c1, const State<N, 2>& s) {
      const auto x = in[0];
      const View<N> mean = s[0], shift = s[1];  // the first row; M2 takes its place
      alignas(64) RealOf<N> memory[kPlanes<N> * kRowOfLanes], means[kPlanes<N> * kRowOfLanes];
      for (int64_t c = c0; c < c1 && r0 < r1; c++) shift.set(c, x[r0 * channels + c]);
      const View<N> first = repeated<N>(shift, r0 < r1 ? channels : 0, memory);
      auto offset = [=](int64_t i, int64_t c) { return std::array<N, 1>{x[i] - first[c]}; };
      fold_block<N, 1>(r0, r1, channels, c0, c1, offset, State<N, 1>{mean}, Add(), ask_long_rows(in, channels));
      const RealOf<N> count = RealOf<N>(std::max<int64_t>(1, r1 - r0));
      if (r0 < r1)
        for (int64_t c = c0; c < c1; c++) mean.set(c, shifted_mean(first[c], mean[c], count));
      const View<N> centre = repeated<N>(mean, channels, means);
      auto deviation = [=](int64_t i, int64_t c) { return std::array<N, 1>{square(x[i] - centre[c])}; };
      fold_block<N, 1>(r0, r1, channels, c0, c1, deviation, State<N, 1>{s[1]});
    };
    auto merge_states = [](const State<N, 2>& a, const State<N, 2>& b, int64_t n_a, int64_t n_b, int64_t c0,
                           int64_t c1) {
      const RealOf<N> na = RealOf<N>(n_a), nb = RealOf<N>(n_b);
#pragma omp simd
      for (int64_t c = c0; c < c1; c++) {
        const Moments<N> m = merge(Moments<N>{a[0][c], a[1][c], na}, Moments<N>{b[0][c], b[1][c], nb});
        a[0].set(c, m.mean);
        a[1].set(c, m.m2);
      }
    };
    reduce_rows<N, 2>(l.exec, plan, 0.3, on_rows<N, 1>(Operands<N, 1>{{l.in[0]}, stored}, leaf), merge_states,
                      State<N, 2>{out, out.at(channels)});
  };
}

Kernel kernel_moments(const Site& s) {
  const Columns plan = columns_of(s, s.in[0]);
  return with_number(s.number, [&](auto zero) { return moments_kernel<decltype(zero)>(plan, is_stored(s.in[0])); });
}

// ---- normalise ----

Kernel kernel(const Site& s) {
  const Rows r = rows_of(s, s.in[0]);
  if (r.rows > 0 || !s.attrs.has(kSync)) need_two(r.count, "[batch_norm] ");
  return with_types(s, [&]<class N, class A>(N, A) {
    return normalise_kernel<N, A>(r, is_stored(s.in[0]), s.attrs.real("eps"), false, s.in.size() == 4);
  });
}

// ---- backward ----

template <class N, class Activation>
Kernel sums_kernel(const Columns& plan, const Rows& r, bool stored, double eps, bool has_affine) {
  return [=](const Launch& l) {
    using T = RealOf<N>;
    const int64_t channels = r.channels;
    const View<N> stats(l.in[2]), out(l.out[0]);
    const Channel<N> channel{stats, stats.at(channels), T(r.count), T(eps)};
    const Affine<N> scale{has_affine ? l.in + 3 : nullptr};
    const auto k = per_channel<N, 4>(l.exec, channels, stored, [&](int64_t c) {
      return std::array<N, 4>{channel.mean[c], channel.inv_std(c), scale.gamma(c), scale.beta(c)};
    });
    auto body = [=](const auto& in) {
      return [=, d_y = in[0], x = in[1]](int64_t i, int64_t c) {
        const N x_hat = normalize(x[i], k[0][c], k[1][c]);
        const N d = Activation::backward(d_y[i], affine(x_hat, k[2][c], k[3][c]));
        return std::array<N, 2>{d, d * x_hat};
      };
    };
    sum_operands<N, 2, false, 2>(l.exec, plan, 0.4, {{l.in[0], l.in[1]}, stored}, body,
                                 State<N, 2>{out, out.at(channels)});
  };
}

Kernel kernel_sums(const Site& s) {
  const Rows r = rows_of(s, s.in[1]);
  return with_types(s, [&]<class N, class A>(N, A) {
    return sums_kernel<N, A>(columns_of(s, s.in[1]), r, is_stored(s.in[0]), s.attrs.real("eps"), s.in.size() == 5);
  });
}

template <class N, class Activation>
Kernel input_kernel(const Rows& r, bool stored, double eps, bool has_affine) {
  return [=](const Launch& l) {
    using T = RealOf<N>;
    const View<N> stats(l.in[2]), sums(l.in[3]);
    const Channel<N> channel{stats, stats.at(r.channels), T(r.count), T(eps)};
    const Affine<N> scale{has_affine ? l.in + 4 : nullptr};
    const N count = N(T(r.count));
    const auto k = per_channel<N, 7>(l.exec, r.channels, stored, [&](int64_t c) {
      const N inv = channel.inv_std(c), gamma = scale.gamma(c);
      return std::array<N, 7>{channel.mean[c], inv,          gamma * inv, sums[c] / count, sums[r.channels + c] / count,
                              gamma,           scale.beta(c)};
    });
    fill_channels<N, 2, 7>(l, r.rows, r.channels, {{l.in[0], l.in[1]}, stored}, k, [=](const auto& in) {
      return [=, d_y = in[0], x = in[1]](int64_t i, const std::array<N, 7>& k) {
        const N x_hat = normalize(x[i], k[0], k[1]);
        const N d = Activation::backward(d_y[i], affine(x_hat, k[5], k[6]));
        return normalize_backward(d, x_hat, k[3], k[4], k[2]);
      };
    });
  };
}

Kernel kernel_input(const Site& s) {
  const Rows r = rows_of(s, s.in[1]);
  return with_types(s, [&]<class N, class A>(N, A) {
    return input_kernel<N, A>(r, is_stored(s.in[0]), s.attrs.real("eps"), s.in.size() == 6);
  });
}

// ---- rules ----

std::vector<Type> infer_moments(const Inputs& in) {
  check_count(in, 1, 1);
  check_x(in, 0, "x");
  return {{{2, in[0].shape.back()}, Kind::real, in[0].batched() ? Placement::moments : Placement::replicated}};
}

std::vector<Type> infer(const Inputs& in) {
  check_count(in, 2, 4);
  check_x(in, 0, "x");
  const Shape& x = in[0].shape;
  check_stats(in, 1, "stats", x);
  check_affine(in, 2, {x.back()}, text("channels of x ", x));
  check_eps(in);
  check_activation(in);
  check(x.rows() != 1, in, "needs at least 2 values per channel to train, got 1 in x ", x);
  return {like(in[0])};
}

void check_backward(const Inputs& in) {  // d_y, x, stats
  check_x(in, 0, "d_y");
  check_x(in, 1, "x");
  check_shape(in, 0, "d_y", in[1].shape, "shape of x");
  check_same_place(in, 0, 1);
  check_stats(in, 2, "stats", in[1].shape);
  check_eps(in);
  check_activation(in);
}

std::vector<Type> infer_sums(const Inputs& in) {
  check_count(in, 3, 5);
  check_backward(in);
  check_affine(in, 3, {in[1].shape.back()}, text("channels of x ", in[1].shape));
  return {{in[2].shape, Kind::real, place_of_sum(in[0], true)}};
}

std::vector<Type> infer_input(const Inputs& in) {
  check_count(in, 4, 6);
  check_backward(in);
  check_stats(in, 3, "sums", in[1].shape);
  check_affine(in, 4, {in[1].shape.back()}, text("channels of x ", in[1].shape));
  return {like(in[1])};
}

// The whole gradient of x, through its statistics too; so none flows into stats.
std::vector<Value> backward(Recorder& r, const Applied& n, std::span<const Value> d_out) {
  const Value x = n.in[0], stats = n.in[1];
  const auto gamma_beta = n.in.subspan(2);
  auto with_affine = [&](std::vector<Value> in) {
    in.insert(in.end(), gamma_beta.begin(), gamma_beta.end());
    return in;
  };
  const Value sums = r.apply("batch_norm_backward_sums", with_affine({d_out[0], x, stats}), n.attrs);
  std::vector<Value> d{r.apply("batch_norm_backward_input", with_affine({d_out[0], x, stats, sums}), n.attrs), kNone};
  const Shape gamma{r.type(sums).shape[1]};
  const bool own = n.attrs.has(kSync);  // the sums over all ranks come with the other gradients then
  if (!gamma_beta.empty()) d.insert(d.end(), {row_of(r, sums, 1, gamma, own), row_of(r, sums, 0, gamma, own)});
  return d;
}

}  // namespace

void register_batch_norm(Registry& r) {
  r.add({.name = "moments",
         .infer = infer_moments,
         .kernel = kernel_moments,
         .cost = cost_of,
         .bf16_in = 1,
         .called = "batch_norm"});
  r.add({.name = "batch_norm",
         .infer = infer,
         .kernel = kernel,
         .backward = backward,
         .leads = true,
         .cost = cost_of,
         .inplace = 1,
         .own = 1u << 1,
         .activations = "relu",
         .bf16_in = 1,
         .bf16_out = 1});
  r.add({.name = "batch_norm_backward_sums",
         .infer = infer_sums,
         .kernel = kernel_sums,
         .cost = cost_of,
         .own = 1u << 2,
         .activations = "relu",
         .bf16_in = 3});
  r.add({.name = "batch_norm_backward_input",
         .infer = infer_input,
         .kernel = kernel_input,
         .leads = true,
         .cost = cost_of,
         .inplace = 3,
         .own = 1u << 2 | 1u << 3,
         .activations = "relu",
         .bf16_in = 3,
         .bf16_out = 1});
}

}  // namespace thalweg

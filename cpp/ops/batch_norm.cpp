// batch_norm.cpp: normalise each channel of a mini-batch, as nodes that do not communicate.
//   moments                     stats = (mean, M2) of every channel; the graph merges them over the ranks
//   batch_norm                  y = gamma (x - mean) / sqrt(M2 / count + eps) + beta
//   batch_norm_backward_sums    (sum of d_y, sum of d_y x_hat), which are d_beta and d_gamma; summed over the ranks
//   batch_norm_backward_input   d_x through x, mean and variance
//   batch_norm_running          the statistics that evaluation uses;   batch_norm_inference normalises with them
// Shapes: x, y (..., C) with at least one leading axis; stats, sums (2, C); gamma, beta, running_* (C).
// Sums over rows: two passes over a block in cache, blocks and shards merged in the tree of shards.h.
#include "../formula/batch_norm.h"

#include "../exec/reduce.h"
#include "../formula/moments.h"
#include "norm.h"
#include "register.h"

namespace thalweg {
namespace {

struct Rows {
  int64_t rows, channels, inner;  // matrix rows of this rank, matrix rows of one batch row
  int64_t count;                  // matrix rows of all ranks
};

Rows rows_of(const Site& s, const Type& x) {
  Rows r{x.shape.rows(), x.shape.back(), x.shape.product(1, x.shape.rank() - 1), 0};
  r.count = x.batched() ? s.rows_global * r.inner : r.rows;
  return r;
}

Columns columns_of(const Site& s, const Type& x) {
  return columns(row_blocks(s.cut(x), x.shape.product(1, x.shape.rank() - 1)), x.shape.back());
}

// K constants of every channel, repeated until a row of few channels fills vectors.
template <class N, int K, class F>
State<N, K> per_channel(const Exec& exec, int64_t channels, F constants) {
  const int64_t width = channels * row_lanes(channels);
  const State<N, K> k = state_at<N, K>(exec.scratch<RealOf<N>>(0, Slot::shared_pack, K * kPlanes<N> * width), width);
  for (int64_t c = 0; c < channels; c++) {
    const std::array<N, K> x = constants(c);
    for (int i = 0; i < K; i++)
      for (int64_t j = c; j < width; j += channels) k[i].set(j, x[i]);
  }
  return k;
}

// f(i, j) for every element i of a (rows, channels) matrix, j its place among the repeated channels.
template <class F>
void for_each_channel(const Exec& exec, int64_t rows, int64_t channels, F f) {
  const int64_t lanes = row_lanes(channels), width = lanes * channels, whole = rows / lanes;
  for_each_row(exec, whole, width, f, 0.4);
  for (int64_t j = 0; j < (rows - whole * lanes) * channels; j++) f(whole * width + j, j);
}

// ---- statistics ----

template <class N>
Kernel moments_kernel(const Columns& plan) {
  return [plan](const Launch& l) {
    const View<N> x(l.in[0]), out(l.out[0]);
    const int64_t channels = plan.channels;
    auto leaf = [&](int64_t r0, int64_t r1, int64_t c0, int64_t c1, const State<N, 2>& s) {
      fold_block<N, 1>(r0, r1, channels, c0, c1, [=](int64_t i) { return std::array<N, 1>{x[i]}; }, State<N, 1>{s[0]});
      const N count = N(RealOf<N>(std::max<int64_t>(1, r1 - r0)));
      for (int64_t c = c0; c < c1; c++) s[0].set(c, s[0][c] / count);
      const View<N> mean = s[0];
      auto deviation = [=](int64_t r, int64_t c) { return std::array<N, 1>{square(x[r * channels + c] - mean[c])}; };
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
    reduce_rows<N, 2>(l.exec, plan, 0.3, leaf, merge_states, State<N, 2>{out, out.at(channels)});
  };
}

Kernel kernel_moments(const Site& s) {
  return with_number(s.number, [&](auto zero) { return moments_kernel<decltype(zero)>(columns_of(s, s.in[0])); });
}

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

void need_two(int64_t count, const char* where) {
  if (count < 2) fail(where, "needs at least 2 values per channel to train, got ", count);
}

Kernel kernel_running(const Site& s) {
  const Rows r = rows_of(s, s.in[3]);
  need_two(r.count, "[batch_norm] ");
  const double momentum = s.attrs.real("momentum");
  const bool unbiased = s.attrs.flag("unbiased", true);
  return with_number(s.number, [&](auto zero) { return running_kernel<decltype(zero)>(r, momentum, unbiased); });
}

// ---- normalise ----

// mean, inv_std of channel c, from moments or from running statistics.
template <class N>
struct Channel {
  View<N> mean, second;
  RealOf<N> count, eps;  // count 0: `second` is the variance itself
  TW_HD N inv_std(int64_t c) const {
    return thalweg::inv_std(count > 0 ? variance(Moments<N>{mean[c], second[c], count}) : second[c], eps);
  }
};

template <class N>
Kernel normalise_kernel(const Rows& r, double eps, bool is_running, bool has_affine) {
  return [=](const Launch& l) {
    using T = RealOf<N>;
    const View<N> x(l.in[0]), stats(l.in[1]), y(l.out[0]);
    const Channel<N> channel{stats, is_running ? View<N>(l.in[2]) : stats.at(r.channels), T(is_running ? 0 : r.count),
                             T(eps)};
    const Buffer* gamma = l.in + (is_running ? 3 : 2);
    const auto k = per_channel<N, 4>(l.exec, r.channels, [&](int64_t c) {
      return std::array<N, 4>{channel.mean[c], channel.inv_std(c), has_affine ? View<N>(gamma[0])[c] : N(1),
                              has_affine ? View<N>(gamma[1])[c] : N(0)};
    });
    for_each_channel(l.exec, r.rows, r.channels, [=](int64_t i, int64_t j) {
      y.set(i, affine(normalize(x[i], k[0][j], k[1][j]), k[2][j], k[3][j]));
    });
  };
}

Kernel kernel(const Site& s) {
  const Rows r = rows_of(s, s.in[0]);
  need_two(r.count, "[batch_norm] ");
  return with_number(s.number, [&](auto zero) {
    return normalise_kernel<decltype(zero)>(r, s.attrs.real("eps"), false, s.in.size() == 4);
  });
}

Kernel kernel_inference(const Site& s) {
  const Rows r = rows_of(s, s.in[0]);
  return with_number(s.number, [&](auto zero) {
    return normalise_kernel<decltype(zero)>(r, s.attrs.real("eps"), true, s.in.size() == 5);
  });
}

// ---- backward ----

template <class N>
Kernel sums_kernel(const Columns& plan, const Rows& r, double eps) {
  return [=](const Launch& l) {
    using T = RealOf<N>;
    const int64_t channels = r.channels;
    const View<N> d_y(l.in[0]), x(l.in[1]), stats(l.in[2]), out(l.out[0]);
    const Channel<N> channel{stats, stats.at(channels), T(r.count), T(eps)};
    const auto k = per_channel<N, 2>(l.exec, channels,
                                     [&](int64_t c) { return std::array<N, 2>{channel.mean[c], channel.inv_std(c)}; });
    auto element = [=](int64_t row, int64_t c) {
      const int64_t i = row * channels + c;
      return std::array<N, 2>{d_y[i], d_y[i] * normalize(x[i], k[0][c], k[1][c])};
    };
    sum_rows<N, 2>(l.exec, plan, 0.4, element, State<N, 2>{out, out.at(channels)});
  };
}

Kernel kernel_sums(const Site& s) {
  const Rows r = rows_of(s, s.in[1]);
  return with_number(
      s.number, [&](auto zero) { return sums_kernel<decltype(zero)>(columns_of(s, s.in[1]), r, s.attrs.real("eps")); });
}

template <class N>
Kernel input_kernel(const Rows& r, double eps, bool has_affine) {
  return [=](const Launch& l) {
    using T = RealOf<N>;
    const View<N> d_y(l.in[0]), x(l.in[1]), stats(l.in[2]), sums(l.in[3]), d_x(l.out[0]);
    const Channel<N> channel{stats, stats.at(r.channels), T(r.count), T(eps)};
    const N count = N(T(r.count));
    const auto k = per_channel<N, 5>(l.exec, r.channels, [&](int64_t c) {
      const N inv = channel.inv_std(c);
      return std::array<N, 5>{channel.mean[c], inv, has_affine ? View<N>(l.in[4])[c] * inv : inv, sums[c] / count,
                              sums[r.channels + c] / count};
    });
    for_each_channel(l.exec, r.rows, r.channels, [=](int64_t i, int64_t j) {
      const N x_hat = normalize(x[i], k[0][j], k[1][j]);
      d_x.set(i, normalize_backward(d_y[i], x_hat, k[3][j], k[4][j], k[2][j]));
    });
  };
}

Kernel kernel_input(const Site& s) {
  const Rows r = rows_of(s, s.in[1]);
  return with_number(s.number,
                     [&](auto zero) { return input_kernel<decltype(zero)>(r, s.attrs.real("eps"), s.in.size() == 5); });
}

// ---- rules ----

void check_x(const Inputs& in, size_t i, const char* name) {
  check_real(in, i, name);
  check_rank(in, i, name, 2);
}

void check_channels(const Inputs& in, size_t i, const char* name, const Shape& x) {
  check_real(in, i, name);
  check_shape(in, i, name, {x.back()}, text("channels of x ", x).c_str());
  check_replicated(in, i, name);
}

void check_stats(const Inputs& in, size_t i, const char* name, const Shape& x) {
  check_real(in, i, name);
  check_shape(in, i, name, {2, x.back()}, text("2 rows of the channels of x ", x).c_str());
  check_replicated(in, i, name);
}

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
  check(x.rows() != 1, in, "needs at least 2 values per channel to train, got 1 in x ", x);
  return {like(in[0])};
}

std::vector<Type> infer_inference(const Inputs& in) {
  check_count(in, 3, 5);
  check_x(in, 0, "x");
  check_channels(in, 1, "running_mean", in[0].shape);
  check_channels(in, 2, "running_var", in[0].shape);
  check_affine(in, 3, {in[0].shape.back()}, text("channels of x ", in[0].shape));
  check_eps(in);
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

void check_backward(const Inputs& in) {  // d_y, x, stats
  check_x(in, 0, "d_y");
  check_x(in, 1, "x");
  check_shape(in, 0, "d_y", in[1].shape, "shape of x");
  check_same_place(in, 0, 1);
  check_stats(in, 2, "stats", in[1].shape);
  check_eps(in);
}

std::vector<Type> infer_sums(const Inputs& in) {
  check_count(in, 3, 3);
  check_backward(in);
  return {{in[2].shape, Kind::real, place_of_sum(in[0], true)}};
}

std::vector<Type> infer_input(const Inputs& in) {
  check_count(in, 4, 5);
  check_backward(in);
  check_stats(in, 3, "sums", in[1].shape);
  if (in.size() == 5) check_channels(in, 4, "gamma", in[1].shape);
  return {like(in[1])};
}

// The whole gradient of x, through its statistics too; so none flows into stats.
std::vector<Value> backward(Recorder& r, const Applied& n, std::span<const Value> d_out) {
  const Attrs eps{{"eps", n.attrs.real("eps")}};
  const Value x = n.in[0], stats = n.in[1], sums = r.apply("batch_norm_backward_sums", {d_out[0], x, stats}, eps);
  std::vector<Value> in{d_out[0], x, stats, sums};
  if (n.in.size() == 4) in.push_back(n.in[2]);
  std::vector<Value> d{r.apply("batch_norm_backward_input", in, eps), kNone};
  const Shape gamma{r.type(sums).shape[1]};
  if (n.in.size() == 4) d.insert(d.end(), {row_of(r, sums, 1, gamma), row_of(r, sums, 0, gamma)});
  return d;
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

Cost cost(const Site& s) { return moved_bytes(s, 6 * double(s.in[0].shape.size())); }

}  // namespace

void register_batch_norm(Registry& r) {
  r.add({.name = "moments", .infer = infer_moments, .kernel = kernel_moments, .cost = cost});
  r.add({.name = "batch_norm", .infer = infer, .kernel = kernel, .backward = backward, .cost = cost, .inplace = 1});
  r.add({.name = "batch_norm_backward_sums", .infer = infer_sums, .kernel = kernel_sums, .cost = cost});
  r.add(
      {.name = "batch_norm_backward_input", .infer = infer_input, .kernel = kernel_input, .cost = cost, .inplace = 3});
  r.add({.name = "batch_norm_running",
         .infer = infer_running,
         .kernel = kernel_running,
         .shape_only = 1u << 3,
         .inplace = 1});
  r.add({.name = "batch_norm_inference",
         .infer = infer_inference,
         .kernel = kernel_inference,
         .backward = backward_inference,
         .cost = cost,
         .inplace = 1});
}

}  // namespace thalweg

// layer_norm.cpp: normalise every row over its trailing axes, forward and backward.
//   y = gamma (x - mean) / sqrt(var + eps) + beta        mean, var over the `dims` trailing axes of one row (biased)
// Shapes: x, y (..., D), where D stands for the trailing axes; gamma, beta (D).
//         stats (..., 2): mean and inv_std of every row, the second output; saved for backward, as x is.
// Backward gives, in one pass over memory, d_x and the two sums over rows, sum of d_y and sum of d_y x_hat, which are
// d_beta and d_gamma.
// Sums: along a row 16 lanes, over the rows the tree of shards.h.
// Source: Ba, Kiros, Hinton 2016, arXiv:1607.06450.
#include "../formula/layer_norm.h"

#include "../exec/reduce.h"
#include "norm.h"
#include "register.h"

namespace thalweg {
namespace {

int lead_of(const Type& x, const Attrs& a) { return x.shape.rank() - int(a.integer("dims")); }

template <class N>
struct RowStats {
  N mean, inv_std;
};

template <class N>
RowStats<N> row_stats(View<N> x, int64_t width, RealOf<N> eps) {
  const N count = N(RealOf<N>(width));
  const N mean = fold_lanes<N, 1>(width, [=](int64_t i) { return std::array<N, 1>{x[i]}; })[0] / count;
  auto deviation = [=](int64_t i) { return std::array<N, 1>{square(x[i] - mean)}; };
  return {mean, inv_std(fold_lanes<N, 1>(width, deviation)[0] / count, eps)};
}

// Asks for the next row of x, a part at a time, between the passes over this one.
template <class N>
struct NextRow {
  View<N> x;
  int64_t part;  // 0: there is none
  void ask(int64_t k) const {
    if constexpr (!kIsDual<N>) prefetch(x.p + k * part, part);
  }
};

template <class N, bool kAffine>
Kernel forward_kernel(int64_t rows, int64_t width, double eps) {
  return [=](const Launch& l) {
    const View<N> x(l.in[0]), gamma(l.in[kAffine ? 1 : 0]), beta(l.in[kAffine ? 2 : 0]), stats(l.out[1]);
    const Result<N> y = result<N>(l, rows * width, 1);
    l.exec.parallel(rows, 0.7 * double(rows) * double(width), [&](int64_t row, int) {
      const View<N> from = x.at(row * width);
      const NextRow<N> next{from.at(width), row + 1 < rows ? width / 2 : 0};
      next.ask(0);
      const RowStats<N> s = row_stats(from, width, RealOf<N>(eps));
      stats.set(2 * row, s.mean);
      stats.set(2 * row + 1, s.inv_std);
      next.ask(1);
      fill_range(Result<N>{y.y.at(row * width), y.far}, 0, width, [=](int64_t i) {
        if constexpr (kAffine) return layer_norm(from[i], s.mean, s.inv_std, gamma[i], beta[i]);
        else return normalize(from[i], s.mean, s.inv_std);
      });
      if (y.far) end_far();
    });
  };
}

Kernel kernel(const Site& s) {
  const int lead = lead_of(s.in[0], s.attrs);
  const Shape& x = s.in[0].shape;
  const int64_t rows = x.product(0, lead), width = x.product(lead, x.rank());
  return with_number(s.number, [&, eps = s.attrs.real("eps")](auto zero) {
    using N = decltype(zero);
    return s.in.size() == 3 ? forward_kernel<N, true>(rows, width, eps) : forward_kernel<N, false>(rows, width, eps);
  });
}

// d_x of one row, and the row's share of the two sums.
template <class N, bool kAffine>
void row_backward(int64_t width, const RowStats<N>& s, View<N> d_y, View<N> x, View<N> gamma, Result<N> d_x,
                  const State<N, 2>& sums) {
  auto scale = [=](int64_t i) { return kAffine ? gamma[i] : N(1); };
  auto products = [=](int64_t i) {
    const N d = scale(i) * d_y[i];
    return std::array<N, 2>{d, d * normalize(x[i], s.mean, s.inv_std)};
  };
  const auto [sum, sum_x_hat] = fold_lanes<N, 2>(width, products);
  const N count = N(RealOf<N>(width)), mean_d = sum / count, mean_d_x_hat = sum_x_hat / count;
  const View<N> sum_d = sums[0], sum_d_x_hat = sums[1];
  fill_range(d_x, 0, width, [=](int64_t i) {
    const N x_hat = normalize(x[i], s.mean, s.inv_std), d = d_y[i];
    sum_d.set(i, sum_d[i] + d);
    sum_d_x_hat.set(i, sum_d_x_hat[i] + d * x_hat);
    return layer_norm_backward(d, scale(i), x_hat, mean_d, mean_d_x_hat, s.inv_std);
  });
}

template <class N, bool kAffine>
Kernel backward_kernel(const Columns& plan) {
  return [=](const Launch& l) {
    const int64_t width = plan.channels;
    const View<N> d_y(l.in[0]), x(l.in[1]), stats(l.in[2]), gamma(l.in[kAffine ? 3 : 2]), sums(l.out[1]);
    const Result<N> d_x = result<N>(l, plan.blocks.rows() * width, 2);
    auto leaf = [&](int, int64_t r0, int64_t r1, int64_t c0, int64_t c1, const State<N, 2>& state) {
      for (int k = 0; k < 2; k++)
        for (int64_t c = c0; c < c1; c++) state[k].set(c, N(0));
      for (int64_t r = r0; r < r1; r++) {
        const NextRow<N> next_x{x.at((r + 1) * width), r + 1 < r1 ? width : 0},
            next_d_y{d_y.at((r + 1) * width), r + 1 < r1 ? width : 0};
        next_x.ask(0);
        next_d_y.ask(0);
        row_backward<N, kAffine>(width, {stats[2 * r], stats[2 * r + 1]}, d_y.at(r * width), x.at(r * width), gamma,
                                 Result<N>{d_x.y.at(r * width), d_x.far}, state);
      }
      if (d_x.far) end_far();
    };
    auto add = [](const State<N, 2>& a, const State<N, 2>& b, int64_t, int64_t, int64_t c0, int64_t c1) {
      for (int k = 0; k < 2; k++) {
#pragma omp simd
        for (int64_t c = c0; c < c1; c++) a[k].set(c, a[k][c] + b[k][c]);
      }
    };
    reduce_rows<N, 2>(l.exec, plan, 1.0, leaf, add, State<N, 2>{sums, sums.at(width)});
  };
}

Kernel kernel_backward(const Site& s) {
  const Type& x = s.in[1];
  const int lead = lead_of(x, s.attrs);
  const Shards cut = lead == 0 ? Shards::whole(1) : s.cut(x);
  Columns plan =
      columns(row_blocks(cut, lead == 0 ? 1 : x.shape.product(1, lead)), x.shape.product(lead, x.shape.rank()));
  plan.tile = std::max<int64_t>(1, plan.channels);  // a task has whole rows
  return with_number(s.number, [&](auto zero) {
    using N = decltype(zero);
    return s.in.size() == 4 ? backward_kernel<N, true>(plan) : backward_kernel<N, false>(plan);
  });
}

// ---- rules ----

Shape trailing(const Inputs& in, size_t i, const char* name) {
  check_real(in, i, name);
  check_eps(in);
  const Shape& x = in[i].shape;
  const int64_t dims = in.attrs.integer("dims");
  check(dims >= 1 && dims <= x.rank(), in, "dims is ", dims, ", expected 1 to ", x.rank(), " = axes of ", name, " ", x);
  check_axis0_apart(in, i, dims < x.rank(), "normalising over axis 0");
  const Shape d{std::span(x.end() - dims, x.end())};
  check(d.size() > 0, in, "normalises over no elements: ", name, " has shape ", x);
  return d;
}

// mean and inv_std of every row of input i.
Type stats_type(const Inputs& in, size_t i) {
  const Shape& x = in[i].shape;
  Shape stats{std::span(x.begin(), x.end() - in.attrs.integer("dims"))};
  stats.push_back(2);
  return like(in[i], stats);
}

std::vector<Type> infer(const Inputs& in) {
  check_count(in, 1, 3);
  check_affine(in, 1, trailing(in, 0, "x"), text("trailing axes of x ", in[0].shape));
  return {like(in[0]), stats_type(in, 0)};
}

std::vector<Type> infer_backward(const Inputs& in) {
  check_count(in, 3, 4);
  const Shape d = trailing(in, 1, "x");
  check_real(in, 0, "d_y");
  check_shape(in, 0, "d_y", in[1].shape, "shape of x");
  check_same_place(in, 0, 1);
  check_real(in, 2, "stats");
  check_shape(in, 2, "stats", stats_type(in, 1).shape, "mean and inv_std of every row of x");
  if (in.size() == 4) {
    check_real(in, 3, "gamma");
    check_shape(in, 3, "gamma", d, "trailing axes of x");
    check_replicated(in, 3, "gamma");
  }
  return {like(in[1]), {{2, d.size()}, Kind::real, place_of_sum(in[1], true)}};
}

std::vector<Value> backward(Recorder& r, const Applied& n, std::span<const Value> d_out) {
  const bool affine = n.in.size() == 3;
  std::vector<Value> in{d_out[0], n.in[0], n.out[1]};
  if (affine) in.push_back(n.in[1]);
  const std::vector<Value> d = r.apply_all("layer_norm_backward", in, n.attrs);
  if (!affine) return {d[0]};
  const Shape gamma = r.type(n.in[1]).shape;
  return {d[0], row_of(r, d[1], 1, gamma), row_of(r, d[1], 0, gamma)};
}

Cost cost(const Site& s) { return moved_bytes(s, 8 * double(s.in[0].shape.size())); }

}  // namespace

void register_layer_norm(Registry& r) {
  r.add({.name = "layer_norm", .infer = infer, .kernel = kernel, .backward = backward, .cost = cost, .inplace = 1});
  r.add({.name = "layer_norm_backward", .infer = infer_backward, .kernel = kernel_backward, .cost = cost});
}

}  // namespace thalweg

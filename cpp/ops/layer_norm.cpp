// layer_norm.cpp: normalise every row over its trailing axes, forward and backward.
//   y = gamma (x - mean) / sqrt(var + eps) + beta        mean, var over the `dims` trailing axes of one row (biased)
// Shapes: x, y (..., D), where D stands for the trailing axes; gamma, beta (D).
//         stats (..., 2): mean and inv_std of every row, the second output; saved for backward, as x is.
// Backward gives, in one pass over memory, d_x and the two sums over rows, sum of d_y and sum of d_y x_hat, which are
// d_beta and d_gamma.
// Sums: along a row 16 lanes, over the rows the tree of shards.h.
// Source: Ba, Kiros, Hinton 2016, arXiv:1607.06450.
#include "../formula/layer_norm.h"

#include "../exec/far.h"
#include "../exec/lanes.h"
#include "norm.h"
#include "register.h"

namespace thalweg {
namespace {

int lead_of(const Type& x, const Attrs& a) { return x.shape.rank() - int(a.integer("dims")); }

// Rows that are worked on together: while the sums of one wait for their additions, those of the others go on.
template <class N>
constexpr int kTogether = kIsDual<N> ? 1 : 4;
template <class N, int R>
using Rows = std::array<View<N>, R>;
template <class N, int R>
Rows<N, R> rows_at(View<N> x, int64_t row, int64_t width) {
  return [&]<size_t... r>(std::index_sequence<r...>) {
    return Rows<N, R>{x.at((row + int64_t(r)) * width)...};
  }(std::make_index_sequence<R>{});
}

// One where they fill much of the L2 cache.
template <class N>
int64_t rows_together(int64_t width, int most) {
  constexpr int64_t kMostBytes = 128 << 10;
  return most * width * int64_t(sizeof(N)) > kMostBytes ? 1 : most;
}

// body(std::integral_constant<int, R>, row): groups of kMost rows if `together` is kMost, the rest one by one.
template <int kMost, class Body>
void each_rows(int64_t begin, int64_t end, int64_t together, const Body& body) {
  if (together == kMost)
    for (; begin + kMost <= end; begin += kMost) body(std::integral_constant<int, kMost>{}, begin);
  for (; begin < end; begin++) body(std::integral_constant<int, 1>{}, begin);
}

template <class N>
struct RowStats {
  N mean, inv_std;
};

template <class N, int R>
std::array<RowStats<N>, R> row_stats(const Rows<N, R>& x, int64_t width, RealOf<N> eps) {
  const N count = N(RealOf<N>(width));
  auto mean_of = [&](auto element) {
    auto elements = [=](int64_t i) {
      std::array<N, R> v;
      TW_UNROLL for (int r = 0; r < R; r++) v[r] = element(r, i);
      return v;
    };
    std::array<N, R> mean = fold_lanes<N, R>(width, elements);
    for (N& m : mean) m = m / count;
    return mean;
  };
  const std::array<N, R> mean = mean_of([=](int r, int64_t i) { return x[r][i]; });
  const std::array<N, R> var = mean_of([=](int r, int64_t i) { return square(x[r][i] - mean[r]); });
  std::array<RowStats<N>, R> stats;
  for (int r = 0; r < R; r++) stats[r] = {mean[r], inv_std(var[r], eps)};
  return stats;
}

// Element i of R rows, to `at`; stored last, as rows are often whole pages apart, where a load waits for the store
// before it. A function of its own, as arrays that are declared in a simd loop stay in memory.
template <class N, bool kAffine, int R>
TW_HD void element_forward(int64_t i, const std::array<RowStats<N>, R>& s, const Rows<N, R>& x, View<N> gamma,
                           View<N> beta, const Rows<N, R>& y, int64_t at) {
  const N scale = kAffine ? gamma[i] : N(1), shift = kAffine ? beta[i] : N(0);
  std::array<N, R> made;
  TW_UNROLL for (int r = 0; r < R; r++) {
    if constexpr (kAffine) made[r] = layer_norm(x[r][i], s[r].mean, s[r].inv_std, scale, shift);
    else made[r] = normalize(x[r][i], s[r].mean, s[r].inv_std);
  }
  TW_UNROLL for (int r = 0; r < R; r++) y[r].set(at, made[r]);
}
// The same of elements [begin, end), to y from its first element on.
template <class N, bool kAffine, int R>
TW_HD void elements_forward(int64_t begin, int64_t end, std::array<RowStats<N>, R> s, Rows<N, R> x, View<N> gamma,
                            View<N> beta, Rows<N, R> y) {
#pragma omp simd
  for (int64_t i = begin; i < end; i++) element_forward<N, kAffine, R>(i, s, x, gamma, beta, y, i - begin);
}
template <class N, bool kAffine, int R>
TW_FLATTEN void rows_forward(int64_t width, const std::array<RowStats<N>, R>& s, const Rows<N, R>& x, View<N> gamma,
                             View<N> beta, const Rows<N, R>& y, Distance distance) {
  if (distance == Distance::near) return elements_forward<N, kAffine, R>(0, width, s, x, gamma, beta, y);
  for (int r = 0; r < R; r++)
    fill_row(y[r], width, distance, std::array{x[r]}, std::max(kAhead<N>, R * width),
             [=, s = s[r], x = x[r]](int64_t begin, int64_t end, View<N> to) {
               elements_forward<N, kAffine, 1>(begin, end, {s}, {x}, gamma, beta, {to});
             });
}

template <class N, bool kAffine>
Kernel forward_kernel(int64_t rows, int64_t width, double eps) {
  return [=](const Launch& l) {
    const View<N> x(l.in[0]), gamma(l.in[kAffine ? 1 : 0]), beta(l.in[kAffine ? 2 : 0]), stats(l.out[1]);
    const Result<N> y = result<N>(l, rows * width, 1);
    const Distance distance = distance_of(y, rows * width);
    auto group = [&](auto many, int64_t row) {
      constexpr int R = decltype(many)::value;
      const Rows<N, R> from = rows_at<N, R>(x, row, width);
      const auto s = row_stats<N, R>(from, width, RealOf<N>(eps));
      for (int r = 0; r < R; r++) {
        stats.set(2 * (row + r), s[r].mean);
        stats.set(2 * (row + r) + 1, s[r].inv_std);
      }
      rows_forward<N, kAffine, R>(width, s, from, gamma, beta, rows_at<N, R>(y.y, row, width), distance);
    };
    const double ns = 0.7 * double(rows) * double(width);
    const int64_t threads = l.exec.threads_for(ns);
    const bool few = rows < 2 * kTogether<N> * threads;  // each thread is to have work
    const int64_t together = few ? 1 : rows_together<N>(width, kTogether<N>), groups = rows / together;
    const int64_t step = together * std::clamp<int64_t>(groups / (4 * threads), 1, distance == Distance::far ? 8 : 1);
    l.exec.parallel(divide_up(rows, step), ns, [&](int64_t task, int) {
      each_rows<kTogether<N>>(task * step, std::min(rows, (task + 1) * step), together, group);
      if (distance == Distance::far) end_far();
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

// d_x of elements [begin, end) of a row, to its first element on, and what they add to the sums.
template <class N, bool kAffine>
TW_HD void elements_backward(int64_t begin, int64_t end, RowStats<N> s, std::array<N, 2> mean, View<N> d_y, View<N> x,
                             View<N> gamma, View<N> d_x, State<N, 2> sums) {
#pragma omp simd
  for (int64_t i = begin; i < end; i++) {
    const N d = d_y[i], x_hat = normalize(x[i], s.mean, s.inv_std), scale = kAffine ? gamma[i] : N(1);
    sums[0].set(i, sums[0][i] + d);
    sums[1].set(i, sums[1][i] + d * x_hat);
    d_x.set(i - begin, layer_norm_backward(d, scale, x_hat, mean[0], mean[1], s.inv_std));
  }
}

// The means of gamma d_y and of gamma d_y x_hat over a row.
template <class N, bool kAffine>
std::array<N, 2> row_means(int64_t width, RowStats<N> s, View<N> d_y, View<N> x, View<N> gamma) {
  auto products = [=](int64_t i) {
    const N d = kAffine ? gamma[i] * d_y[i] : d_y[i];
    return std::array<N, 2>{d, d * normalize(x[i], s.mean, s.inv_std)};
  };
  std::array<N, 2> mean = fold_lanes<N, 2>(width, products);
  for (N& m : mean) m = m / N(RealOf<N>(width));
  return mean;
}

// d_x of n elements of a row. One row at a time: two of d_y and x come from memory slower, and are no faster in cache.
template <class N, bool kAffine>
TW_FLATTEN void row_backward(int64_t n, RowStats<N> s, std::array<N, 2> mean, View<N> d_y, View<N> x, View<N> gamma,
                             View<N> d_x, Distance distance, const State<N, 2>& sums) {
  fill_row(d_x, n, distance, std::array{d_y, x}, kAhead<N>, [=](int64_t begin, int64_t end, View<N> to) {
    elements_backward<N, kAffine>(begin, end, s, mean, d_y, x, gamma, to, sums);
  });
}

// Wide rows are passed by some columns, for whose part of gamma and of the sums L1 has room, and some rows, for whose
// d_y and x L2 has.
constexpr int64_t kColumnsBack = 1024, kMostRowsBack = 8;
template <class N>
int64_t rows_together_back(int64_t width) {
  if (width <= kColumnsBack) return 1;
  return std::clamp<int64_t>((256 << 10) / (2 * width * int64_t(sizeof(N))), 1, kMostRowsBack);
}

template <class N, bool kAffine>
Kernel backward_kernel(const Columns& plan) {
  return [=](const Launch& l) {
    const int64_t rows = plan.blocks.rows(), width = plan.channels;
    const View<N> d_y(l.in[0]), x(l.in[1]), stats(l.in[2]), gamma(l.in[kAffine ? 3 : 2]), sums(l.out[1]);
    const Result<N> d_x = result<N>(l, rows * width, 2);
    const Distance distance = distance_of(d_x, rows * width);
    const int64_t together = rows_together_back<N>(width), columns = together > 1 ? kColumnsBack : width;
    auto leaf = [&](int, int64_t r0, int64_t r1, int64_t c0, int64_t c1, const State<N, 2>& state) {
      fill_state<N, 2>(state, c0, c1, N(0));
      for (int64_t first = r0; first < r1; first += together) {
        const int64_t count = std::min(together, r1 - first);
        std::array<RowStats<N>, kMostRowsBack> s;
        std::array<std::array<N, 2>, kMostRowsBack> mean;
        for (int64_t r = 0; r < count; r++) {
          const int64_t row = first + r, at = row * width;
          s[r] = {stats[2 * row], stats[2 * row + 1]};
          mean[r] = row_means<N, kAffine>(width, s[r], d_y.at(at), x.at(at), gamma);
        }
        for (int64_t c = 0; c < width; c += columns)
          for (int64_t r = 0; r < count; r++) {
            const int64_t at = (first + r) * width + c;
            row_backward<N, kAffine>(std::min(columns, width - c), s[r], mean[r], d_y.at(at), x.at(at), gamma.at(c),
                                     d_x.y.at(at), distance, {state[0].at(c), state[1].at(c)});
          }
      }
      if (distance == Distance::far) end_far();
    };
    auto add = [](const State<N, 2>& a, const State<N, 2>& b, int64_t, int64_t, int64_t c0, int64_t c1) {
      reduce_detail::merge_states<N, 2>(a, b, c0, c1, Add{});
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

// reduce.cpp: sums, means, maxima and minima over axes, and the sums that undo broadcasting.
//   reduce_sum reduce_mean reduce_max reduce_min {axes, keepdims}; sum_to(x, like); divide_by_count; batch_rows;
//   zeros_like
// Shapes: axes are removed, or kept with extent 1 (keepdims). A sum over the batch axis follows the rank's shards, so
// it goes on across ranks (placement partial); a mean over it is reduce_sum, then divide_by_count by the global count.
// Gradients: a maximum shares its gradient evenly among ties.
#include <memory>

#include "../exec/lanes.h"
#include "../exec/short_shards.h"
#include "common.h"
#include "register.h"

namespace thalweg {
namespace {

using Values = std::vector<Value>;
using Flow = std::span<const Value>;

// ---- how a fold over any axes becomes folds of one stretch of axes at a time, from the last stretch to the first ----

struct Stage {
  // lanes: [outer][n] -> [outer];  groups: [outer][n][inner] -> [outer][inner];  rows: [n][inner] -> [inner], by shards
  enum class Form : uint8_t { lanes, groups, rows } form;
  int64_t outer, n, inner;
  Columns plan;
  ShortShards few = {};  // of form rows
  int64_t results() const { return form == Form::rows ? inner : outer * inner; }
};

struct Stretch {  // neighbouring axes that are all reduced, or all kept
  int64_t extent;
  bool reduced;
};

Stage lanes_stage(int64_t outer, int64_t n) { return {Stage::Form::lanes, outer, n, 1, {}}; }

Stage groups_stage(int64_t outer, int64_t n, int64_t inner) {
  Shards groups;
  groups.offset.assign(1, 0);
  for (int64_t o = 1; o <= outer; o++) groups.offset.push_back(o * n);
  return {Stage::Form::groups, outer, n, inner, columns(row_blocks(groups, 1), inner)};
}

// Rows of the batch, `pixels` elements of the sum under each, `inner` channels.
void add_batch_stages(std::vector<Stage>& stages, const Shards& cut, int64_t pixels, int64_t inner) {
  if (inner == 1 && pixels > 1) {  // neighbours first, where they are contiguous
    stages.push_back(lanes_stage(cut.rows(), pixels));
    pixels = 1;
  }
  Stage rows{Stage::Form::rows, 1, cut.rows() * pixels, inner, columns(row_blocks(cut, pixels), inner)};
  rows.few = ShortShards::of(rows.plan);
  stages.push_back(std::move(rows));
}

// Axes of extent 1 change nothing and are left out; the batch axis, when it is summed, stands apart.
std::vector<Stage> stages_of(const Type& x, const std::vector<bool>& reduced, const Shards& cut) {
  const bool over_batch = x.batched() && reduced[0];
  std::vector<Stretch> stretches;
  for (int i = over_batch; i < x.shape.rank(); i++) {
    if (x.shape[i] == 1) continue;
    if (stretches.empty() || stretches.back().reduced != reduced[i]) stretches.push_back({1, bool(reduced[i])});
    stretches.back().extent *= x.shape[i];
  }
  std::vector<Stage> stages;
  int64_t outer = over_batch ? x.shape[0] : 1, inner = 1;
  for (const Stretch& s : stretches) outer *= s.extent;
  if (outer == 0) {  // nothing to add: a single fold of nothing for every result
    int64_t results = 1;
    for (int i = over_batch; i < x.shape.rank(); i++) results *= reduced[i] ? 1 : x.shape[i];
    if (over_batch) add_batch_stages(stages, Shards::whole(0), 1, results);
    else stages.push_back(lanes_stage(results, 0));
    return stages;
  }
  for (size_t i = stretches.size(); i-- > 0;) {
    const Stretch& s = stretches[i];
    outer /= s.extent;
    if (!s.reduced) inner *= s.extent;
    else if (over_batch && i == 0) return add_batch_stages(stages, cut, s.extent, inner), stages;
    else stages.push_back(inner == 1 ? lanes_stage(outer, s.extent) : groups_stage(outer, s.extent, inner));
  }
  if (over_batch) add_batch_stages(stages, cut, 1, inner);
  return stages;
}

template <class N>
using One = std::array<N, 1>;

// One long vector: its blocks are folded in parallel, then the tree that fold_lanes would build.
template <class N, class Combine>
N fold_vector(const Exec& exec, int64_t n, const View<N>& x, Combine combine) {
  const int64_t blocks = (n + kLaneBlock - 1) / kLaneBlock;
  const State<N, 1> sums = state_at<N, 1>(exec.scratch<RealOf<N>>(0, Slot::shared, blocks * kPlanes<N>), blocks);
  exec.parallel(blocks, double(n) * 0.3, [&](int64_t b, int) {
    const View<N> block = x.at(b * kLaneBlock);
    sums[0].set(b,
                fold_lanes<N, 1>(
                    std::min(kLaneBlock, n - b * kLaneBlock), [=](int64_t i) { return One<N>{block[i]}; }, combine)[0]);
  });
  N slot[40];
  fold_tree(
      blocks, [&](int64_t b, int s) { slot[s] = sums[0][b]; },
      [&](int a, int b) { slot[a] = combine(slot[a], slot[b]); });
  return slot[0];
}

template <class N, class Combine>
void run_lanes(const Exec& exec, const Stage& stage, const View<N>& x, const View<N>& y, Combine combine) {
  const int64_t n = stage.n, rows = std::max<int64_t>(1, kElementsPerTask / std::max<int64_t>(1, n));
  if (stage.outer == 1 && n > kElementsPerTask) return y.set(0, fold_vector<N>(exec, n, x, combine));
  exec.parallel((stage.outer + rows - 1) / rows, double(stage.outer) * (double(n) * 0.3 + 10), [&](int64_t task, int) {
    for (int64_t o = task * rows; o < std::min(stage.outer, (task + 1) * rows); o++) {
      const View<N> row = x.at(o * n);
      y.set(o, fold_lanes<N, 1>(n, [=](int64_t i) { return One<N>{row[i]}; }, combine)[0]);
    }
  });
}

// All of x as numbers, where it is stored as bf16: for folds of neighbours, which few networks have there.
template <class N>
View<N> loaded_whole(const Exec& exec, const Operands<N, 1>& x, int64_t n) {
  if (!x.stored) return View<N>(x.at[0]);
  float* memory = exec.scratch<float>(0, Slot::a_pack, n);
  for_parts(exec, n, 0.1,
            [&](const Block& b) { load_stored(x.at[0].template as<Bf16>() + b.begin, b.n, memory + b.begin); });
  return View<N>(Buffer{reinterpret_cast<std::byte*>(memory)});
}

template <class N, bool kGroups, class Combine>
void run_columns(const Exec& exec, const Stage& stage, const Operands<N, 1>& x, const View<N>& y, Combine combine) {
  constexpr double ns = 0.3;  // an element
  if constexpr (!kGroups && !kIsDual<N> && std::is_same_v<Combine, Add>)
    if (stage.few && exec.threads_for(double(stage.n * stage.inner) * ns) == 1)
      return x.read([&](const auto& in) { stage.few.sum(in[0], stage.inner, y); });
  auto body = [](const auto& in) { return [v = in[0]](int64_t i) { return One<N>{v[i]}; }; };
  sum_operands<N, 1, kGroups, 1>(exec, stage.plan, ns, x, body, {y}, combine);
}

template <class N, class Combine>
void run_stage(const Exec& exec, const Stage& stage, const Operands<N, 1>& x, const View<N>& y, Combine combine) {
  switch (stage.form) {
    case Stage::Form::lanes: return run_lanes(exec, stage, loaded_whole(exec, x, stage.outer * stage.n), y, combine);
    case Stage::Form::groups: return run_columns<N, true>(exec, stage, x, y, combine);
    case Stage::Form::rows: return run_columns<N, false>(exec, stage, x, y, combine);
  }
}

// Results between stages alternate between two halves of a scratch block; `divisor` is applied to the last ones.
template <class Combine>
Kernel fold_kernel(const Site& site, const std::vector<bool>& reduced, double divisor = 1) {
  auto stages = std::make_shared<const std::vector<Stage>>(stages_of(site.in[0], reduced, site.cut(site.in[0])));
  int64_t between = 0;
  for (const Stage& s : *stages) between = std::max(between, s.results());
  const int64_t n = site.out[0].shape.size();
  const bool stored = site.in[0].kind == Kind::bf16;
  return with_number(site.number, [&](auto zero) -> Kernel {
    using N = decltype(zero);
    return [stages, between, n, divisor, stored](const Launch& l) {
      const size_t count = stages->size();
      auto* half = count < 2 ? nullptr : l.exec.scratch<RealOf<N>>(0, Slot::shared_pack, 2 * kPlanes<N> * between);
      const View<N> out(l.out[0]);
      Operands<N, 1> x{{l.in[0]}, stored};
      for (size_t i = 0; i < count; i++) {
        auto* plane = half + int64_t(i % 2) * kPlanes<N> * between;
        const Buffer made = i + 1 == count ? l.out[0] : Buffer{reinterpret_cast<std::byte*>(plane), between};
        run_stage<N>(l.exec, (*stages)[i], x, View<N>(made), Combine{});
        x = {{made}};
      }
      if (count == 0) for_each(l.exec, n, [=, v = loaded_whole(l.exec, x, n)](int64_t i) { out.set(i, v[i]); });
      if (divisor != 1) for_each(l.exec, n, [=](int64_t i) { out.set(i, out[i] / N(RealOf<N>(divisor))); });
    };
  });
}

// ---- reduce_sum, reduce_mean, reduce_max, reduce_min ----

std::vector<bool> marked(const std::vector<int>& axes, int rank) {
  std::vector<bool> reduced(rank, false);
  for (int a : axes) reduced[a] = true;
  return reduced;
}

std::vector<bool> reduced_axes(const Site& site) {
  const int rank = site.in[0].shape.rank();
  return marked(axes_of(site.attrs, rank), rank);
}

std::vector<Type> infer_sum(const Inputs& in) {
  check_count(in, 1, 1);
  check_real(in, 0, "x");
  const Shape& x = in[0].shape;
  const std::vector<bool> reduced = marked(checked_axes(in, x.rank()), x.rank());
  Shape out;
  for (int i = 0; i < x.rank(); i++) {
    if (!reduced[i]) out.push_back(x[i]);
    else if (in.attrs.flag("keepdims")) out.push_back(1);
  }
  return {{out, Kind::real, place_of_sum(in[0], x.rank() > 0 && reduced[0])}};
}

std::vector<Type> infer_mean(const Inputs& in) {
  std::vector<Type> out = infer_sum(in);
  check(out[0].place != Placement::partial, in, "a mean over the batch axis of x ", in[0].shape,
        " is reduce_sum, then divide_by_count with batch = true");
  return out;
}

std::vector<Type> infer_extremum(const Inputs& in) {
  std::vector<Type> out = infer_sum(in);
  check_axis0_apart(in, 0, out[0].place != Placement::partial, "a maximum or minimum over axis 0");
  for (int a : checked_axes(in, in[0].shape.rank()))
    check(in[0].shape[a] > 0 || (a == 0 && in[0].batched()), in, "axis ", a, " of x ", in[0].shape,
          " is empty: it has no maximum or minimum");
  return out;
}

double mean_count(const Type& x, const std::vector<int>& axes) {
  double count = 1;
  for (int a : axes) count *= double(x.shape[a]);
  return count;
}

Kernel sum_kernel(const Site& site) { return fold_kernel<Add>(site, reduced_axes(site)); }
Kernel mean_kernel(const Site& site) {
  const std::vector<int> axes = axes_of(site.attrs, site.in[0].shape.rank());
  return fold_kernel<Add>(site, reduced_axes(site), mean_count(site.in[0], axes));
}
Kernel max_kernel(const Site& site) { return fold_kernel<Max>(site, reduced_axes(site)); }
Kernel min_kernel(const Site& site) { return fold_kernel<Min>(site, reduced_axes(site)); }
Cost fold_cost(const Site& site) { return moved_bytes(site, double(site.in[0].shape.size())); }

// v has the type of the result of a fold of x; the same with the folded axes back as 1, so that it broadcasts to x.
Value with_axes_kept(Recorder& g, const Applied& n, Value v) {
  const Type x = g.type(n.in[0]);
  const std::vector<int> axes = axes_of(n.attrs, x.shape.rank());
  const bool leading = axes.empty() || axes.back() + 1 == int(axes.size());  // NumPy adds leading axes by itself
  if (leading || n.attrs.flag("keepdims")) return v;
  std::vector<int64_t> shape = shape_attr(x);
  for (int a : axes) shape[a] = 1;
  return g.apply("reshape", {v}, {{"shape", shape}});
}

Values sum_backward(Recorder& g, const Applied& n, Flow d) {
  return {g.apply("expand", {with_axes_kept(g, n, d[0]), n.in[0]})};
}

Values mean_backward(Recorder& g, const Applied& n, Flow d) {
  const Type x = g.type(n.in[0]);
  const auto count = int64_t(mean_count(x, axes_of(n.attrs, x.shape.rank())));
  const Value scaled = g.apply("divide_by_count", {d[0]}, {{"count", count}, {"batch", false}});
  return {g.apply("expand", {with_axes_kept(g, n, scaled), n.in[0]})};
}

// d_x = [x = y] d_y / (number of ties)
Values extremum_backward(Recorder& g, const Applied& n, Flow d) {
  const Value x = n.in[0];
  const Value winner = g.apply("equal", {x, with_axes_kept(g, n, n.out[0])});
  const Value share = g.apply("div", {d[0], g.apply("reduce_sum", {winner}, n.attrs)});
  return {g.apply("mul", {winner, with_axes_kept(g, n, share)})};
}

// ---- sum_to ----

std::vector<Type> infer_sum_to(const Inputs& in) {
  check_count(in, 2, 2);
  check_real(in, 0, "x");
  const Type &x = in[0], &to = in[1];
  check(broadcasts_to(to.shape, x.shape) || x.batched(), in, "x ", x.shape, " is not a broadcast of ", to.shape);
  check(x.batched() || !to.batched(), in, "x ", x.shape, " is not batched, but the target ", to.shape, " is");
  if (!x.batched() || to.batched()) {
    check(!x.batched() || x.shape.rank() == to.shape.rank(), in, "x ", x.shape, " and the target ", to.shape,
          " carry the batch on different axes");
    return {like(x, to.shape)};
  }
  check(to.shape.rank() < x.shape.rank() || to.shape[0] == 1, in, "the target ", to.shape, " must have 1 where x ",
        x.shape, " has the batch");
  return {{to.shape, Kind::real, Placement::partial}};
}

Kernel sum_to_kernel(const Site& site) {
  const Type &x = site.in[0], &y = site.out[0];
  const int lead = x.shape.rank() - y.shape.rank();
  std::vector<bool> reduced(x.shape.rank());
  for (int i = 0; i < x.shape.rank(); i++) reduced[i] = i < lead || (y.shape[i - lead] == 1 && x.shape[i] != 1);
  if (x.batched()) reduced[0] = !y.batched();
  return fold_kernel<Add>(site, reduced);
}

Values sum_to_backward(Recorder& g, const Applied& n, Flow d) { return {g.apply("expand", {d[0], n.in[0]}), kNone}; }

// ---- divide_by_count, batch_rows, zeros_like ----

Kernel divide_kernel(const Site& site) {
  const double count =
      double(site.attrs.integer("count")) * (site.attrs.flag("batch") ? double(site.rows_global) : 1.0);
  const int64_t n = site.out[0].shape.size();
  return with_number(site.number, [&](auto zero) -> Kernel {
    using N = decltype(zero);
    return [n, c = RealOf<N>(count)](const Launch& l) {
      const View<N> x(l.in[0]), y(l.out[0]);
      for_each(l.exec, n, [=](int64_t i) { y.set(i, x[i] / N(c)); });
    };
  });
}

Values divide_backward(Recorder& g, const Applied& n, Flow d) { return {g.apply("divide_by_count", {d[0]}, n.attrs)}; }

Kernel fill_kernel(const Site& site, double x) {
  const int64_t n = site.out[0].shape.size();
  return with_number(site.number, [&](auto zero) -> Kernel {
    using N = decltype(zero);
    return [n, x = N(RealOf<N>(x))](const Launch& l) {
      const View<N> y(l.out[0]);
      for_each(l.exec, n, [=](int64_t i) { y.set(i, x); });
    };
  });
}

std::vector<Type> infer_batch_rows(const Inputs& in) {
  check_count(in, 1, 1);
  return {Type{}};
}

Kernel batch_rows_kernel(const Site& site) {
  const Type& x = site.in[0];
  return fill_kernel(site, double(x.batched() ? site.rows_global : x.shape.rank() ? x.shape[0] : 1));
}

std::vector<Type> infer_zeros(const Inputs& in) {
  check_count(in, 1, 1);
  return {{in[0].shape, Kind::real, place_of(in[0])}};
}
Kernel zeros_kernel(const Site& site) { return fill_kernel(site, 0); }
Cost fill_cost(const Site& site) { return {0, bytes_of(site.out[0], site.number), 0}; }

}  // namespace

void register_reduce(Registry& r) {
  r.add({.name = "reduce_sum",
         .infer = infer_sum,
         .kernel = sum_kernel,
         .backward = sum_backward,
         .cost = fold_cost,
         .bf16_in = 1,
         .asks = false,
         .called = "sum"});
  r.add({.name = "reduce_mean",
         .infer = infer_mean,
         .kernel = mean_kernel,
         .backward = mean_backward,
         .cost = fold_cost,
         .bf16_in = 1,
         .called = "mean"});
  r.add({.name = "reduce_max",
         .infer = infer_extremum,
         .kernel = max_kernel,
         .backward = extremum_backward,
         .cost = fold_cost,
         .called = "max"});
  r.add({.name = "reduce_min",
         .infer = infer_extremum,
         .kernel = min_kernel,
         .backward = extremum_backward,
         .cost = fold_cost,
         .called = "min"});
  r.add({.name = "sum_to",
         .infer = infer_sum_to,
         .kernel = sum_to_kernel,
         .backward = sum_to_backward,
         .cost = fold_cost,
         .shape_only = 2,
         .bf16_in = 1,
         .asks = false});
  r.add({.name = "divide_by_count",
         .infer = infer_same,
         .kernel = divide_kernel,
         .backward = divide_backward,
         .inplace = 1,
         .called = "mean"});
  r.add({.name = "batch_rows",
         .infer = infer_batch_rows,
         .kernel = batch_rows_kernel,
         .cost = fill_cost,
         .shape_only = 1});
  r.add({.name = "zeros_like", .infer = infer_zeros, .kernel = zeros_kernel, .cost = fill_cost, .shape_only = 1});
}

}  // namespace thalweg

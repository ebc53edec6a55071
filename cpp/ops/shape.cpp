// shape.cpp: operators that move elements and change none.
//   reshape{shape} reshape_like(x, like) transpose{axes} broadcast_to{shape} expand(x, like)
//   concat{axis} split{axis, sizes} slice{begin, end, step} slice_backward(d_y, like)
// The batch stays axis 0: a shape for a batched value starts with -1, and its rows are never permuted, cut or joined.
#include <algorithm>

#include "../exec/copy.h"
#include "common.h"
#include "register.h"

namespace thalweg {
namespace {

using Values = std::vector<Value>;
using Flow = std::span<const Value>;

// ---- one kernel for all of them: strided copies from inputs to outputs, on every plane ----

struct Move {
  int from, to;  // input, output
  Copy copy;
};

template <class T>
Kernel moves_of(std::vector<Move> moves, int planes, int64_t cleared) {
  return [moves = std::move(moves), planes, cleared](const Launch& l) {
    for (int p = 0; p < planes; p++) {
      if (cleared > 0) {
        T* out = l.out[0].as<T>() + p * l.out[0].plane;
        for_each(l.exec, cleared, [=](int64_t i) { out[i] = T(0); });
      }
      for (const Move& m : moves) {
        const Buffer &in = l.in[m.from], &out = l.out[m.to];
        const T* source = in.as<T>() + p * in.plane;
        if (source != out.as<T>() + p * out.plane) run_copy(l.exec, m.copy, source, out.as<T>() + p * out.plane);
      }
    }
  };
}

// cleared: elements of output 0 that are set to 0 first.
Kernel move_kernel(const Site& site, std::vector<Move> moves, int64_t cleared = 0) {
  if (site.out[0].kind == Kind::index) return moves_of<int32_t>(std::move(moves), 1, cleared);
  if (site.out[0].kind == Kind::bf16) return moves_of<uint16_t>(std::move(moves), 1, cleared);
  const int planes = is_dual(site.number) ? 2 : 1;
  if (dtype_of(site.number) == DType::f32) return moves_of<float>(std::move(moves), planes, cleared);
  return moves_of<double>(std::move(moves), planes, cleared);
}

Copy plain_copy(int64_t n) {
  const int64_t one = 1;
  return strided_copy({&n, 1}, {&one, 1}, {&one, 1});
}

Cost move_cost(const Site& site) { return moved_bytes(site); }
Cost read_one_cost(const Site& site) {  // the second input gives its shape only
  return {0, bytes_of(site.in[0], site.number) + bytes_of(site.out[0], site.number), 0};
}

std::vector<int64_t> ints_or(const Attrs& attrs, const char* name, std::vector<int64_t> otherwise) {
  return attrs.has(name) ? attrs.ints(name) : otherwise;
}

// ---- reshape ----

Shape reshaped_batch(const Inputs& in, const std::vector<int64_t>& to) {
  const Shape& x = in[0].shape;
  check(!to.empty() && to[0] == -1, in, "x ", x,
        " is batched: the new shape must start with -1, which stays the batch");
  Shape out{x[0]};
  for (size_t i = 1; i < to.size(); i++) {
    check(to[i] >= 0, in, "the new shape has ", to[i], " as axis ", i, "; only axis 0, the batch, may be -1");
    out.push_back(to[i]);
  }
  check(out.product(1, out.rank()) == x.product(1, x.rank()), in, "a row of x ", x, " has ", x.product(1, x.rank()),
        " elements, one of the new shape ", out, " has ", out.product(1, out.rank()));
  return out;
}

Shape reshaped(const Inputs& in, const std::vector<int64_t>& to) {
  const Shape& x = in[0].shape;
  Shape out = shape_of(to);
  int open = -1;
  for (int i = 0; i < out.rank(); i++) {
    check(to[i] >= -1, in, "the new shape has ", to[i], " as axis ", i, ", expected an extent, or -1 once");
    check(to[i] != -1 || open < 0, in, "the new shape has -1 twice");
    if (to[i] == -1) open = i;
  }
  if (open >= 0) {
    out[open] = 1;
    const int64_t known = out.size();
    check(known > 0 && x.size() % known == 0, in, "x ", x, " of ", x.size(), " elements does not fill axes of ", known);
    out[open] = x.size() / known;
  }
  check(out.size() == x.size(), in, "x ", x, " has ", x.size(), " elements, the new shape ", out, " has ", out.size());
  return out;
}

std::vector<Type> infer_reshape(const Inputs& in) {
  check_count(in, 1, 1);
  const std::vector<int64_t>& to = in.attrs.ints("shape");
  return {like(in[0], in[0].batched() ? reshaped_batch(in, to) : reshaped(in, to))};
}

std::vector<Type> infer_reshape_like(const Inputs& in) {
  check_count(in, 2, 2);
  check_same_place(in, 0, 1);
  check(in[0].shape.size() == in[1].shape.size() && (!in[0].batched() || in[0].shape[0] == in[1].shape[0]), in, "x ",
        in[0].shape, " does not have as many elements as ", in[1].shape);
  return {like(in[0], in[1].shape)};
}

Kernel reshape_kernel(const Site& site) { return move_kernel(site, {{0, 0, plain_copy(site.out[0].shape.size())}}); }
Values reshape_backward(Recorder& g, const Applied& n, Flow d) {
  Values out(n.in.size(), kNone);
  out[0] = g.apply("reshape_like", {d[0], n.in[0]});
  return out;
}

// ---- transpose ----

std::vector<int64_t> permutation_of(const Attrs& attrs, int rank) {
  std::vector<int64_t> axes = attrs.ints("axes");
  for (int64_t& a : axes) a += a < 0 ? rank : 0;
  return axes;
}

std::vector<Type> infer_transpose(const Inputs& in) {
  check_count(in, 1, 1);
  const Shape& x = in[0].shape;
  const std::vector<int64_t>& axes = in.attrs.ints("axes");
  check(int(axes.size()) == x.rank(), in, "axes has ", axes.size(), " entries, expected ", x.rank(), " = axes of x ",
        x);
  std::vector<bool> seen(x.rank(), false);
  Shape out;
  for (int64_t a : axes) {
    const int axis = axis_of(in, a, x.rank());
    check(!seen[axis], in, "axis ", axis, " is given twice");
    seen[axis] = true;
    out.push_back(x[axis]);
  }
  check_axis0_apart(in, 0, x.rank() == 0 || axis_of(in, axes[0], x.rank()) == 0, "a transpose that moves axis 0");
  return {like(in[0], out)};
}

Kernel transpose_kernel(const Site& site) {
  const Shape &x = site.in[0].shape, &y = site.out[0].shape;
  const std::vector<int64_t> axes = permutation_of(site.attrs, x.rank()), strides = strides_of(x);
  std::vector<int64_t> in;
  for (int64_t a : axes) in.push_back(strides[a]);
  return move_kernel(site, {{0, 0, strided_copy(y.vector(), in, strides_of(y))}});
}

Values transpose_backward(Recorder& g, const Applied& n, Flow d) {
  const int rank = g.type(n.in[0]).shape.rank();
  return {g.apply("transpose", {d[0]}, {{"axes", inverse_permutation(n.attrs.ints("axes"), rank)}})};
}

// ---- broadcast_to, expand ----

std::vector<Type> infer_broadcast_to(const Inputs& in) {
  check_count(in, 1, 1);
  const Shape& x = in[0].shape;
  std::vector<int64_t> to = in.attrs.ints("shape");
  if (in[0].batched()) {
    check(int(to.size()) == x.rank() && to[0] == -1, in, "x ", x,
          " is batched: the new shape must have as many axes and start with -1");
    to[0] = x[0];
  }
  for (int64_t n : to) check(n >= 0, in, "the new shape has an extent of ", n);
  const Shape out = shape_of(to);
  check(broadcasts_to(x, out), in, "x ", x, " does not broadcast to ", out);
  return {like(in[0], out)};
}

std::vector<Type> infer_expand(const Inputs& in) {
  check_count(in, 2, 2);
  const Type &x = in[0], &to = in[1];
  check(broadcasts_to(x.shape, to.shape), in, "x ", x.shape, " does not broadcast to ", to.shape);
  const bool full = x.shape.rank() == to.shape.rank() && x.shape.rank() > 0;
  if (x.batched())
    check(to.batched() && full && x.shape[0] == to.shape[0], in, "x ", x.shape, " is batched, the target ", to.shape,
          " is not");
  else if (to.batched())
    check(!full || x.shape[0] == 1, in, "mixes the batch axis: x ", x.shape, " is not batched, the target ", to.shape,
          " is");
  return {{to.shape, x.kind, place_of(to)}};
}

Kernel expand_kernel(const Site& site) {
  const Shape &x = site.in[0].shape, &y = site.out[0].shape;
  const std::vector<int64_t> strides = strides_of(x);
  std::vector<int64_t> in(y.rank(), 0);
  const int lead = y.rank() - x.rank();
  for (int i = 0; i < x.rank(); i++) in[lead + i] = x[i] == 1 ? 0 : strides[i];
  return move_kernel(site, {{0, 0, strided_copy(y.vector(), in, strides_of(y))}});
}

Values expand_backward(Recorder& g, const Applied& n, Flow d) {
  Values out(n.in.size(), kNone);
  out[0] = sum_back(g, d[0], n.in[0]);
  return out;
}

// ---- concat, split ----

std::vector<Type> infer_concat(const Inputs& in) {
  check_count(in, 1, 1024);
  check_rank(in, 0, "input 0", 1);
  const Shape& first = in[0].shape;
  const int axis = axis_of(in, in.attrs.integer("axis"), first.rank());
  Shape out = first;
  out[axis] = 0;
  for (size_t i = 0; i < in.size(); i++) {
    const Shape& x = in[i].shape;
    if (in[i].kind != in[0].kind) throw TypeError(text(in.where, "inputs 0 and ", i, " mix real numbers and integers"));
    check_same_place(in, 0, i);
    check_axis0_apart(in, i, axis != 0, "joining along axis 0");
    bool fits = x.rank() == first.rank();
    for (int a = 0; fits && a < x.rank(); a++) fits = a == axis || x[a] == first[a];
    check(fits, in, "input ", i, " has shape ", x, ", expected that of input 0, ", first, ", but for axis ", axis);
    out[axis] += x[axis];
  }
  return {like(in[0], out)};
}

// Where part i of `whole` along an axis lies: the same extents as the part, the strides of the whole.
std::vector<Move> part_moves(const Shape& whole, std::span<const Type> parts, int axis, bool split) {
  const std::vector<int64_t> outer = strides_of(whole);
  std::vector<Move> moves;
  int64_t offset = 0;
  for (size_t i = 0; i < parts.size(); i++) {
    const Shape& part = parts[i].shape;
    const std::vector<int64_t> inner = strides_of(part);
    moves.push_back(split ? Move{0, int(i), strided_copy(part.vector(), outer, inner, offset, 0)}
                          : Move{int(i), 0, strided_copy(part.vector(), inner, outer, 0, offset)});
    offset += part[axis] * outer[axis];
  }
  return moves;
}

int site_axis(const Site& site) {
  const int64_t axis = site.attrs.integer("axis");
  return int(axis < 0 ? axis + site.in[0].shape.rank() : axis);
}

Kernel concat_kernel(const Site& site) {
  return move_kernel(site, part_moves(site.out[0].shape, site.in, site_axis(site), false));
}

Values concat_backward(Recorder& g, const Applied& n, Flow d) {
  std::vector<int64_t> sizes;
  const int64_t axis = n.attrs.integer("axis");
  for (Value v : n.in) {
    const Shape& x = g.type(v).shape;
    sizes.push_back(x[int(axis < 0 ? axis + x.rank() : axis)]);
  }
  return g.apply_all("split", {d[0]}, {{"axis", axis}, {"sizes", sizes}});
}

std::vector<Type> infer_split(const Inputs& in) {
  check_count(in, 1, 1);
  check_rank(in, 0, "x", 1);
  const Shape& x = in[0].shape;
  const int axis = axis_of(in, in.attrs.integer("axis"), x.rank());
  check_axis0_apart(in, 0, axis != 0, "splitting along axis 0");
  const std::vector<int64_t>& sizes = in.attrs.ints("sizes");
  check(!sizes.empty(), in, "sizes is empty, expected one extent for each part");
  int64_t total = 0;
  std::vector<Type> out;
  for (int64_t n : sizes) {
    check(n >= 0, in, "sizes has ", n, ", expected extents of 0 or more");
    Shape part = x;
    part[axis] = n;
    total += n;
    out.push_back(like(in[0], part));
  }
  check(total == x[axis], in, "sizes sum to ", total, ", expected ", x[axis], " = axis ", axis, " of x ", x);
  return out;
}

Kernel split_kernel(const Site& site) {
  return move_kernel(site, part_moves(site.in[0].shape, site.out, site_axis(site), true));
}

Values split_backward(Recorder& g, const Applied& n, Flow d) {
  Values parts;
  for (size_t i = 0; i < n.out.size(); i++) parts.push_back(d[i] != kNone ? d[i] : zeros_for(g, n.out[i]));
  return {g.apply("concat", parts, {{"axis", n.attrs.integer("axis")}})};
}

// ---- slice ----

struct Range {
  int64_t begin, end, step;
  int64_t count() const { return (end - begin + step - 1) / step; }
};

// The ranges of a slice of x; the batch is always whole, as (0, -1, 1).
std::vector<Range> ranges_of(const Type& x, const Attrs& attrs) {
  const std::vector<int64_t>&begin = attrs.ints("begin"), &end = attrs.ints("end");
  const std::vector<int64_t> step = ints_or(attrs, "step", std::vector<int64_t>(begin.size(), 1));
  std::vector<Range> ranges;
  for (size_t i = 0; i < begin.size(); i++) ranges.push_back({begin[i], end[i], step[i]});
  if (x.batched()) ranges[0].end = x.shape[0];
  return ranges;
}

Shape checked_slice(const Inputs& in, const Type& x) {
  const size_t rank = size_t(x.shape.rank());
  const std::vector<int64_t>&begin = in.attrs.ints("begin"), &end = in.attrs.ints("end");
  const std::vector<int64_t> step = ints_or(in.attrs, "step", std::vector<int64_t>(rank, 1));
  check(begin.size() == rank && end.size() == rank && step.size() == rank, in, "begin, end and step have ",
        begin.size(), ", ", end.size(), " and ", step.size(), " entries, expected ", rank, " = axes of x ", x.shape);
  if (x.batched())
    check(begin[0] == 0 && end[0] == -1 && step[0] == 1, in, "axis 0 of x ", x.shape,
          " is the batch: its range must be 0, -1 (all), 1");
  const std::vector<Range> ranges = ranges_of(x, in.attrs);
  Shape out;
  for (size_t i = 0; i < rank; i++) {
    const Range& r = ranges[i];
    const int64_t extent = x.shape[int(i)];
    check(r.step >= 1, in, "step ", r.step, " of axis ", i, " is not allowed, expected 1 or more");
    check(0 <= r.begin && r.begin <= r.end && r.end <= extent, in, "range ", r.begin, " to ", r.end, " of axis ", i,
          " is not within 0 to ", extent, " of x ", x.shape);
    out.push_back(r.count());
  }
  return out;
}

std::vector<Type> infer_slice(const Inputs& in) {
  check_count(in, 1, 1);
  return {like(in[0], checked_slice(in, in[0]))};
}

std::vector<Type> infer_slice_backward(const Inputs& in) {
  check_count(in, 2, 2);
  check_same_place(in, 0, 1);
  check_shape(in, 0, "d_y", checked_slice(in, in[1]), "shape of the slice");
  return {{in[1].shape, in[0].kind, place_of(in[1])}};
}

// The copy between a whole value and its slice; `to_whole` gives its direction.
Copy slice_copy(const Type& whole, const Shape& part, const Attrs& attrs, bool to_whole) {
  const std::vector<Range> ranges = ranges_of(whole, attrs);
  std::vector<int64_t> stride = strides_of(whole.shape);
  int64_t offset = 0;
  for (size_t i = 0; i < ranges.size(); i++) {
    offset += ranges[i].begin * stride[i];
    stride[i] *= ranges[i].step;
  }
  return to_whole ? strided_copy(part.vector(), strides_of(part), stride, 0, offset)
                  : strided_copy(part.vector(), stride, strides_of(part), offset, 0);
}

Kernel slice_kernel(const Site& site) {
  return move_kernel(site, {{0, 0, slice_copy(site.in[0], site.out[0].shape, site.attrs, false)}});
}
Kernel slice_backward_kernel(const Site& site) {
  const Type& whole = site.out[0];
  return move_kernel(site, {{0, 0, slice_copy(whole, site.in[0].shape, site.attrs, true)}}, whole.shape.size());
}

Values slice_rule(Recorder& g, const Applied& n, Flow d) {
  return {g.apply("slice_backward", {d[0], n.in[0]}, n.attrs)};
}
Values slice_backward_rule(Recorder& g, const Applied& n, Flow d) { return {g.apply("slice", {d[0]}, n.attrs), kNone}; }

// shape_only: the inputs that give their shape only.
Operator mover(const char* name, decltype(Operator::infer) infer, decltype(Operator::kernel) kernel,
               decltype(Operator::backward) backward, uint32_t shape_only = 0, uint32_t inplace = 0) {
  return {.name = name,
          .infer = infer,
          .kernel = kernel,
          .backward = backward,
          .cost = shape_only ? read_one_cost : move_cost,
          .shape_only = shape_only,
          .inplace = inplace,
          .own = 1,
          .bf16_in = ~shape_only,
          .bf16_out = ~0u};
}

}  // namespace

void register_shape(Registry& r) {
  r.add(mover("reshape", infer_reshape, reshape_kernel, reshape_backward, 0, 1));
  r.add(mover("reshape_like", infer_reshape_like, reshape_kernel, reshape_backward, 2, 1));
  r.add(mover("transpose", infer_transpose, transpose_kernel, transpose_backward));
  r.add(mover("broadcast_to", infer_broadcast_to, expand_kernel, expand_backward));
  r.add(mover("expand", infer_expand, expand_kernel, expand_backward, 2));
  r.add(mover("concat", infer_concat, concat_kernel, concat_backward));
  r.add(mover("split", infer_split, split_kernel, split_backward));
  r.add(mover("slice", infer_slice, slice_kernel, slice_rule));
  r.add(mover("slice_backward", infer_slice_backward, slice_backward_kernel, slice_backward_rule, 2));
}

}  // namespace thalweg

// common.cpp: see common.h.
#include "common.h"

#include <algorithm>
#include <numeric>

namespace thalweg {

void check_count(const Inputs& in, size_t least, size_t most) {
  check(in.size() >= least && in.size() <= most, in, "takes ", least, least == most ? "" : " to ",
        least == most ? "" : std::to_string(most), " inputs, got ", in.size());
}

void check_real(const Inputs& in, size_t i, const char* name) {
  if (in[i].kind != Kind::real)
    throw TypeError(text(in.where, name, " is an index tensor of shape ", in[i].shape, ", expected real numbers"));
}

void check_index(const Inputs& in, size_t i, const char* name) {
  if (in[i].kind != Kind::index)
    throw TypeError(text(in.where, name, " is a real tensor of shape ", in[i].shape, ", expected integers"));
}

void check_rank(const Inputs& in, size_t i, const char* name, int least, int most) {
  const int rank = in[i].shape.rank();
  check(rank >= least && rank <= most, in, name, " has shape ", in[i].shape, " with ", rank, " axes, expected ",
        least == most ? "exactly " : "at least ", least);
}

void check_shape(const Inputs& in, size_t i, const char* name, const Shape& expected, const char* why) {
  check(in[i].shape == expected, in, name, " has shape ", in[i].shape, ", expected ", expected, " = ", why);
}

void check_replicated(const Inputs& in, size_t i, const char* name) {
  check(!in[i].batched(), in, name, " of shape ", in[i].shape,
        " carries the batch axis; it must be the same on every rank");
}

void check_same_place(const Inputs& in, size_t i, size_t j) {
  check(in[i].batched() == in[j].batched(), in, "inputs ", i, " and ", j, " of shapes ", in[i].shape, " and ",
        in[j].shape, " must both have the batch as axis 0, or neither");
}

void check_axis0_apart(const Inputs& in, size_t i, bool apart, const char* what) {
  check(apart || !in[i].batched(), in, what, " mixes the rows of the batch: axis 0 of x ", in[i].shape,
        " is the batch and must stay apart");
}

namespace {

Shape broadcast_shape(const Inputs& in) {
  int rank = 0;
  for (const Type& t : in.types) rank = std::max(rank, t.shape.rank());
  Shape out;
  for (int i = 0; i < rank; i++) out.push_back(1);
  for (const Type& t : in.types)
    for (int i = t.shape.rank() - 1, o = rank - 1; i >= 0; i--, o--) {
      check(t.shape[i] == 1 || out[o] == 1 || t.shape[i] == out[o], in, "shapes ", in[0].shape, " and ",
            (in.size() > 2 ? t : in[1]).shape, " do not broadcast: axis ", o - rank, " has ", out[o], " and ",
            t.shape[i]);
      if (t.shape[i] != 1) out[o] = t.shape[i];
    }
  return out;
}

}  // namespace

Type broadcast_types(const Inputs& in) {
  const Shape out = broadcast_shape(in);
  const Type* batch = nullptr;
  for (const Type& t : in.types)
    if (t.batched()) batch = &t;
  for (const Type& t : in.types) {
    if (!batch || t.shape.rank() < out.rank()) {
      check(!t.batched(), in, "mixes the batch axis: axis 0 of ", t.shape, " is the batch but meets axis ",
            out.rank() - t.shape.rank(), " of an operand of ", out.rank(), " axes");
      continue;
    }
    check(t.batched() ? t.shape[0] == batch->shape[0] : t.shape[0] == 1, in,
          "mixes the batch axis: an operand of shape ", t.shape, " meets the batch of shape ", batch->shape,
          t.batched() ? "" : "; expected 1 as its axis 0, or fewer axes");
  }
  if (!batch) return {out};
  Shape shape = out;
  shape[0] = batch->shape[0];
  return {shape, Kind::real, Placement::batch};
}

bool broadcasts_to(const Shape& from, const Shape& to) {
  if (from.rank() > to.rank()) return false;
  for (int i = from.rank() - 1, o = to.rank() - 1; i >= 0; i--, o--)
    if (from[i] != to[o] && from[i] != 1) return false;
  return true;
}

int axis_of(const Inputs& in, int64_t axis, int rank) {
  check(axis >= -rank && axis < rank, in, "axis ", axis, " is out of range for ", rank, " axes (", -rank, " to ",
        rank - 1, ")");
  return int(axis < 0 ? axis + rank : axis);
}

std::vector<int> axes_of(const Attrs& attrs, int rank) {
  std::vector<int> axes;
  if (!attrs.has("axes")) {
    axes.resize(rank);
    std::iota(axes.begin(), axes.end(), 0);
    return axes;
  }
  for (int64_t a : attrs.ints("axes")) axes.push_back(int(a < 0 ? a + rank : a));
  std::sort(axes.begin(), axes.end());
  return axes;
}

std::vector<int> checked_axes(const Inputs& in, int rank) {
  if (in.attrs.has("axes"))
    for (int64_t a : in.attrs.ints("axes")) axis_of(in, a, rank);
  std::vector<int> axes = axes_of(in.attrs, rank);
  auto twice = std::adjacent_find(axes.begin(), axes.end());
  check(twice == axes.end(), in, "axis ", twice == axes.end() ? 0 : *twice, " is given twice");
  return axes;
}

std::vector<int64_t> inverse_permutation(const std::vector<int64_t>& axes, int rank) {
  std::vector<int64_t> inverse(rank);
  for (int i = 0; i < rank; i++) inverse[axes[i] < 0 ? axes[i] + rank : axes[i]] = i;
  return inverse;
}

std::vector<Type> infer_same(const Inputs& in) {
  check_count(in, 1, 1);
  check_real(in, 0, "x");
  return {like(in[0])};
}

std::vector<Type> infer_pair(const Inputs& in) {
  check_count(in, 2, 2);
  check_real(in, 0, "d_y");
  check_real(in, 1, "x");
  check_shape(in, 0, "d_y", in[1].shape, "shape of x");
  check_same_place(in, 0, 1);
  return {like(in[1])};
}

Value sum_back(Recorder& record, Value d, Value to) {
  if (d == kNone) return kNone;
  const Type &from = record.type(d), &target = record.type(to);
  if (from.shape == target.shape && from.batched() == target.batched()) return d;
  return record.apply("sum_to", {d, to});
}

Value zeros_for(Recorder& record, Value x) { return record.apply("zeros_like", {x}); }

std::vector<int64_t> shape_attr(const Type& t) {
  std::vector<int64_t> extents = t.shape.vector();
  if (t.batched()) extents[0] = -1;
  return extents;
}

Shape shape_of(const std::vector<int64_t>& extents) { return Shape(std::span<const int64_t>(extents)); }

double bytes_of(const Type& t, Number number) {
  const int planes = t.kind == Kind::real && is_dual(number) ? 2 : 1;
  return double(t.shape.size()) * double(element_bytes(number, t.kind)) * planes;
}

Cost moved_bytes(const Site& site, double flops) {
  Cost cost{flops, 0, 0};
  for (const Type& t : site.in) cost.bytes += bytes_of(t, site.number);
  for (const Type& t : site.out) cost.bytes += bytes_of(t, site.number);
  return cost;
}

}  // namespace thalweg

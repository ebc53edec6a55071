// common.h: what the operators of this folder share: checks of arguments, the rules of broadcasting and placement,
// axes. Every check raises at the public door with the operator's own heading, "[add 'net.fc'] ...".
#pragma once
#include <string>
#include <utility>
#include <vector>

#include "../exec/for_each.h"
#include "operator.h"

namespace thalweg {

// ---- checks, used by infer() ----
void check_count(const Inputs& in, size_t least, size_t most);   // number of inputs
void check_real(const Inputs& in, size_t i, const char* name);   // TypeError for an index tensor
void check_index(const Inputs& in, size_t i, const char* name);  // TypeError for a real tensor
void check_rank(const Inputs& in, size_t i, const char* name, int least, int most = Shape::kMaxRank);
void check_shape(const Inputs& in, size_t i, const char* name, const Shape& expected, const char* why);
void check_replicated(const Inputs& in, size_t i, const char* name);               // parameters may not carry the batch
void check_same_place(const Inputs& in, size_t i, size_t j);                       // both batched or neither
void check_axis0_apart(const Inputs& in, size_t i, bool apart, const char* what);  // `what` would mix rows of the batch

// ---- placement and broadcasting ----
// A value that is not batched is whole on every rank by the time an operator reads it.
inline Placement place_of(const Type& t) { return t.batched() ? Placement::batch : Placement::replicated; }
inline Type like(const Type& t) { return {t.shape, t.kind, place_of(t)}; }
inline Type like(const Type& t, Shape shape) { return {shape, t.kind, place_of(t)}; }
// The placement of a sum over axes of t: a summand of the rank when the batch axis is among them.
inline Placement place_of_sum(const Type& t, bool over_batch) {
  return t.batched() ? (over_batch ? Placement::partial : Placement::batch) : Placement::replicated;
}
// NumPy's rule; axis 0 of a batched operand meets only axis 0 of other batched operands, extents of 1, or nothing.
Type broadcast_types(const Inputs& in);
bool broadcasts_to(const Shape& from, const Shape& to);

// ---- axes ----
int axis_of(const Inputs& in, int64_t axis, int rank);      // counts negative axes from the end
std::vector<int> axes_of(const Attrs& attrs, int rank);     // sorted, no checks: for kernels
std::vector<int> checked_axes(const Inputs& in, int rank);  // of attribute "axes"; absent: all of them
std::vector<int64_t> inverse_permutation(const std::vector<int64_t>& axes, int rank);

// ---- common rules ----
std::vector<Type> infer_same(const Inputs& in);  // one real input, the same type out
std::vector<Type> infer_pair(const Inputs& in);  // (d_y, x or y): one shape, that of d_x
// d summed back to the type of `to`, the reverse of broadcasting; d itself when nothing was broadcast.
Value sum_back(Recorder& record, Value d, Value to);
Value zeros_for(Recorder& record, Value x);  // a zero gradient of x's type
// The attribute `shape` that keeps what a value's type says: -1 stands for the rows of a batched value.
std::vector<int64_t> shape_attr(const Type& t);
Shape shape_of(const std::vector<int64_t>& extents);

// Output 0 of a kernel, n elements, made from the first `operands` inputs: far when it is large and none of them.
template <class N>
Result<N> result(const Launch& l, int64_t n, int operands) {
  bool far = n * int64_t(sizeof(RealOf<N>)) > kFarBytes;
  for (int i = 0; i < operands; i++) far &= l.in[i].data != l.out[0].data;
  return {View<N>(l.out[0]), far};
}

Cost moved_bytes(const Site& site, double flops = 0);  // every tensor moved once
double bytes_of(const Type& t, Number number);

}  // namespace thalweg

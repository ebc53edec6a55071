// matmul.cpp: matrix products.
//   C = op(A) op(B)      op transposes the last two axes where transpose_a, transpose_b say so
// Shapes: a (..., m, k), b (..., k, n), or (..., k, m), (..., n, k) when transposed; C (..., m, n). The leading axes of
// a and b are equal, or one of the two is a plain matrix that serves every product.
// A batch axis stays apart: it is a leading axis, or the rows of a plain `a` that is not transposed. The gradient of
// the other operand then sums over the batch, by linear_backward_weight.
#include "product.h"
#include "register.h"

namespace thalweg {
namespace {

struct Dims {
  bool ta, tb;
  int64_t m, n, k, n_b_k;  // n_b_k: the k that b has
  int64_t a_lead, b_lead;  // products of the leading axes; 1 for a plain matrix
  bool a_plain, b_plain;
};

Dims dims_of(const Shape& a, const Shape& b, const Attrs& attrs) {
  Dims d{};
  d.ta = attrs.flag("transpose_a"), d.tb = attrs.flag("transpose_b");
  const int ra = a.rank(), rb = b.rank();
  d.m = a[ra - (d.ta ? 1 : 2)], d.k = a[ra - (d.ta ? 2 : 1)];
  d.n = b[rb - (d.tb ? 2 : 1)], d.n_b_k = b[rb - (d.tb ? 1 : 2)];
  d.a_lead = a.product(0, ra - 2), d.b_lead = b.product(0, rb - 2);
  d.a_plain = ra == 2, d.b_plain = rb == 2;
  return d;
}

bool same_leading(const Shape& a, const Shape& b) {
  if (a.rank() != b.rank()) return false;
  for (int i = 0; i < a.rank() - 2; i++)
    if (a[i] != b[i]) return false;
  return true;
}

void check_batch(const Inputs& in, const Dims& d) {
  const Type &a = in[0], &b = in[1];
  check(!(a.batched() && d.a_plain && d.ta), in, "the sum over k would run over the batch: a ", a.shape,
        " is transposed and its axis 0 is the batch");
  check(!(b.batched() && d.b_plain), in, "b ", b.shape,
        " mixes the batch axis: it is a plain matrix and its axis 0 is the batch");
  check(!(a.batched() && d.a_plain) || d.b_plain, in, "the rows of a ", a.shape, " are the batch, so b ", b.shape,
        " must be a plain matrix");
  if (!d.a_plain && !d.b_plain)
    check(a.batched() == b.batched(), in, "a ", a.shape, " and b ", b.shape,
          " must both have the batch as axis 0, or neither");
}

std::vector<Type> infer(const Inputs& in) {
  check_count(in, 2, 2);
  check_real(in, 0, "a");
  check_real(in, 1, "b");
  check_rank(in, 0, "a", 2);
  check_rank(in, 1, "b", 2);
  const Shape &a = in[0].shape, &b = in[1].shape;
  const Dims d = dims_of(a, b, in.attrs);
  check(d.k == d.n_b_k, in, "b has ", d.n_b_k, d.tb ? " columns" : " rows", " (shape ", b, "), expected ", d.k, " = ",
        d.ta ? "rows" : "columns", " of a ", a);
  check(d.a_plain || d.b_plain || same_leading(a, b), in, "the leading axes of a ", a, " and b ", b,
        " must be equal, or one of them must have 2 axes");
  check_batch(in, d);
  Type out;
  const Shape& lead = d.a_plain ? b : a;
  for (int i = 0; i < lead.rank() - 2; i++) out.shape.push_back(lead[i]);
  out.shape.push_back(d.m), out.shape.push_back(d.n);
  out.place = in[0].batched() || in[1].batched() ? Placement::batch : Placement::replicated;
  return {out};
}

Matmul plan_of(const Site& s) {
  const Dims d = dims_of(s.in[0].shape, s.in[1].shape, s.attrs);
  Matmul p{.m = d.m,
           .n = d.n,
           .k = d.k,
           .a_row = d.ta ? 1 : d.k,
           .a_col = d.ta ? d.m : 1,
           .b_row = d.tb ? 1 : d.n,
           .b_col = d.tb ? d.k : 1,
           .c_row = d.n};
  if (d.b_plain && !d.ta) {  // rows of all leading axes are rows of one product
    p.m *= d.a_lead;
    return p;
  }
  p.batch = std::max(d.a_lead, d.b_lead);
  if (d.a_lead == 0 || d.b_lead == 0) p.batch = 0;
  p.a_batch = d.a_plain ? 0 : d.m * d.k, p.b_batch = d.b_plain ? 0 : d.k * d.n, p.c_batch = d.m * d.n;
  return p;
}

Kernel kernel(const Site& s) {
  const Matmul p = plan_of(s);
  if (p.m * p.n * p.batch == 0) return [](const Launch&) {};
  return with_product(s, s.in[0], [&](auto how) -> Kernel {
    return [p, how](const Launch& l) mutable { product<false>(how, l, p, {l.in[0], l.in[1], nullptr, l.out[0]}); };
  });
}

Value transposed(Recorder& r, Value x) {  // of the last two axes
  const int rank = r.type(x).shape.rank();
  std::vector<int64_t> axes;
  for (int i = 0; i < rank - 2; i++) axes.push_back(i);
  axes.push_back(rank - 1), axes.push_back(rank - 2);
  return r.apply("transpose", {x}, {{"axes", axes}});
}

Value record(Recorder& r, Value a, Value b, bool ta, bool tb) {
  return r.apply("matmul", {a, b}, {{"transpose_a", ta}, {"transpose_b", tb}});
}

// dA = dC op(B)', or its transpose; a plain `a` that served many products sums over them.
Value backward_a(Recorder& r, Value a, Value b, Value d_c, bool ta, bool tb) {
  const bool sums = r.type(a).shape.rank() == 2 && r.type(b).shape.rank() > 2;
  if (!sums) return ta ? record(r, b, d_c, tb, true) : record(r, d_c, b, false, !tb);
  const Value rows_m = transposed(r, d_c), rows_k = tb ? b : transposed(r, b);  // (..., n, m), (..., n, k)
  return ta ? r.apply("linear_backward_weight", {rows_k, rows_m}) : r.apply("linear_backward_weight", {rows_m, rows_k});
}

// dB = op(A)' dC, or its transpose; likewise.
Value backward_b(Recorder& r, Value a, Value b, Value d_c, bool ta, bool tb) {
  const bool sums = r.type(b).shape.rank() == 2 && (r.type(a).shape.rank() > 2 || r.type(a).batched());
  if (!sums) return tb ? record(r, d_c, a, true, ta) : record(r, a, d_c, !ta, false);
  const Value rows_k = ta ? transposed(r, a) : a;  // (..., m, k)
  return tb ? r.apply("linear_backward_weight", {d_c, rows_k}) : r.apply("linear_backward_weight", {rows_k, d_c});
}

std::vector<Value> backward(Recorder& r, const Applied& n, std::span<const Value> d_out) {
  const bool ta = n.attrs.flag("transpose_a"), tb = n.attrs.flag("transpose_b");
  return {backward_a(r, n.in[0], n.in[1], d_out[0], ta, tb), backward_b(r, n.in[0], n.in[1], d_out[0], ta, tb)};
}

Cost cost(const Site& s) {
  const Matmul p = plan_of(s);
  return product_cost(s, double(p.m) * double(p.n) * double(p.k) * double(p.batch));
}

}  // namespace

void register_matmul(Registry& r) {
  r.add({.name = "matmul",
         .infer = infer,
         .kernel = kernel,
         .backward = backward,
         .leads = true,
         .cost = cost,
         .bf16_in = 3,
         .bf16_out = 1,
         .product = true});
}

}  // namespace thalweg

// linear.cpp: the dense layer, forward and backward.
//   y = x W' + bias      d_x = d_y W      d_W = d_y' x      d_bias = sum of d_y over the rows
// Shapes: x (..., in), weight (out, in), bias (out), y (..., out). All leading axes together are the rows.
// The weight gradient sums over the batch: rows of a shard in order, shards in the tree of shards.h; when x is batched
// it is one rank's summand.
#include "product.h"
#include "register.h"

namespace thalweg {
namespace {

void check_features(const Inputs& in, size_t i, const char* name) {  // the last axis may not be the batch
  check_real(in, i, name);
  check_rank(in, i, name, 1);
  check(!(in[i].batched() && in[i].shape.rank() == 1), in, name, " ", in[i].shape,
        " has only the batch axis; features must be its last axis");
}

void check_weight(const Inputs& in, size_t i) {
  check_real(in, i, "weight");
  check_rank(in, i, "weight", 2, 2);
  check_replicated(in, i, "weight");
}

Shape with_last(const Shape& x, int64_t n) {
  Shape y = x;
  y[y.rank() - 1] = n;
  return y;
}

std::vector<Type> infer(const Inputs& in) {
  check_count(in, 2, 3);
  check_features(in, 0, "x");
  check_weight(in, 1);
  const Shape &x = in[0].shape, &w = in[1].shape;
  check(w[1] == x.back(), in, "weight has ", w[1], " inputs (shape ", w, "), expected ", x.back(), " = last axis of x ",
        x);
  if (in.size() == 3) check_bias(in, 2, w[0]);
  return {like(in[0], with_last(x, w[0]))};
}

Kernel kernel(const Site& s) {
  const Shape &x = s.in[0].shape, &w = s.in[1].shape;
  const Matmul p{
      .m = x.rows(), .n = w[0], .k = w[1], .a_row = w[1], .a_col = 1, .b_row = 1, .b_col = w[1], .c_row = w[0]};
  if (p.m * p.n == 0) return [](const Launch&) {};
  return with_product(s, s.in[0], [&, has_bias = s.in.size() == 3](auto how) -> Kernel {
    return [p, has_bias, how](const Launch& l) mutable {
      product<true>(how, l, p, {l.in[0], l.in[1], has_bias ? l.in + 2 : nullptr, l.out[0]});
    };
  });
}

std::vector<Value> backward(Recorder& r, const Applied& n, std::span<const Value> d_out) {
  const Value d_y = d_out[0];
  std::vector<Value> d{r.apply("linear_backward_input", {d_y, n.in[1]}),
                       r.apply("linear_backward_weight", {d_y, n.in[0]})};
  if (n.in.size() == 3) d.push_back(bias_gradient(r, d_y));
  return d;
}

std::vector<Type> infer_input(const Inputs& in) {
  check_count(in, 2, 2);
  check_features(in, 0, "d_y");
  check_weight(in, 1);
  const Shape &d_y = in[0].shape, &w = in[1].shape;
  check(w[0] == d_y.back(), in, "weight has ", w[0], " outputs (shape ", w, "), expected ", d_y.back(),
        " = last axis of d_y ", d_y);
  return {like(in[0], with_last(d_y, w[1]))};
}

Kernel kernel_input(const Site& s) {
  const Shape &d_y = s.in[0].shape, &w = s.in[1].shape;
  const Matmul p{
      .m = d_y.rows(), .n = w[1], .k = w[0], .a_row = w[0], .a_col = 1, .b_row = w[1], .b_col = 1, .c_row = w[1]};
  if (p.m * p.n == 0) return [](const Launch&) {};
  return with_product(s, s.in[0], [&](auto how) -> Kernel {
    return [p, how](const Launch& l) mutable { product<true>(how, l, p, {l.in[0], l.in[1], nullptr, l.out[0]}); };
  });
}

std::vector<Value> backward_input(Recorder& r, const Applied& n, std::span<const Value> d_out) {
  return {r.apply("linear", {d_out[0], n.in[1]}), r.apply("linear_backward_weight", {n.in[0], d_out[0]})};
}

std::vector<Type> infer_weight(const Inputs& in) {
  check_count(in, 2, 2);
  check_features(in, 0, "d_y");
  check_features(in, 1, "x");
  const Shape &d_y = in[0].shape, &x = in[1].shape;
  check(with_last(d_y, x.back()) == x, in, "d_y ", d_y, " and x ", x, " must have the same leading axes");
  check_same_place(in, 0, 1);
  return {{{d_y.back(), x.back()}, Kind::real, place_of_sum(in[0], true)}};
}

// The shards of the rows of a matrix (rows, channels) whose batch rows hold several of them.
Shards row_shards(const Site& s) {
  const Shape& d_y = s.in[0].shape;
  if (d_y.rank() == 1) return Shards::whole(1);
  Shards cut = s.cut(s.in[0]);
  for (int64_t& row : cut.offset) row *= d_y.product(1, d_y.rank() - 1);
  return cut;
}

Kernel kernel_weight(const Site& s) {
  const int64_t rows = s.in[0].shape.rows(), out = s.in[0].shape.back(), in = s.in[1].shape.back();
  const Matmul p{.m = out, .n = in, .k = rows, .a_row = 1, .a_col = out, .b_row = in, .b_col = 1, .c_row = in};
  if (out * in == 0) return [](const Launch&) {};
  return with_product(s, s.in[0], [&, shards = row_shards(s)](auto how) -> Kernel {
    return [p, shards, how](const Launch& l) mutable {
      product_fold(how, l.exec, p, shards, {l.in[0], l.in[1], nullptr, l.out[0]});
    };
  });
}

std::vector<Value> backward_weight(Recorder& r, const Applied& n, std::span<const Value> d_out) {
  return {r.apply("linear", {n.in[1], d_out[0]}), r.apply("linear_backward_input", {n.in[0], d_out[0]})};
}

Cost cost(const Site& s) { return product_cost(s, double(s.in[0].shape.size()) * double(s.out[0].shape.back())); }

}  // namespace

void register_linear(Registry& r) {
  r.add({.name = "linear",
         .infer = infer,
         .kernel = kernel,
         .backward = backward,
         .leads = true,
         .cost = cost,
         .bf16_in = 1,
         .bf16_out = 1,
         .product = true});
  r.add({.name = "linear_backward_input",
         .infer = infer_input,
         .kernel = kernel_input,
         .backward = backward_input,
         .leads = true,
         .cost = cost,
         .bf16_in = 1,
         .bf16_out = 1,
         .product = true});
  r.add({.name = "linear_backward_weight",
         .infer = infer_weight,
         .kernel = kernel_weight,
         .backward = backward_weight,
         .cost = cost,
         .bf16_in = 3,
         .product = true});
}

}  // namespace thalweg

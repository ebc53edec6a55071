// conv2d.cpp: convolution of images, channels last, forward and backward.
//   y(n, p, q, o) = bias(o) + sum_{r, s, c} x(n, p stride_h + r dilation_h - top, ..., g c_g + c) weight(o, r, s, c)
// Shapes: x (N, H, W, C), weight (out, kh, kw, C / groups), bias (out), y (N, out_h, out_w, out).
// Attributes: stride [h, w], padding [top, bottom, left, right], dilation [h, w], groups, algorithm: "auto", or
// "direct" for no other sums than these.
// The weight gradient folds images and shards in the tree of shards.h (exec/conv.h); when x is batched it is one rank's
// summand.
#include "product.h"
#include "register.h"
#include "window.h"

namespace thalweg {
namespace {

Conv conv_of(const Shape& x, const Shape& w, const Attrs& a) {
  const auto &stride = a.ints("stride"), &pad = a.ints("padding"), &dilation = a.ints("dilation");
  return {.n = x[0],
          .h = x[1],
          .w = x[2],
          .c = x[3],
          .out = w[0],
          .kh = w[1],
          .kw = w[2],
          .stride_h = stride[0],
          .stride_w = stride[1],
          .pad_top = pad[0],
          .pad_bottom = pad[1],
          .pad_left = pad[2],
          .pad_right = pad[3],
          .dilation_h = dilation[0],
          .dilation_w = dilation[1],
          .groups = a.integer("groups"),
          .direct = a.text("algorithm", "auto") == "direct"};
}

void check_attrs(const Inputs& in) {
  check_ints(in, "stride", 2, 1);
  check_ints(in, "padding", 4, 0);
  check_ints(in, "dilation", 2, 1);
  const std::string algorithm = in.attrs.text("algorithm", "auto");
  check(algorithm == "auto" || algorithm == "direct", in, "algorithm is '", algorithm,
        "', expected 'auto' or 'direct'");
}

void check_weight(const Inputs& in, const Shape& x, size_t i) {
  check_real(in, i, "weight");
  check_rank(in, i, "weight", 4, 4);
  check_replicated(in, i, "weight");
  const Shape& w = in[i].shape;
  const int64_t groups = in.attrs.integer("groups");
  check(w[0] > 0 && w[1] > 0 && w[2] > 0, in, "weight has an empty axis: shape ", w);
  check(w[1] <= kLargestInt && w[2] <= kLargestInt, in, "weight is too large: shape ", w);
  check(groups >= 1 && x[3] % groups == 0, in, "groups is ", groups, ", expected a divisor of ", x[3],
        " = channels of x ", x);
  check(w[0] % groups == 0, in, "groups is ", groups, ", expected a divisor of ", w[0], " = outputs of weight ", w);
  check(w[3] == x[3] / groups, in, "weight has ", w[3], " input channels, expected ", x[3] / groups,
        " = channels of x ", x, groups > 1 ? text(" over ", groups, " groups") : "");
}

// The output's shape; a kernel that does not fit is an error.
Shape output_of(const Inputs& in, const Shape& x, const Shape& w) {
  const Conv p = conv_of(x, w, in.attrs);
  const int64_t high = p.dilation_h * (p.kh - 1) + 1, wide = p.dilation_w * (p.kw - 1) + 1;
  const int64_t h = p.h + p.pad_top + p.pad_bottom, width = p.w + p.pad_left + p.pad_right;
  check(high <= h && wide <= width, in, "the kernel covers ", high, " x ", wide, " pixels, at most ", h, " x ", width,
        " = padded size of x ", x);
  const Shape y{x[0], p.out_h(), p.out_w(), p.out};
  y.size();  // raises when it overflows
  return y;
}

std::vector<Type> infer(const Inputs& in) {
  check_count(in, 2, 3);
  check_image(in, 0, "x");
  check_attrs(in);
  const Shape &x = in[0].shape, &w = in[1].shape;
  check_weight(in, x, 1);
  if (in.size() == 3) check_bias(in, 2, w[0]);
  return {like(in[0], output_of(in, x, w))};
}

Kernel kernel(const Site& s) {
  const Conv p = conv_of(s.in[0].shape, s.in[1].shape, s.attrs);
  if (p.n == 0) return [](const Launch&) {};
  return with_product(s, s.in[0], [&, has_bias = s.in.size() == 3](auto how) -> Kernel {
    return [p, has_bias, how](const Launch& l) {
      product_conv(how, l, p, {l.in[0], l.in[1], has_bias ? l.in + 2 : nullptr, l.out[0]});
    };
  });
}

std::vector<Value> backward(Recorder& r, const Applied& n, std::span<const Value> d_out) {
  const Value x = n.in[0], weight = n.in[1], d_y = d_out[0];
  std::vector<Value> d{r.apply("conv2d_backward_input", {d_y, weight, x}, n.attrs),
                       r.apply("conv2d_backward_weight", {d_y, x, weight}, n.attrs)};
  if (n.in.size() == 3) d.push_back(bias_gradient(r, d_y));
  return d;
}

void check_backward(const Inputs& in, size_t x, size_t weight) {  // input 0 is d_y
  check_count(in, 3, 3);
  check_image(in, 0, "d_y");
  check_image(in, x, "x");
  check_attrs(in);
  check_weight(in, in[x].shape, weight);
  check_shape(in, 0, "d_y", output_of(in, in[x].shape, in[weight].shape), "output's shape");
  check_same_place(in, 0, x);
}

std::vector<Type> infer_input(const Inputs& in) {
  check_backward(in, 2, 1);
  return {like(in[2])};
}

Kernel kernel_input(const Site& s) {
  const Conv p = conv_of(s.in[2].shape, s.in[1].shape, s.attrs);
  if (p.n == 0) return [](const Launch&) {};
  return with_product(s, s.in[0], [&](auto how) -> Kernel {
    return [p, how](const Launch& l) { product_conv_input(how, l, p, {l.in[0], l.in[1], nullptr, l.out[0]}); };
  });
}

std::vector<Value> backward_input(Recorder& r, const Applied& n, std::span<const Value> d_out) {
  return {r.apply("conv2d", {d_out[0], n.in[1]}, n.attrs),
          r.apply("conv2d_backward_weight", {n.in[0], d_out[0], n.in[1]}, n.attrs), kNone};
}

std::vector<Type> infer_weight(const Inputs& in) {
  check_backward(in, 1, 2);
  return {{in[2].shape, Kind::real, place_of_sum(in[0], true)}};
}

Kernel kernel_weight(const Site& s) {
  const Conv p = conv_of(s.in[1].shape, s.in[2].shape, s.attrs);
  return with_product(s, s.in[0], [&, shards = s.cut(s.in[1])](auto how) -> Kernel {
    return [p, shards, how](const Launch& l) {
      product_conv_weight(how, l.exec, p, shards, {l.in[1], l.in[0], nullptr, l.out[0]});
    };
  });
}

std::vector<Value> backward_weight(Recorder& r, const Applied& n, std::span<const Value> d_out) {
  return {r.apply("conv2d", {n.in[1], d_out[0]}, n.attrs),
          r.apply("conv2d_backward_input", {n.in[0], d_out[0], n.in[1]}, n.attrs), kNone};
}

template <int X, int W>
Cost cost(const Site& s) {
  return product_cost(s, conv_of(s.in[X].shape, s.in[W].shape, s.attrs).flops() / 2);
}

}  // namespace

void register_conv2d(Registry& r) {
  r.add({.name = "conv2d",
         .infer = infer,
         .kernel = kernel,
         .backward = backward,
         .leads = true,
         .cost = cost<0, 1>,
         .bf16_in = 1,
         .bf16_out = 1,
         .product = true});
  r.add({.name = "conv2d_backward_input",
         .infer = infer_input,
         .kernel = kernel_input,
         .backward = backward_input,
         .leads = true,
         .cost = cost<2, 1>,
         .shape_only = 1u << 2,
         .bf16_in = 1,
         .bf16_out = 1,
         .product = true});
  r.add({.name = "conv2d_backward_weight",
         .infer = infer_weight,
         .kernel = kernel_weight,
         .backward = backward_weight,
         .cost = cost<1, 2>,
         .shape_only = 1u << 2,
         .bf16_in = 3,
         .product = true});
}

}  // namespace thalweg

// softmax.cpp: softmax and its logarithm along one axis, forward and backward.
//   softmax       y = e^(x - max) / sum e^(x - max)          d_x = y (d_y - sum d_y y)
//   log_softmax   y = (x - max) - log sum e^(x - max)        d_x = d_y - e^y sum d_y
// Shapes: x, y alike; attribute: axis. Saved for backward: y.
#include "softmax.h"

#include "register.h"

namespace thalweg {
namespace {

AxisRows rows_of(const Site& s) {
  const Shape& x = s.in[0].shape;
  const int64_t axis = s.attrs.integer("axis");
  return AxisRows::of(x, int(axis < 0 ? axis + x.rank() : axis));
}

template <class N>
Kernel softmax_kernel(const AxisRows& a) {
  return [a](const Launch& l) {
    const State<N, 1> in{View<N>(l.in[0])}, out{View<N>(l.out[0])};
    along_axis<N, 1, 1>(l.exec, a, 1.5, in, out, [](auto rows, auto x, auto y, int64_t, int64_t) {
      RowValues<N> max_memory, sum_memory;
      const View<N> from = x[0], to = y[0], max = max_memory.view(), sum = sum_memory.view();
      softmax_sums(rows, from, max, sum, to);
      rows.each([=](int64_t i, int64_t row, int64_t) { to.set(i, probability(to[i], sum[row])); });
    });
  };
}

template <class N>
Kernel log_softmax_kernel(const AxisRows& a) {
  return [a](const Launch& l) {
    const State<N, 1> in{View<N>(l.in[0])}, out{View<N>(l.out[0])};
    along_axis<N, 1, 1>(l.exec, a, 1.5, in, out, [](auto rows, auto x, auto y, int64_t, int64_t) {
      RowValues<N> max_memory, lse_memory;
      const View<N> from = x[0], to = y[0], max = max_memory.view(), lse = lse_memory.view();
      softmax_sums(rows, from, max, lse);
      for (int64_t row = 0; row < rows.kRows; row++) lse.set(row, log_sum_exp(N(0), lse[row]));
      rows.each([=](int64_t i, int64_t row, int64_t) { to.set(i, (from[i] - max[row]) - lse[row]); });
    });
  };
}

template <class N, bool kLog>
Kernel backward_kernel(const AxisRows& a) {
  return [a](const Launch& l) {
    const State<N, 2> in{View<N>(l.in[0]), View<N>(l.in[1])};
    const State<N, 1> out{View<N>(l.out[0])};
    along_axis<N, 2, 1>(l.exec, a, kLog ? 1.5 : 0.5, in, out, [](auto rows, auto x, auto d, int64_t, int64_t) {
      RowValues<N> memory;
      const View<N> d_y = x[0], y = x[1], d_x = d[0], sum = memory.view();
      if constexpr (kLog) {
        rows.template fold<N>([=](int64_t i, int64_t, int64_t) { return d_y[i]; }, sum);
        rows.each([=](int64_t i, int64_t row, int64_t) { d_x.set(i, log_softmax_backward(d_y[i], y[i], sum[row])); });
      } else {
        rows.template fold<N>([=](int64_t i, int64_t, int64_t) { return d_y[i] * y[i]; }, sum);
        rows.each([=](int64_t i, int64_t row, int64_t) { d_x.set(i, softmax_backward(d_y[i], y[i], sum[row])); });
      }
    });
  };
}

template <bool kLog>
Kernel kernel(const Site& s) {
  return with_number(s.number, [&](auto zero) {
    using N = decltype(zero);
    return kLog ? log_softmax_kernel<N>(rows_of(s)) : softmax_kernel<N>(rows_of(s));
  });
}
template <bool kLog>
Kernel kernel_backward(const Site& s) {
  return with_number(s.number, [&](auto zero) { return backward_kernel<decltype(zero), kLog>(rows_of(s)); });
}

void check_axis(const Inputs& in) {
  check_rank(in, 0, "x", 1);
  const int axis = axis_of(in, in.attrs.integer("axis"), in[0].shape.rank());
  check_axis0_apart(in, 0, axis != 0, "softmax along axis 0");
}

std::vector<Type> infer(const Inputs& in) {
  std::vector<Type> out = infer_same(in);
  check_axis(in);
  return out;
}

std::vector<Type> infer_backward(const Inputs& in) {
  check_count(in, 2, 2);
  check_real(in, 0, "d_y");
  check_real(in, 1, "y");
  check_shape(in, 0, "d_y", in[1].shape, "shape of y");
  check_same_place(in, 0, 1);
  check_axis(in);
  return {like(in[0])};
}

std::vector<Value> backward(Recorder& r, const Applied& n, std::span<const Value> d_out) {
  return {r.apply("softmax_backward", {d_out[0], n.out[0]}, n.attrs)};
}
std::vector<Value> backward_log(Recorder& r, const Applied& n, std::span<const Value> d_out) {
  return {r.apply("log_softmax_backward", {d_out[0], n.out[0]}, n.attrs)};
}

Cost cost(const Site& s) { return moved_bytes(s, 15 * double(s.in[0].shape.size())); }

}  // namespace

void register_softmax(Registry& r) {
  r.add({.name = "softmax", .infer = infer, .kernel = kernel<false>, .backward = backward, .cost = cost});
  r.add({.name = "log_softmax", .infer = infer, .kernel = kernel<true>, .backward = backward_log, .cost = cost});
  r.add({.name = "softmax_backward", .infer = infer_backward, .kernel = kernel_backward<false>, .cost = cost});
  r.add({.name = "log_softmax_backward", .infer = infer_backward, .kernel = kernel_backward<true>, .cost = cost});
}

}  // namespace thalweg

// cross_entropy.cpp: cross entropy per sample on logits, forward and backward.
//   cross_entropy        log sum e^z - z_label, with label smoothing; softmax is part of it
//   cross_entropy_soft   the same with a distribution over the classes as label
//   cross_entropy_with_gradient   losses and d_logits in one pass, where d_loss is known beforehand (plan/fuse.h)
// Shapes: logits, probabilities (..., C), labels (...) of integers; losses have the shape of labels. Nothing is saved
// for backward but the inputs. A label outside 0 .. C - 1 gives NaN.
#include "loss_common.h"
#include "register.h"

namespace thalweg {
namespace {

// ---- cross entropy with integer labels ----

// Losses of some rows from their maxima and the sums of their exponentials.
template <class N, class Rows>
void put_losses(const Rows& rows, View<N> z, View<N> max, View<N> sum, const Labels<Rows::kRows>& at,
                RealOf<N> smoothing, int64_t count, View<N> loss) {
  RowValues<N> lse_memory, mean_memory;
  const View<N> lse = lse_memory.view(), mean = mean_memory.view();
#pragma omp simd
  for (int64_t row = 0; row < rows.kRows; row++) {  // logits relative to their maximum, so that nothing cancels
    lse.set(row, log_sum_exp(N(0), sum[row]));
    mean.set(row, N(0));
  }
  if (smoothing != RealOf<N>(0)) {
    rows.template fold<N>([=](int64_t i, int64_t row, int64_t) { return z[i] - max[row]; }, mean);
#pragma omp simd
    for (int64_t row = 0; row < rows.kRows; row++) mean.set(row, mean[row] / N(RealOf<N>(rows.n)));
  }
  for (int64_t row = 0; row < count; row++) {
    const int64_t i = rows.index(std::max(at.label[row], 0), row);
    const N value = cross_entropy(lse[row], z[i] - max[row], mean[row], smoothing);
    loss.set(row, at.label[row] >= 0 ? value : N(not_a_number<RealOf<N>>()));
  }
}

// Gradients of some rows; d_z holds their exponentials.
template <class N, class Rows>
void put_gradients(const Rows& rows, View<N> d_loss, View<N> sum, const Labels<Rows::kRows>& at, RealOf<N> smoothing,
                   int64_t count, View<N> d_z) {
  RowValues<N> d_memory;
  const View<N> d = d_memory.view();
  const RealOf<N> classes = RealOf<N>(rows.n);
  for (int64_t row = 0; row < rows.kRows; row++)
    d.set(row, row >= count ? N(0) : at.label[row] >= 0 ? d_loss[row] : N(not_a_number<RealOf<N>>()));
  rows.each([=](int64_t i, int64_t row, int64_t j) {
    const RealOf<N> target = smooth_target(int32_t(j) == at.label[row], smoothing, classes);
    d_z.set(i, cross_entropy_gradient(d[row], probability(d_z[i], sum[row]), N(1), N(target)));
  });
}

template <class N>
Kernel cross_entropy_kernel(const AxisRows& a, double label_smoothing) {
  return [a, smoothing = RealOf<N>(label_smoothing)](const Launch& l) {
    const int32_t* labels = l.in[1].as<int32_t>();
    const View<N> loss(l.out[0]);
    auto body = [=](auto rows, auto x, auto, int64_t first, int64_t count) {
      RowValues<N> max, sum;
      softmax_sums(rows, x[0], max.view(), sum.view());
      const Labels<rows.kRows> at(labels + first, count, rows.n);
      put_losses(rows, x[0], max.view(), sum.view(), at, smoothing, count, loss.at(first));
    };
    along_axis<N, 1, 0>(l.exec, a, 1.5, {View<N>(l.in[0])}, {}, body);
  };
}

// In (d_loss, logits, labels); out d_logits, after the losses where these are made too.
template <class N, bool kLosses>
Kernel gradient_kernel(const AxisRows& a, double label_smoothing) {
  return [a, smoothing = RealOf<N>(label_smoothing)](const Launch& l) {
    const int32_t* labels = l.in[2].as<int32_t>();
    const View<N> d_loss(l.in[0]);
    const Buffer losses = l.out[0];
    auto body = [=](auto rows, auto x, auto y, int64_t first, int64_t count) {
      RowValues<N> max, sum;
      softmax_sums(rows, x[0], max.view(), sum.view(), y[0]);
      const Labels<rows.kRows> at(labels + first, count, rows.n);
      if constexpr (kLosses)
        put_losses(rows, x[0], max.view(), sum.view(), at, smoothing, count, View<N>(losses).at(first));
      put_gradients(rows, d_loss.at(first), sum.view(), at, smoothing, count, y[0]);
    };
    along_axis<N, 1, 1>(l.exec, a, kLosses ? 2.5 : 1.8, {View<N>(l.in[1])}, {View<N>(l.out[kLosses])}, body);
  };
}

// ---- cross entropy with distributions ----

template <class N>
Kernel soft_kernel(const AxisRows& a) {
  return [a](const Launch& l) {
    const View<N> loss(l.out[0]);
    const State<N, 2> in{View<N>(l.in[0]), View<N>(l.in[1])};
    along_axis<N, 2, 0>(l.exec, a, 1.8, in, {}, [=](auto rows, auto x, auto, int64_t first, int64_t count) {
      RowValues<N> max_memory, lse_memory, loss_memory;
      const View<N> z = x[0], t = x[1], max = max_memory.view(), lse = lse_memory.view(), value = loss_memory.view();
      softmax_sums(rows, z, max, lse);
      for (int64_t row = 0; row < rows.kRows; row++) lse.set(row, log_sum_exp(N(0), lse[row]));
      auto term = [=](int64_t i, int64_t row, int64_t) { return cross_entropy_term(t[i], z[i] - max[row], lse[row]); };
      rows.template fold<N>(term, value);
      for (int64_t row = 0; row < count; row++) loss.set(first + row, value[row]);
    });
  };
}

template <class N>
Kernel soft_backward_kernel(const AxisRows& a) {
  return [a](const Launch& l) {
    const View<N> d_loss(l.in[0]);
    const State<N, 2> in{View<N>(l.in[1]), View<N>(l.in[2])};
    const State<N, 1> out{View<N>(l.out[0])};
    along_axis<N, 2, 1>(l.exec, a, 1.8, in, out, [=](auto rows, auto x, auto y, int64_t first, int64_t count) {
      RowValues<N> max_memory, sum_memory, total_memory, d_memory;
      const View<N> z = x[0], t = x[1], d_z = y[0], max = max_memory.view(), sum = sum_memory.view(),
                    total = total_memory.view(), d = d_memory.view();
      softmax_sums(rows, z, max, sum, d_z);
      rows.template fold<N>([=](int64_t i, int64_t, int64_t) { return t[i]; }, total);
      for (int64_t row = 0; row < rows.kRows; row++) d.set(row, row < count ? d_loss[first + row] : N(0));
      rows.each([=](int64_t i, int64_t row, int64_t) {
        d_z.set(i, cross_entropy_gradient(d[row], probability(d_z[i], sum[row]), total[row], t[i]));
      });
    });
  };
}

// ---- rules ----

std::vector<Type> infer_cross_entropy_backward(const Inputs& in) {
  check_count(in, 3, 3);
  check_labels(in, 1, 2);
  check_d_loss(in, 1, in[2].shape);
  check_smoothing(in);
  return {like(in[1])};
}

std::vector<Type> infer_with_gradient(const Inputs& in) {
  const std::vector<Type> d_logits = infer_cross_entropy_backward(in);
  return {like(in[1], in[2].shape), d_logits[0]};
}

std::vector<Type> infer_soft(const Inputs& in) {
  check_count(in, 2, 2);
  check_logits(in, 0, "logits");
  check_pair(in, 0, "logits", "probabilities");
  return {like(in[0], without_last(in[0].shape))};
}

std::vector<Type> infer_soft_backward(const Inputs& in) {
  check_count(in, 3, 3);
  check_logits(in, 1, "logits");
  check_pair(in, 1, "logits", "probabilities");
  check_d_loss(in, 1, without_last(in[1].shape));
  return {like(in[1])};
}

Kernel kernel_cross_entropy(const Site& s) {
  return with_number(s.number, [&](auto zero) {
    return cross_entropy_kernel<decltype(zero)>(classes_of(s.in[0]), s.attrs.real("label_smoothing", 0));
  });
}
template <bool kLosses>
Kernel kernel_gradient(const Site& s) {
  return with_number(s.number, [&](auto zero) {
    return gradient_kernel<decltype(zero), kLosses>(classes_of(s.in[1]), s.attrs.real("label_smoothing", 0));
  });
}
Kernel kernel_soft(const Site& s) {
  return with_number(s.number, [&](auto zero) { return soft_kernel<decltype(zero)>(classes_of(s.in[0])); });
}
Kernel kernel_soft_backward(const Site& s) {
  return with_number(s.number, [&](auto zero) { return soft_backward_kernel<decltype(zero)>(classes_of(s.in[1])); });
}

std::vector<Value> backward_cross_entropy(Recorder& r, const Applied& n, std::span<const Value> d_out) {
  return {r.apply("cross_entropy_backward", {d_out[0], n.in[0], n.in[1]}, n.attrs), kNone};
}

// d / d probability is lse - z, which is minus log_softmax.
std::vector<Value> backward_soft(Recorder& r, const Applied& n, std::span<const Value> d_out) {
  std::vector<int64_t> shape = shape_attr(r.type(d_out[0]));
  shape.push_back(1);
  const Value d_loss = r.apply("reshape", {d_out[0]}, {{"shape", shape}});
  const Value log_p = r.apply("log_softmax", {n.in[0]}, {{"axis", int64_t(-1)}});
  return {r.apply("cross_entropy_soft_backward", {d_out[0], n.in[0], n.in[1]}),
          r.apply("neg", {r.apply("mul", {log_p, d_loss})})};
}

}  // namespace

void register_cross_entropy(Registry& r) {
  r.add({.name = "cross_entropy",
         .infer = infer_labels,
         .kernel = kernel_cross_entropy,
         .backward = backward_cross_entropy,
         .cost = cost_classes,
         .with_gradient = "cross_entropy_with_gradient"});
  r.add({.name = "cross_entropy_backward",
         .infer = infer_cross_entropy_backward,
         .kernel = kernel_gradient<false>,
         .cost = cost_classes});
  r.add({.name = "cross_entropy_with_gradient",
         .infer = infer_with_gradient,
         .kernel = kernel_gradient<true>,
         .cost = [](const Site& s) { return moved_bytes(s, 20 * double(s.in[1].shape.size())); },
         .called = "cross_entropy"});
  r.add({.name = "cross_entropy_soft",
         .infer = infer_soft,
         .kernel = kernel_soft,
         .backward = backward_soft,
         .cost = cost_classes,
         .called = "cross_entropy"});
  r.add({.name = "cross_entropy_soft_backward",
         .infer = infer_soft_backward,
         .kernel = kernel_soft_backward,
         .cost = cost_classes});
}

}  // namespace thalweg

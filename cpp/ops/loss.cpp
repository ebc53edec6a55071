// loss.cpp: losses per sample, forward and backward, and the share of right answers.
//   cross_entropy        log sum e^z - z_label, with label smoothing; softmax is part of it
//   cross_entropy_soft   the same with a distribution over the classes as label
//   mse                  mean of (prediction - target)^2 over the elements of a row
//   correct              1 where the largest logit (the first of equals) is the label's, else 0
// Shapes: logits, probabilities (..., C), labels (...) of integers, prediction and target (rows, ...); losses have the
// shape of labels, or (rows). Nothing is saved for backward but the inputs. A label outside 0 .. C - 1 gives NaN.
#include "register.h"
#include "softmax.h"

namespace thalweg {
namespace {

AxisRows classes_of(const Type& logits) { return AxisRows::of(logits.shape, logits.shape.rank() - 1); }

template <class N>
N not_a_number() {
  return N(std::numeric_limits<RealOf<N>>::quiet_NaN());
}

// The labels of a tile's rows; -1, which no class equals, for labels out of range and lanes without a row.
template <int64_t kRows>
struct Labels {
  int32_t label[kRows];
  Labels(const int32_t* from, int64_t count, int64_t classes) {
    for (int64_t l = 0; l < kRows; l++) label[l] = l < count && from[l] >= 0 && from[l] < classes ? from[l] : -1;
  }
};

// ---- cross entropy with integer labels ----

template <class N>
Kernel cross_entropy_kernel(const AxisRows& a, double label_smoothing) {
  return [a, label_smoothing](const Launch& l) {
    using T = RealOf<N>;
    const T smoothing = T(label_smoothing);
    const int32_t* labels = l.in[1].as<int32_t>();
    const View<N> loss(l.out[0]);
    along_axis<N, 1, 0>(
        l.exec, a, 1.5, {View<N>(l.in[0])}, {}, [=](auto rows, auto x, auto, int64_t first, int64_t count) {
          RowValues<N> max_memory, lse_memory, mean_memory;
          const View<N> z = x[0], max = max_memory.view(), lse = lse_memory.view(), mean = mean_memory.view();
          softmax_sums(rows, z, max, lse);
#pragma omp simd
          for (int64_t row = 0; row < rows.kRows; row++) {  // logits relative to their maximum, so that nothing cancels
            lse.set(row, log_sum_exp(N(0), lse[row]));
            mean.set(row, N(0));
          }
          if (smoothing != T(0)) {
            rows.template fold<N>([=](int64_t i, int64_t row, int64_t) { return z[i] - max[row]; }, mean);
#pragma omp simd
            for (int64_t row = 0; row < rows.kRows; row++) mean.set(row, mean[row] / N(T(rows.n)));
          }
          const Labels<rows.kRows> at(labels + first, count, rows.n);
          for (int64_t row = 0; row < count; row++) {
            const int64_t i = rows.index(std::max(at.label[row], 0), row);
            const N value = cross_entropy(lse[row], z[i] - max[row], mean[row], smoothing);
            loss.set(first + row, at.label[row] >= 0 ? value : not_a_number<N>());
          }
        });
  };
}

template <class N>
Kernel cross_entropy_backward_kernel(const AxisRows& a, double label_smoothing) {
  return [a, label_smoothing](const Launch& l) {
    using T = RealOf<N>;
    const T smoothing = T(label_smoothing), classes = T(a.n);
    const int32_t* labels = l.in[2].as<int32_t>();
    const View<N> d_loss(l.in[0]);
    const State<N, 1> in{View<N>(l.in[1])}, out{View<N>(l.out[0])};
    along_axis<N, 1, 1>(l.exec, a, 1.8, in, out, [=](auto rows, auto x, auto y, int64_t first, int64_t count) {
      RowValues<N> max_memory, sum_memory, d_memory;
      const View<N> z = x[0], d_z = y[0], max = max_memory.view(), sum = sum_memory.view(), d = d_memory.view();
      softmax_sums(rows, z, max, sum, d_z);
      const Labels<rows.kRows> at(labels + first, count, rows.n);
      for (int64_t row = 0; row < rows.kRows; row++)
        d.set(row, row >= count ? N(0) : at.label[row] >= 0 ? d_loss[first + row] : not_a_number<N>());
      rows.each([=](int64_t i, int64_t row, int64_t j) {
        const T target = smooth_target(int32_t(j) == at.label[row], smoothing, classes);
        d_z.set(i, cross_entropy_gradient(d[row], probability(d_z[i], sum[row]), N(1), N(target)));
      });
    });
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

// ---- squared error ----

template <class N>
Kernel mse_kernel(const AxisRows& a) {
  return [a](const Launch& l) {
    const View<N> loss(l.out[0]);
    const State<N, 2> in{View<N>(l.in[0]), View<N>(l.in[1])};
    along_axis<N, 2, 0>(l.exec, a, 0.4, in, {}, [=](auto rows, auto x, auto, int64_t first, int64_t count) {
      RowValues<N> memory;
      const View<N> p = x[0], t = x[1], sum = memory.view();
      rows.template fold<N>([=](int64_t i, int64_t, int64_t) { return squared_error(p[i], t[i]); }, sum);
      for (int64_t row = 0; row < count; row++) loss.set(first + row, sum[row] / N(RealOf<N>(rows.n)));
    });
  };
}

template <class N>
Kernel mse_backward_kernel(const AxisRows& a) {
  return [a](const Launch& l) {
    const View<N> d_loss(l.in[0]);
    const State<N, 2> in{View<N>(l.in[1]), View<N>(l.in[2])};
    const State<N, 1> out{View<N>(l.out[0])};
    along_axis<N, 2, 1>(l.exec, a, 0.4, in, out, [=](auto rows, auto x, auto y, int64_t first, int64_t count) {
      RowValues<N> memory;
      const View<N> p = x[0], t = x[1], d_p = y[0], d = memory.view();
      const RealOf<N> n = RealOf<N>(rows.n);
      for (int64_t row = 0; row < rows.kRows; row++) d.set(row, row < count ? d_loss[first + row] : N(0));
      rows.each([=](int64_t i, int64_t row, int64_t) { d_p.set(i, mse_backward(d[row], p[i], t[i], n)); });
    });
  };
}

// ---- right answers ----

template <class N>
Kernel correct_kernel(const AxisRows& a) {
  return [a](const Launch& l) {
    const int32_t* labels = l.in[1].as<int32_t>();
    const View<N> out(l.out[0]);
    along_axis<N, 1, 0>(
        l.exec, a, 0.4, {View<N>(l.in[0])}, {}, [=](auto rows, auto x, auto, int64_t first, int64_t count) {
          RowValues<N> label_memory, beaten_memory;
          const View<N> z = x[0], own = label_memory.view(), beaten = beaten_memory.view();
          const Labels<rows.kRows> at(labels + first, count, rows.n);
          for (int64_t row = 0; row < rows.kRows; row++) own.set(row, z[rows.index(std::max(at.label[row], 0), row)]);
          rows.template fold<N>(
              [=](int64_t i, int64_t row, int64_t j) {  // an equal logit before the label's wins
                const bool below = value(z[i]) < value(own[row]), equal = value(z[i]) == value(own[row]);
                return select(below | (equal & (j >= at.label[row])), N(0), N(1));
              },
              beaten);
          for (int64_t row = 0; row < count; row++) {
            const bool right = value(beaten[row]) == 0;
            out.set(first + row, at.label[row] < 0 ? not_a_number<N>() : N(right ? 1 : 0));
          }
        });
  };
}

// ---- rules ----

void check_logits(const Inputs& in, size_t i, const char* name) {
  check_real(in, i, name);
  check_rank(in, i, name, 1);
  check_axis0_apart(in, i, in[i].shape.rank() > 1, "a loss over the classes of axis 0");
  check(in[i].shape.back() > 0, in, name, " has no classes: shape ", in[i].shape);
}

Shape without_last(const Shape& x) { return Shape(std::span(x.begin(), x.end() - 1)); }

void check_labels(const Inputs& in, size_t logits, size_t labels) {
  check_logits(in, logits, "logits");
  check_index(in, labels, "labels");
  check_shape(in, labels, "labels", without_last(in[logits].shape),
              text("leading axes of logits ", in[logits].shape).c_str());
  check_same_place(in, logits, labels);
}

void check_d_loss(const Inputs& in, size_t like, const Shape& expected) {  // input 0
  check_real(in, 0, "d_loss");
  check_shape(in, 0, "d_loss", expected, "shape of the loss");
  check_same_place(in, 0, like);
}

void check_smoothing(const Inputs& in) {
  const double s = in.attrs.real("label_smoothing", 0);
  check(s >= 0 && s <= 1, in, "label_smoothing is ", s, ", expected 0 to 1");
}

void check_pair(const Inputs& in, size_t i, const char* a, const char* b) {
  check_real(in, i + 1, b);
  check_shape(in, i + 1, b, in[i].shape, text("shape of ", a).c_str());
  check_same_place(in, i, i + 1);
}

std::vector<Type> infer_labels(const Inputs& in) {
  check_count(in, 2, 2);
  check_labels(in, 0, 1);
  check_smoothing(in);
  return {like(in[0], in[1].shape)};
}

std::vector<Type> infer_cross_entropy_backward(const Inputs& in) {
  check_count(in, 3, 3);
  check_labels(in, 1, 2);
  check_d_loss(in, 1, in[2].shape);
  check_smoothing(in);
  return {like(in[1])};
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

void check_rows(const Inputs& in, size_t i) {
  check_real(in, i, "prediction");
  check_rank(in, i, "prediction", 1);
  check_pair(in, i, "prediction", "target");
  check(in[i].shape.product(1, in[i].shape.rank()) > 0, in, "prediction has rows of no elements: shape ", in[i].shape);
}

std::vector<Type> infer_mse(const Inputs& in) {
  check_count(in, 2, 2);
  check_rows(in, 0);
  return {like(in[0], {in[0].shape[0]})};
}

std::vector<Type> infer_mse_backward(const Inputs& in) {
  check_count(in, 3, 3);
  check_rows(in, 1);
  check_d_loss(in, 1, {in[1].shape[0]});
  return {like(in[1])};
}

AxisRows rows_of(const Type& x) { return {x.shape[0], x.shape.product(1, x.shape.rank()), 1}; }

Kernel kernel_cross_entropy(const Site& s) {
  return with_number(s.number, [&](auto zero) {
    return cross_entropy_kernel<decltype(zero)>(classes_of(s.in[0]), s.attrs.real("label_smoothing", 0));
  });
}
Kernel kernel_cross_entropy_backward(const Site& s) {
  return with_number(s.number, [&](auto zero) {
    return cross_entropy_backward_kernel<decltype(zero)>(classes_of(s.in[1]), s.attrs.real("label_smoothing", 0));
  });
}
Kernel kernel_soft(const Site& s) {
  return with_number(s.number, [&](auto zero) { return soft_kernel<decltype(zero)>(classes_of(s.in[0])); });
}
Kernel kernel_soft_backward(const Site& s) {
  return with_number(s.number, [&](auto zero) { return soft_backward_kernel<decltype(zero)>(classes_of(s.in[1])); });
}
Kernel kernel_mse(const Site& s) {
  return with_number(s.number, [&](auto zero) { return mse_kernel<decltype(zero)>(rows_of(s.in[0])); });
}
Kernel kernel_mse_backward(const Site& s) {
  return with_number(s.number, [&](auto zero) { return mse_backward_kernel<decltype(zero)>(rows_of(s.in[1])); });
}
Kernel kernel_correct(const Site& s) {
  return with_number(s.number, [&](auto zero) { return correct_kernel<decltype(zero)>(classes_of(s.in[0])); });
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

std::vector<Value> backward_mse(Recorder& r, const Applied& n, std::span<const Value> d_out) {
  const Value d = r.apply("mse_backward", {d_out[0], n.in[0], n.in[1]});
  return {d, r.apply("neg", {d})};
}

Cost cost_classes(const Site& s) { return moved_bytes(s, 15 * double(s.in[s.in.size() > 2 ? 1 : 0].shape.size())); }
Cost cost_mse(const Site& s) { return moved_bytes(s, 3 * double(s.in[1].shape.size())); }

}  // namespace

void register_loss(Registry& r) {
  r.add({.name = "cross_entropy",
         .infer = infer_labels,
         .kernel = kernel_cross_entropy,
         .backward = backward_cross_entropy,
         .cost = cost_classes});
  r.add({.name = "cross_entropy_backward",
         .infer = infer_cross_entropy_backward,
         .kernel = kernel_cross_entropy_backward,
         .cost = cost_classes});
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
  r.add({.name = "mse", .infer = infer_mse, .kernel = kernel_mse, .backward = backward_mse, .cost = cost_mse});
  r.add({.name = "mse_backward", .infer = infer_mse_backward, .kernel = kernel_mse_backward, .cost = cost_mse});
  r.add({.name = "correct", .infer = infer_labels, .kernel = kernel_correct, .cost = cost_classes});
}

}  // namespace thalweg

// loss.cpp: the squared error per sample, forward and backward, and the share of right answers.
//   mse        mean of (prediction - target)^2 over the elements of a row
//   correct    1 where the largest logit (the first of equals) is the label's, else 0
// Shapes: prediction and target (rows, ...), losses (rows); logits (..., C), labels (...) of integers. Nothing is saved
// for backward but the inputs. A label outside 0 .. C - 1 gives NaN.
#include "loss_common.h"
#include "register.h"

namespace thalweg {
namespace {

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
            out.set(first + row, at.label[row] < 0 ? N(not_a_number<RealOf<N>>()) : N(right ? 1 : 0));
          }
        });
  };
}

// ---- rules ----

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

Kernel kernel_mse(const Site& s) {
  return with_number(s.number, [&](auto zero) { return mse_kernel<decltype(zero)>(rows_of(s.in[0])); });
}
Kernel kernel_mse_backward(const Site& s) {
  return with_number(s.number, [&](auto zero) { return mse_backward_kernel<decltype(zero)>(rows_of(s.in[1])); });
}
Kernel kernel_correct(const Site& s) {
  return with_number(s.number, [&](auto zero) { return correct_kernel<decltype(zero)>(classes_of(s.in[0])); });
}

std::vector<Value> backward_mse(Recorder& r, const Applied& n, std::span<const Value> d_out) {
  const Value d = r.apply("mse_backward", {d_out[0], n.in[0], n.in[1]});
  return {d, r.apply("neg", {d})};
}

Cost cost_mse(const Site& s) { return moved_bytes(s, 3 * double(s.in[1].shape.size())); }

}  // namespace

void register_loss(Registry& r) {
  r.add({.name = "mse", .infer = infer_mse, .kernel = kernel_mse, .backward = backward_mse, .cost = cost_mse});
  r.add({.name = "mse_backward", .infer = infer_mse_backward, .kernel = kernel_mse_backward, .cost = cost_mse});
  r.add({.name = "correct", .infer = infer_labels, .kernel = kernel_correct, .cost = cost_classes});
}

}  // namespace thalweg

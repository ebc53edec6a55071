// loss_common.h: what losses over classes check and how they see logits and labels.
#pragma once
#include "softmax.h"

namespace thalweg {

inline AxisRows classes_of(const Type& logits) { return AxisRows::of(logits.shape, logits.shape.rank() - 1); }

// The labels of a tile's rows; -1, which no class equals, for labels out of range and lanes without a row.
template <int64_t kRows>
struct Labels {
  int32_t label[kRows];
  Labels(const int32_t* from, int64_t count, int64_t classes) {
    for (int64_t l = 0; l < kRows; l++) label[l] = l < count && from[l] >= 0 && from[l] < classes ? from[l] : -1;
  }
};

inline void check_logits(const Inputs& in, size_t i, const char* name) {
  check_real(in, i, name);
  check_rank(in, i, name, 1);
  check_axis0_apart(in, i, in[i].shape.rank() > 1, "a loss over the classes of axis 0");
  check(in[i].shape.back() > 0, in, name, " has no classes: shape ", in[i].shape);
}

inline Shape without_last(const Shape& x) { return Shape(std::span(x.begin(), x.end() - 1)); }

inline void check_labels(const Inputs& in, size_t logits, size_t labels) {
  check_logits(in, logits, "logits");
  check_index(in, labels, "labels");
  check_shape(in, labels, "labels", without_last(in[logits].shape),
              text("leading axes of logits ", in[logits].shape).c_str());
  check_same_place(in, logits, labels);
}

inline void check_d_loss(const Inputs& in, size_t like, const Shape& expected) {  // input 0
  check_real(in, 0, "d_loss");
  check_shape(in, 0, "d_loss", expected, "shape of the loss");
  check_same_place(in, 0, like);
}

inline void check_smoothing(const Inputs& in) {
  const double s = in.attrs.real("label_smoothing", 0);
  check(s >= 0 && s <= 1, in, "label_smoothing is ", s, ", expected 0 to 1");
}

inline void check_pair(const Inputs& in, size_t i, const char* a, const char* b) {
  check_real(in, i + 1, b);
  check_shape(in, i + 1, b, in[i].shape, text("shape of ", a).c_str());
  check_same_place(in, i, i + 1);
}

inline std::vector<Type> infer_labels(const Inputs& in) {
  check_count(in, 2, 2);
  check_labels(in, 0, 1);
  check_smoothing(in);
  return {like(in[0], in[1].shape)};
}

inline Cost cost_classes(const Site& s) {
  return moved_bytes(s, 15 * double(s.in[s.in.size() > 2 ? 1 : 0].shape.size()));
}

}  // namespace thalweg

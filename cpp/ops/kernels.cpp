// kernels.cpp: the one door of a kernel library: every operator and the functions of the training step, by one symbol.
#include "kernels.h"

#include "../optim/norm.h"
#include "../optim/random.h"
#include "formulas.h"
#include "register.h"

namespace thalweg {
namespace {

Registry all_operators() {
  Registry r;
  register_elementwise(r);
  register_activation(r);
  register_reduce(r);
  register_shape(r);
  register_matmul(r);
  register_linear(r);
  register_conv2d(r);
  register_pooling(r);
  register_batch_norm(r);
  register_batch_norm_inference(r);
  register_layer_norm(r);
  register_dropout(r);
  register_convert(r);
  register_softmax(r);
  register_loss(r);
  register_cross_entropy(r);
  return r;
}

template <class X>
ProductsBf16<X> products_bf16() {
  return {matmul_bf16_weight<X, X>, matmul_fold_bf16<X>, conv_forward_bf16<X, X>, conv_backward_input_bf16<X, X>,
          conv_backward_weight_bf16<X>};
}

Kernels make_kernels() {
  return {.isa = THALWEG_ISA_NAME,
          .operators = all_operators(),
          .update = update,
          .sum_of_squares = sum_of_squares,
          .squares_of_blocks = squares_of_blocks,
          .fold_blocks = fold_blocks,
          .add = add,
          .first_non_finite = first_non_finite,
          .merge_sums = merge_sums,
          .merge_moments = merge_moments,
          .fill_random = fill_random,
          .permutation = permutation,
          .formula = formula,
          .formula_names = formula_names,
          .matmul_f32 = [](const Exec& e, const Matmul& p, const float* a, const float* b, const float* bias, float* c,
                           const Follow& follow) { matmul(e, p, a, b, bias, c, follow); },
          .matmul_fold_f32 = [](const Exec& e, const Matmul& p, const Shards& shards, const float* a, const float* b,
                                float* c) { matmul_fold(e, p, shards, a, b, c); },
          .conv_forward_f32 = conv_forward<float>,
          .conv_backward_input_f32 = conv_backward_input<float>,
          .conv_backward_weight_f32 = conv_backward_weight<float>,
          .bf16_of_floats = products_bf16<float>(),
          .bf16 = products_bf16<Bf16>()};
}

}  // namespace
}  // namespace thalweg

extern "C" __attribute__((visibility("default"))) const thalweg::Kernels* thalweg_kernels() {
  static const thalweg::Kernels all = thalweg::make_kernels();
  return &all;
}

// matmul_bf16.cpp: products one element at a time.
#include "group_sum_bf16.h"

namespace thalweg {
namespace {

template <class X, class W>
float element(const Matmul& p, const X* a, const W* b, int64_t i, int64_t j, int64_t from, int64_t to) {
  GroupSum s;
  for (int64_t k = from; k < to; k++)
    s.add(operand_bf16(a[i * p.a_row + k * p.a_col]), operand_bf16(b[k * p.b_row + j * p.b_col]));
  return s.close();
}
template <class X, class W>
void product(const Exec& exec, const Matmul& p, const X* a, const W* b, const float* bias, X* c, const Follow& follow) {
  exec.parallel(p.batch * p.m, matmul_ns(p, false), [&](int64_t row, int) {
    const int64_t q = row / p.m, i = row % p.m, at = q * p.c_batch + i * p.c_row;
    for (int64_t j = 0; j < p.n; j++) {
      float sum = element(p, a + q * p.a_batch, b + q * p.b_batch, i, j, 0, p.k);
      if (bias) sum = bias[j] + sum;
      if (p.accumulate) sum = operand_bf16(c[at + j]) + sum;
      put_bf16(sum, c + at + j);
    }
    if (follow && p.n > 0) follow({at, p.c_row, 1, p.n});
  });
}

}  // namespace

template <class X>
void matmul_bf16(const Exec& exec, const Matmul& p, const X* a, const X* b, const float* bias, X* c,
                 const Follow& follow) {
  product(exec, p, a, b, bias, c, follow);
}
template <class X>
void matmul_bf16_weight(const Exec& exec, const Matmul& p, const X* a, const float* b, const float* bias, X* c,
                        const Follow& follow) {
  product(exec, p, a, b, bias, c, follow);
}
template <class X>
void matmul_fold_bf16(const Exec& exec, const Matmul& p, const Shards& shards, const X* a, const X* b, float* c) {
  exec.parallel(p.m, matmul_ns(p, false), [&](int64_t i, int) {
    for (int64_t j = 0; j < p.n; j++) {
      float slot[64] = {};
      fold_tree(
          shards.count(),
          [&](int64_t s, int level) { slot[level] = element(p, a, b, i, j, shards.offset[s], shards.offset[s + 1]); },
          [&](int into, int from) { slot[into] += slot[from]; });
      float& to = c[i * p.c_row + j];
      to = p.accumulate ? to + slot[0] : slot[0];
    }
  });
}

#define TW_PRODUCTS(X)                                                                                        \
  template void matmul_bf16(const Exec&, const Matmul&, const X*, const X*, const float*, X*, const Follow&); \
  template void matmul_bf16_weight(const Exec&, const Matmul&, const X*, const float*, const float*, X*,      \
                                   const Follow&);                                                            \
  template void matmul_fold_bf16(const Exec&, const Matmul&, const Shards&, const X*, const X*, float*);
TW_PRODUCTS(float)
TW_PRODUCTS(Bf16)
#undef TW_PRODUCTS

}  // namespace thalweg

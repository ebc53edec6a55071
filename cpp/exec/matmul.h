// matmul.h: matrix products on planes of float or double.
// Bits: every element of C is a fixed sequence of fma: K in blocks of kKBlock, each block a chain from zero, the blocks
// added in order. Nothing else matters: not M, N, strides, tile, vector width, packing, threads or instruction set.
// Weight gradients (fold): K is the batch; each shard is such a sum over its own rows (an empty shard is +0), and the
// shards fold in the tree of shards.h, inside the register tile.
#pragma once
#include <memory>
#include <span>

#include "follow.h"
#include "shards.h"

namespace thalweg {

inline constexpr int64_t kKBlock = 256;

// C(i, j) = sum_k A(i, k) B(k, j) + bias(j), for `batch` products.   Element A(i, k) is a[i * a_row + k * a_col].
// Any strides; C rows are contiguous (column stride 1). Strides count elements.
struct Matmul {
  int64_t m, n, k;
  int64_t a_row, a_col, b_row, b_col, c_row;
  int64_t batch = 1, a_batch = 0, b_batch = 0, c_batch = 0;
  bool accumulate = false;  // C += the product, one addition per element (the tangent planes of duals)
};
// Products that share B and follow each other in A and C are one product of more rows.
inline Matmul merge_batch(Matmul p) {
  if (p.batch > 1 && p.b_batch == 0 && p.a_batch == p.m * p.a_row && p.c_batch == p.m * p.c_row) {
    p.m *= p.batch;
    p.batch = 1;
  }
  return p;
}

// How one product is run by one thread, kept by who runs it again and again, one run at a time, always with the same
// shards and the same Matmul but for `accumulate`: of a small one deciding takes a tenth of its time. A copy decides
// anew.
template <class T>
class MatmulMemo {
 public:
  MatmulMemo();
  ~MatmulMemo();
  MatmulMemo(const MatmulMemo&) : MatmulMemo() {}
  MatmulMemo& operator=(const MatmulMemo&) = delete;
  struct Decided;  // matmul.cpp
  std::unique_ptr<Decided> decided;
};

template <class T>
void matmul(const Exec&, const Matmul&, const T* a, const T* b, const T* bias, T* c, const Follow& follow = {},
            MatmulMemo<T>* memo = nullptr);

// C(i, j) = fold over the shards of sum_{k in shard} A(i, k) B(k, j). shards.rows() == k; batch == 1; no bias.
template <class T>
void matmul_fold(const Exec&, const Matmul&, const Shards&, const T* a, const T* b, T* c,
                 MatmulMemo<T>* memo = nullptr);

double matmul_ns(const Matmul&, bool is_double);  // estimated cost on one thread

}  // namespace thalweg

// matmul_check.h: matrix products against scalar sums in the same order, bit for bit.
#pragma once
#include <cmath>
#include <numeric>

#include "exec/matmul.h"
#include "products_check.h"

namespace {

using namespace thalweg;

// The order of every sum over K: blocks of kKBlock, each a chain from zero, added in order.
template <class T>
class BlockSum {
 public:
  void add(T a, T b) {
    if (count_ == kKBlock) close();
    chain_ = std::fma(a, b, chain_);
    count_++;
  }
  void skip() {  // counts, but adds nothing
    if (count_ == kKBlock) close();
    count_++;
  }
  T sum() {
    close();
    return sum_;
  }

 private:
  void close() {
    sum_ = blocks_++ ? sum_ + chain_ : chain_;
    chain_ = 0, count_ = 0;
  }
  T sum_ = 0, chain_ = 0;
  int64_t count_ = 0, blocks_ = 0;
};
template <class T, class Leaf>
T ref_fold(int64_t n, Leaf leaf) {
  std::vector<T> slot(tree_slots(n));
  fold_tree(n, [&](int64_t i, int level) { slot[level] = leaf(i); }, [&](int a, int b) { slot[a] += slot[b]; });
  return slot[0];
}

template <class T>
std::vector<T> ref_matmul(const Matmul& p, const T* a, const T* b, const T* bias, std::vector<T> c) {
  for (int64_t q = 0; q < p.batch; q++)
    for (int64_t i = 0; i < p.m; i++)
      for (int64_t j = 0; j < p.n; j++) {
        BlockSum<T> s;
        for (int64_t k = 0; k < p.k; k++)
          s.add(a[q * p.a_batch + i * p.a_row + k * p.a_col], b[q * p.b_batch + k * p.b_row + j * p.b_col]);
        T sum = s.sum();
        if (bias) sum += bias[j];
        T& out = c[q * p.c_batch + i * p.c_row + j];
        out = p.accumulate ? out + sum : sum;
      }
  return c;
}

template <class T>
void check_matmul(const Exec& one, const Exec& two, Matmul p, bool with_bias, const char* what) {
  const auto a = values<T>(p.batch * std::max<int64_t>(1, p.m) * (p.k + 3) * 2), bias = values<T>(p.n);
  const auto b = values<T>(p.batch * (p.n + 3) * (p.k + 3) * 2), c0 = values<T>(p.batch * p.m * p.c_row);
  const T* bias_or_null = with_bias ? bias.data() : nullptr;
  const auto want = ref_matmul(p, a.data(), b.data(), bias_or_null, c0);
  auto c1 = c0, c2 = c0;
  Followed followed(int64_t(c0.size()));
  matmul(one, p, a.data(), b.data(), bias_or_null, c1.data(), followed.follow());
  matmul(two, p, a.data(), b.data(), bias_or_null, c2.data());
  CHECK(same_bits(want, c1), "matmul %s m %ld n %ld k %ld batch %ld", what, p.m, p.n, p.k, p.batch);
  CHECK(same_bits(c1, c2), "matmul %s m %ld n %ld k %ld: two threads differ", what, p.m, p.n, p.k);
  const int64_t results = p.batch * p.m * p.n, runs = std::accumulate(followed.count.begin(), followed.count.end(), 0);
  CHECK(runs == results && (p.n < p.c_row || followed.once()), "matmul %s m %ld n %ld k %ld: follow", what, p.m, p.n,
        p.k);
  CHECK(followed.asks_fit(), "matmul %s m %ld n %ld k %ld: asks", what, p.m, p.n, p.k);
  add_to_hash(c1);
}

template <class T>
void check_strides(const Exec& one, const Exec& two, int64_t m, int64_t n, int64_t k) {
  each_layout(m, n, k, [&](const Matmul& p) { check_matmul<T>(one, two, p, random_bits() & 1, "strides"); });
}
template <class T>
void check_matmuls(const Exec& one, const Exec& two) {
  for (int64_t m = 1; m <= 31; m++) check_strides<T>(one, two, m, pick(1, 70), pick(0, 40));
  for (int64_t n = 1; n <= 67; n++) check_strides<T>(one, two, pick(1, 70), n, pick(1, 40));
  for (int64_t k : {0, 1, 255, 256, 257, 511, 513, 2048, 2049, 4200})
    check_strides<T>(one, two, pick(1, 60), pick(1, 300), k);
  for (int64_t n : {1, 2, 4, 5, 8, 10})  // made across
    for (int64_t k : {64, 300}) check_strides<T>(one, two, pick(16, 150), n, k);
  constexpr int64_t shapes[][3] = {
      {0, 5, 300},    {7, 0, 5},      {1, 300, 300},   {200, 300, 300},
      {5, 1104, 600}, {16, 1100, 33}, {33, 1104, 700}, {90, 1100, 600},  // rows of B a page apart
      {90, 600, 9},   {90, 608, 9},                                      // many panels of few K
      {56, 64, 64},   {70, 60, 40},                                      // tiles that pass together
      {300, 4, 600},  {70, 1, 300},                                      // few columns, several blocks of K
      {500, 40, 300}, {50, 20, 4300},                                    // large A
  };
  for (const auto& [m, n, k] : shapes) check_strides<T>(one, two, m, n, k);
  for (int64_t batch : {2, 3, 40}) {
    const int64_t m = pick(1, 20), n = pick(1, 40), k = pick(1, 300);
    Matmul p{m, n, k, k, 1, n, 1, n, batch, m * k, n * k, m * n};
    check_matmul<T>(one, two, p, true, "batch");
    p.b_batch = 0;
    check_matmul<T>(one, two, p, false, "shared B");
  }
}

}  // namespace

#include "norm.h"

#include <atomic>
#include <vector>

#include "../exec/for_each.h"
#include "../exec/shards.h"
#include "../formula/bits.h"
#include "../formula/moments.h"

namespace thalweg {
namespace {

constexpr int kLanes = 64;  // several vectors: one chain of fma would wait for itself

template <class F>
void with_type(DType t, F f) {
  t == DType::f32 ? f(float{}) : f(double{});
}
template <class T>
const T* typed(const std::byte* p) {
  return reinterpret_cast<const T*>(p);
}
template <class T>
T* typed(std::byte* p) {
  return reinterpret_cast<T*>(p);
}

// The sum of squares of up to kSquaresBlock elements, accumulated in A: element i goes to lane i mod 64, the lanes fold
// in pairs.
template <class A, class T>
A block_squares(const T* x, int64_t n) {
  A lane[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
#pragma omp simd
    for (int l = 0; l < kLanes; l++) lane[l] = fma(A(x[i + l]), A(x[i + l]), lane[l]);
  for (int l = 0; i + l < n; l++) lane[l] = fma(A(x[i + l]), A(x[i + l]), lane[l]);
  for (int width = kLanes / 2; width > 0; width /= 2)
    for (int l = 0; l < width; l++) lane[l] = lane[l] + lane[l + width];
  return lane[0];
}

template <class T>
double squares_of_block(const T* x, int64_t n) {
  const double sum = double(block_squares<T>(x, n));
  const bool in_range = sum > 0x1p-80 && sum < Format<double>::kInf;  // below, squares of floats lose digits or vanish
  return in_range ? sum : block_squares<double>(x, n);
}

}  // namespace

double fold_blocks(const double* sums, int64_t n) {
  double slot[64] = {};
  fold_tree(n, [&](int64_t i, int level) { slot[level] = sums[i]; }, [&](int a, int b) { slot[a] += slot[b]; });
  return slot[0];
}

void squares_of_blocks(const Exec& exec, DType t, const std::byte* x, int64_t n, double* sums) {
  const int64_t blocks = (n + kSquaresBlock - 1) / kSquaresBlock;
  with_type(t, [&]<class T>(T) {
    exec.parallel(blocks, double(n) * 0.1, [&](int64_t b, int) {
      sums[b] = squares_of_block(typed<T>(x) + b * kSquaresBlock, std::min(kSquaresBlock, n - b * kSquaresBlock));
    });
  });
}

double sum_of_squares(const Exec& exec, DType t, const std::byte* x, int64_t n) {
  const int64_t blocks = (n + kSquaresBlock - 1) / kSquaresBlock;
  double* sums = exec.scratch<double>(0, Slot::shared, std::max<int64_t>(blocks, 1));
  squares_of_blocks(exec, t, x, n, sums);
  return fold_blocks(sums, blocks);
}

void add(const Exec& exec, DType t, std::byte* into, const std::byte* from, int64_t n) {
  with_type(t, [&]<class T>(T) {
    for_each(exec, n, [to = typed<T>(into), x = typed<T>(from)](int64_t i) { to[i] += x[i]; });
  });
}

int64_t first_non_finite(const Exec& exec, DType t, const std::byte* x, int64_t n) {
  std::atomic<int64_t> found = n;
  const int64_t blocks = (n + kSquaresBlock - 1) / kSquaresBlock;
  with_type(t, [&]<class T>(T) {
    exec.parallel(blocks, double(n) * 0.1, [&](int64_t b, int) {
      const T* block = typed<T>(x) + b * kSquaresBlock;
      const int64_t size = std::min(kSquaresBlock, n - b * kSquaresBlock);
      std::conditional_t<sizeof(T) == 4, int32_t, int64_t> bad = 0;  // as wide as T, so that vectors stay whole
#pragma omp simd reduction(+ : bad)
      for (int64_t i = 0; i < size; i++) bad += !(abs(block[i]) < Format<T>::kInf);
      if (bad == 0) return;
      int64_t i = 0;
      while (abs(block[i]) < Format<T>::kInf) i++;
      int64_t seen = found.load();
      while (b * kSquaresBlock + i < seen && !found.compare_exchange_weak(seen, b * kSquaresBlock + i)) {}
    });
  });
  return found < n ? found.load() : -1;
}

void merge_sums(DType t, std::byte* into, const std::byte* from, int64_t begin, int64_t end) {
  with_type(t, [&]<class T>(T) {
    T* __restrict__ to = typed<T>(into);
    const T* __restrict__ x = typed<T>(from);
#pragma omp simd
    for (int64_t i = begin; i < end; i++) to[i] += x[i];
  });
}

void merge_moments(DType t, std::byte* into, double n_into, const std::byte* from, double n_from, int64_t channels) {
  with_type(t, [&]<class T>(T) {
    T* __restrict__ to = typed<T>(into);
    const T* __restrict__ x = typed<T>(from);
#pragma omp simd
    for (int64_t c = 0; c < channels; c++) {
      const Moments<T> m =
          merge(Moments<T>{to[c], to[channels + c], T(n_into)}, Moments<T>{x[c], x[channels + c], T(n_from)});
      to[c] = m.mean, to[channels + c] = m.m2;
    }
  });
}

}  // namespace thalweg

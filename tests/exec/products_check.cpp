// products_check.cpp: products against scalar references that follow the same order, bit for bit: odd shapes, every
// tile remainder, strides, shards, threads, halves of a batch on two ranks. Prints one hash over all results; builds
// for different instruction sets must print the same. Run by test_products.py.
#include "products_check.h"

#include "convs_check.h"
#include "exec/matmul.h"
#include "grid_check.h"

using namespace thalweg;

namespace {

template <class T>
void check_fold(const Exec& one, const Exec& two, int64_t m, int64_t n, const Shards& shards) {
  const int64_t rows = shards.rows();
  const auto a = values<T>(rows * m), b = values<T>(rows * n), c0 = values<T>(m * n);
  Matmul p{m, n, rows, 1, m, n, 1, n};
  p.accumulate = random_bits() & 1;
  auto want = c0, c1 = c0, c2 = c0;
  for (int64_t i = 0; i < m; i++)
    for (int64_t j = 0; j < n; j++) {
      const T sum = ref_fold<T>(shards.count(), [&](int64_t s) {
        BlockSum<T> leaf;
        for (int64_t k = shards.offset[s]; k < shards.offset[s + 1]; k++) leaf.add(a[k * m + i], b[k * n + j]);
        return leaf.sum();
      });
      want[i * n + j] = p.accumulate ? c0[i * n + j] + sum : sum;
    }
  matmul_fold(one, p, shards, a.data(), b.data(), c1.data());
  matmul_fold(two, p, shards, a.data(), b.data(), c2.data());
  CHECK(same_bits(want, c1), "fold m %ld n %ld rows %ld shards %d", m, n, rows, shards.count());
  CHECK(same_bits(c1, c2), "fold m %ld n %ld rows %ld: two threads differ", m, n, rows);
  add_to_hash(c1);
}
// Two ranks with half of the shards each, added, give the bits of one rank.
template <class T>
void check_fold_ranks(const Exec& exec, int64_t rows, int64_t total) {
  const int64_t m = 19, n = 45;
  const auto a = values<T>(rows * m), b = values<T>(rows * n);
  auto product = [&](int64_t first, int64_t last) {
    const int64_t begin = first * rows / total;
    const Shards shards = Shards::of(rows, total, first, last);
    std::vector<T> c(m * n, T(7));
    matmul_fold(exec, Matmul{m, n, shards.rows(), 1, m, n, 1, n}, shards, &a[begin * m], &b[begin * n], c.data());
    return c;
  };
  auto low = product(0, total / 2);
  const auto high = product(total / 2, total), all = product(0, total);
  for (size_t i = 0; i < low.size(); i++) low[i] += high[i];
  CHECK(same_bits(low, all), "fold of %ld rows: two ranks differ from one", rows);
}
template <class T>
void check_folds(const Exec& one, const Exec& two) {
  for (int64_t total : {1, 2, 3, 4, 8})
    for (int64_t rows : {0, 1, 3, 8, 33, 300, 2100})
      check_fold<T>(one, two, pick(1, 40), pick(1, 90), Shards::of(rows, total, 0, total));
  for (int64_t total : {4, 8, 12, 16})  // shards that are added in registers
    for (int64_t rows : {5, 32, 100, 128})
      check_fold<T>(one, two, pick(10, 70), pick(100, 200), Shards::of(rows, total, 0, total));
  for (int64_t total : {8, 28, 32})  // the same with more rows, and of fewer columns, whose rows are not packed
    for (int64_t rows : {129, 500, 512, 520}) {
      check_fold<T>(one, two, pick(10, 30), pick(129, 180), Shards::of(rows, total, 0, total));
      check_fold<T>(one, two, pick(1, 30), pick(1, 120), Shards::of(rows, total, 0, total));
    }
  check_fold<T>(one, two, 50, 1040, Shards::of(100, 8, 0, 8));  // each row of B in its page
  check_fold<T>(one, two, 7, 150, Shards::of(12, 4, 0, 4));     // fewer rows than the high tile
  check_fold<T>(one, two, 100, 200, Shards::of(5000, 8, 0, 8));
  check_fold<T>(one, two, 20, 1040, Shards::of(1700, 3, 0, 3));
  for (int64_t rows : {16, 37, 700, 4200}) check_fold_ranks<T>(one, rows, 8);
}

template <class T>
void check_convs(const Exec& one, const Exec& two) {
  for (int i = 0; i < 150;) {
    const Conv v = random_conv(5, 14, 5, 5, 80);
    if (v.h + v.pad_top + v.pad_bottom <= v.dilation_h * (v.kh - 1) ||
        v.w + v.pad_left + v.pad_right <= v.dilation_w * (v.kw - 1))
      continue;
    check_conv<T>(one, two, v);
    i++;
  }
  for (int64_t kernel : {1, 3, 5, 7})
    for (int64_t n : {1, 9, 20}) check_conv<T>(one, two, same_conv(n, pick(4, 11), pick(1, 33), pick(1, 40), kernel));
  check_both<T>(one, two, same_conv(2, 33, 17, 16, 3));  // several bands; images of several blocks
  check_conv<T>(one, two, same_conv(3, 40, 64, 33, 1));
  check_conv<T>(one, two, same_conv(1, 70, 3, 20, 3));
  check_both<T>(one, two, same_conv(2, 9, 256, 100, 3));  // panels of weights that do not all stay near
  check_both<T>(one, two, same_conv(1, 5, 704, 70, 3));
  for (int64_t few = 1; few <= 8; few++) {  // short runs of k; several tiles at a time
    Conv v = same_conv(2, pick(13, 18), few, pick(9, 70), 2 * pick(0, 2) + 1);
    v.stride_w = pick(1, 2), v.pad_right = pick(0, 2);
    check_forward<T>(one, two, v);
    std::swap(v.c, v.out);
    v.stride_w = 1;
    check_backward_input<T>(one, two, v);
  }
  check_forward<T>(one, two, Conv{2, 20, 12, 4, 33, 10, 7});  // pieces of them on both sides of a block's end
  for (int64_t few = 1; few <= 9; few++) {                    // images in the lanes, forward and to the input
    Conv v = same_conv(pick(8, 40), pick(4, 11), pick(1, 12), few, 2 * pick(0, 2) + 1);
    v.stride_h = pick(1, 2), v.pad_left = pick(0, 2);
    check_forward<T>(one, two, v);
    std::swap(v.c, v.out);
    v.stride_h = 1;
    check_backward_input<T>(one, two, v);
  }
  for (int64_t n : {8, 13, 40}) {
    check_backward_weight<T>(one, two, same_conv(n, 5, 3, 16, 3), 8);  // few tiles: images are split
    check_conv_ranks<T>(one, same_conv(n, 6, 3, 16, 3), 8);
    check_conv_ranks<T>(one, same_conv(n, 6, 40, 70, 3), 8);
  }
  for (int64_t groups : {1, 2}) check_backward_weight<T>(one, two, panels_conv(groups), 2);
  for (int64_t out : {1, 3, 6, 10, 20})  // all taps of few channels at a time; several bands of an image
    for (int64_t kernel : {3, 5}) {
      Conv v = same_conv(pick(1, 9), pick(5, 60), pick(1, 2), out, kernel);
      v.w = pick(3, 40), v.stride_h = pick(1, 2), v.stride_w = pick(1, 2), v.dilation_h = pick(1, 2);
      v.pad_top = pick(1, 9), v.pad_left = pick(0, v.w), v.pad_right = pick(2, 20);
      check_backward_weight<T>(one, two, v, int64_t(1) << pick(0, 3));
    }
  for (auto [kh, kw, c] :
       {std::array<int64_t, 3>{5, 5, 1}, {3, 3, 2}, {5, 3, 2}, {3, 3, 1}, {2, 2, 4}, {3, 5, 2}, {5, 3, 1}})
    for (int64_t out : {1, 8, 9, 17}) {  // taps that are picked in registers
      Conv v = same_conv(3, 21, c, out, kh);
      v.kw = kw, v.w = pick(8, 30), v.stride_h = pick(1, 2), v.stride_w = pick(1, 2), v.dilation_h = pick(1, 2);
      check_backward_weight<T>(one, two, v, 2);
    }
  check_conv_ranks<T>(one, same_conv(8, 28, 1, 6, 5), 8);
  check_backward_input<T>(one, two, same_conv(9, 64, 16, 8, 3, 2));  // all phases of a few images at a time
  Conv v = depthwise_conv(6, 60, 59, 32, 3, 3);
  v.stride_h = v.stride_w = 2;
  check_backward_input<T>(one, two, v);
}

// Depthwise: every cut of channels into vectors, regions of few pixels, taps that lie outside with all pixels of a row.
template <class T>
void check_depthwise(const Exec& one, const Exec& two) {
  for (int64_t c = 2; c <= 36; c++)
    check_conv<T>(one, two, depthwise_conv(pick(1, 3), pick(1, 8), pick(1, 8), c, pick(1, 4), pick(1, 4)));
  for (int64_t size = 1; size <= 9; size++) {
    check_conv<T>(one, two, depthwise_conv(2, size, 7, 17, 3, 3));
    check_conv<T>(one, two, depthwise_conv(3, 1, size, 17, 5, 5));
    check_conv<T>(one, two, depthwise_conv(1, size, 1, 33, 3, 1));
    Conv v = depthwise_conv(2, size, 10 - size, 20, 3, 2);
    v.dilation_h = pick(1, 3), v.dilation_w = pick(1, 3), v.stride_h = pick(1, 3), v.stride_w = pick(1, 3);
    v.pad_top = 2 * v.dilation_h, v.pad_left = size + 2, v.pad_right = size + 1;
    check_conv<T>(one, two, v);
  }
  check_conv<T>(one, two, depthwise_conv(2, 5, 6, 70, 1, 1));
  check_conv<T>(one, two, depthwise_conv(1, 19, 20, 9, 17, 17));  // taps in several blocks
  for (int64_t stride : {1, 2, 3}) {                              // images larger than a group: bands of rows
    Conv v = depthwise_conv(3, 41, 39, 50, 5, 3);
    v.stride_h = stride, v.stride_w = pick(1, 2);
    check_conv<T>(one, two, v);
    check_backward_weight<T>(one, two, v, 8);  // empty shards
  }
  check_conv<T>(one, two, depthwise_conv(3, 7, 6, 512, 3, 3));  // pixels half a page apart
  Conv pages = depthwise_conv(2, 23, 21, 1024, 3, 2);           // whole pages, a band of rows at a time
  check_conv<T>(one, two, pages);
  pages.stride_h = pages.stride_w = pages.dilation_h = pages.dilation_w = 2, pages.pad_top = 3;
  check_conv<T>(one, two, pages);
  check_backward_weight<T>(one, two, depthwise_conv(5, 3, 3, 512, 3, 3), 2);  // several images at a time
  Conv bands = depthwise_conv(1, 61, 21, 512, 5, 5);                          // bands between the first and the last
  check_backward_weight<T>(one, two, bands, 1);
  bands.stride_h = 2, bands.kw = 4, bands.kh = 7;  // and ranges that begin inside a panel
  check_backward_weight<T>(one, two, bands, 1);
  check_conv_ranks<T>(one, depthwise_conv(8, 6, 5, 19, 3, 3), 8);
}

}  // namespace

int main() {
  const auto pool1 = make_pool(1), pool2 = make_pool(2), pool5 = make_pool(5);
  const Exec one{*pool1}, two{*pool2}, five{*pool5};
  check_grids();
  for (const Exec* several : {&five, &two}) check_matmuls<float>(one, *several), check_folds<float>(one, *several);
  check_matmuls<double>(one, two);
  check_folds<double>(one, two);
  check_convs<float>(one, two);
  check_convs<double>(one, two);
  check_depthwise<float>(one, two);
  check_depthwise<double>(one, two);
  CHECK(asked_blocks > 0, "no product asked for what follows");
  std::printf("%016lx\n", (unsigned long)hash);
  if (failures) std::fprintf(stderr, "%d checks failed\n", failures);
  return failures != 0;
}

// products_bf16_check.cpp: products of bf16 operands against scalar references in the order of matmul_bf16.h and
// conv_bf16.h, bit for bit: odd shapes, every tile remainder, strides, shards, threads, on AMX and without it, special
// values. Prints one hash over all results; builds for different instruction sets must print the same. Run by
// test_products_bf16.py.
#include "convs_bf16_check.h"

namespace {

template <class X, class W, class Y>
struct Product {
  Matmul p;
  std::vector<X> a;
  std::vector<W> b;
  std::vector<float> bias;
  std::vector<Y> c;
};
template <class X, class W, class Y>
Product<X, W, Y> make_product(const Matmul& p, int special) {
  auto fill = [&](auto zero, int64_t n) {
    using T = decltype(zero);
    return special ? special_numbers<T>(n, special == 1) : numbers<T>(n);
  };
  return {p, fill(X{}, p.batch * std::max<int64_t>(1, p.m) * (p.k + 3) * 2),
          fill(W{}, p.batch * (p.n + 3) * (p.k + 3) * 2), pick(0, 1) ? values<float>(p.n + 1) : std::vector<float>(),
          numbers<Y>(p.batch * p.m * p.c_row)};
}
template <class X, class W, class Y>
void check_product(const Runner& run, const Product<X, W, Y>& q, const std::string& what) {
  const Matmul& p = q.p;
  auto want = q.c;
  for (int64_t t = 0; t < p.batch; t++)
    for (int64_t i = 0; i < p.m; i++)
      for (int64_t j = 0; j < p.n; j++) {
        float sum;
        {
          const FlushDenormals flush;
          GroupSum s;
          for (int64_t k = 0; k < p.k; k++)
            s.add(operand(q.a[t * p.a_batch + i * p.a_row + k * p.a_col]),
                  operand(q.b[t * p.b_batch + k * p.b_row + j * p.b_col]));
          sum = s.close();
        }
        if (!q.bias.empty()) sum = q.bias[j] + sum;
        Y& out = want[t * p.c_batch + i * p.c_row + j];
        assign(out, p.accumulate ? widened(out) + sum : sum);
      }
  const float* bias = q.bias.empty() ? nullptr : q.bias.data();
  const std::string name = what + " m " + std::to_string(p.m) + " n " + std::to_string(p.n) + " k " +
                           std::to_string(p.k) + " batch " + std::to_string(p.batch);
  check_all(run, want, q.c, name, [&](const Exec& exec, Y* c) {
    Followed followed(int64_t(q.c.size()));
    if constexpr (std::is_same_v<X, W>) matmul_bf16(exec, p, q.a.data(), q.b.data(), bias, c, followed.follow());
    else matmul_bf16_weight(exec, p, q.a.data(), q.b.data(), bias, c, followed.follow());
    const int64_t runs = std::accumulate(followed.count.begin(), followed.count.end(), int64_t(0));
    CHECK(runs == p.batch * p.m * p.n && followed.asks_fit(), "%s: follow", name.c_str());
  });
}
// A sum that is flushed to -0, then a group of two k whose products are, too: the zeros that fill it make +0 of it.
void check_zeros(const Runner& run) {
  const int64_t m = 17, n = 19, k = 66;
  std::vector<float> a(m * k), b(k * n, 0x1p-63f), c(m * n, 1.0f);
  for (int64_t i = 0; i < m; i++) {
    float* row = &a[i * k];
    row[0] = 0x1.8p-63f, row[32] = -0x1.cp-63f, row[64] = row[65] = -0x1p-80f;
  }
  check_product(run, Product<float, float, float>{Matmul{m, n, k, k, 1, n, 1, n}, a, b, {}, c}, "zeros");
}
// Rounding the operands costs 2^-8 of the sum of the absolute products at most; the sums cost less.
void check_close(const Exec& exec, int64_t m, int64_t n, int64_t k) {
  const auto a = values<float>(m * k), b = values<float>(k * n);
  std::vector<float> c(m * n);
  matmul_bf16(exec, Matmul{m, n, k, k, 1, n, 1, n}, a.data(), b.data(), nullptr, c.data());
  for (int64_t i = 0; i < m * n; i++) {
    double want = 0, size = 0;
    for (int64_t t = 0; t < k; t++) {
      const double term = double(a[i / n * k + t]) * double(b[t * n + i % n]);
      want += term, size += std::abs(term);
    }
    CHECK(std::abs(c[i] - want) <= size * 0x1p-7, "%g is far from %g", c[i], want);
    CHECK(std::abs(c[i] - want) <= std::sqrt(double(k)) * 0.01, "%g is far from %g", c[i], want);
  }
}
void check_product(const Runner& run, const Matmul& p, const std::string& what, int special = 0) {
  check_product(run, make_product<float, float, float>(p, special), what);
  check_product(run, make_product<Bf16, Bf16, Bf16>(p, special), what + " bf16");
  check_product(run, make_product<Bf16, float, Bf16>(p, special), what + " weight");
  check_product(run, make_product<Bf16, float, float>(p, special), what + " weight, result of floats");
  check_product(run, make_product<Bf16, Bf16, float>(p, special), what + " bf16, result of floats");
}

void check_strides(const Runner& run, int64_t m, int64_t n, int64_t k, int special = 0) {
  each_layout(m, n, k, [&](const Matmul& p) { check_product(run, p, special ? "special" : "strides", special); });
}
void check_products(const Runner& run) {
  for (int64_t m = 1; m <= 33; m++) check_strides(run, m, pick(1, 70), pick(0, 70));
  for (int64_t n = 1; n <= 66; n += 3) check_strides(run, pick(1, 70), n, pick(1, 70));
  for (int64_t k : {0, 1, 31, 32, 33, 63, 65, 100}) check_strides(run, pick(1, 40), pick(1, 40), k);
  for (int special : {1, 2})
    for (int64_t k : {3, 32, 70, 200}) check_strides(run, 40, 40, k, special);
  check_strides(run, 7, 0, 5);
  for (int64_t k : {7, 300, 2000}) check_close(run.two, 33, 20, k);
  check_strides(run, 0, 7, 5);
  check_product(run, {600, 40, 1400, 1400, 1, 40, 1, 40}, "chunks");  // parts of rows, chunks of K
  check_product(run, {20, 600, 1500, 1500, 1, 1, 1500, 600}, "many columns");
  check_product(run, {3000, 20, 100, 100, 1, 1, 100, 20}, "many rows");
  check_product(run, {210, 333, 65, 65, 1, 1, 65, 333}, "what follows is asked for");
  check_product(run, {210, 333, 65, 65, 1, 333, 1, 333}, "what follows is asked for, B across");
  for (int64_t batch : {2, 3, 20}) {
    const int64_t m = pick(1, 20), n = pick(1, 40), k = pick(1, 100);
    Matmul p{m, n, k, k, 1, n, 1, n, batch, m * k, n * k, m * n};
    check_product(run, p, "batch");
    p.b_batch = 0;
    check_product(run, p, "shared B");
  }
}

// special: sums of shards that are too small count as zeros; what folds give does not.
template <class X>
void check_fold(const Runner& run, int64_t m, int64_t n, const Shards& shards, bool special = false) {
  const int64_t rows = shards.rows();
  auto fill = [&](int64_t size) { return special ? special_numbers<X>(size, true) : numbers<X>(size); };
  const auto a = fill(rows * m), b = fill(rows * n);
  const auto before = values<float>(m * n);
  Matmul p{m, n, rows, 1, m, n, 1, n};
  p.accumulate = pick(0, 1);
  auto want = before;
  for (int64_t i = 0; i < m; i++)
    for (int64_t j = 0; j < n; j++) {
      const float sum = ref_fold(shards.count(), [&](int64_t s) {
        const FlushDenormals flush;
        GroupSum leaf;
        for (int64_t k = shards.offset[s]; k < shards.offset[s + 1]; k++)
          leaf.add(operand(a[k * m + i]), operand(b[k * n + j]));
        return leaf.close();
      });
      want[i * n + j] = p.accumulate ? before[i * n + j] + sum : sum;
    }
  check_all(run, want, before,
            "fold of " + std::to_string(rows) + " rows, " + std::to_string(shards.count()) + " shards",
            [&](const Exec& exec, float* c) { matmul_fold_bf16(exec, p, shards, a.data(), b.data(), c); });
}
template <class X>
void check_folds(const Runner& run) {
  for (int64_t total : {1, 2, 3, 4, 8})
    for (int64_t rows : {0, 1, 3, 8, 33, 300})
      check_fold<X>(run, pick(1, 40), pick(1, 90), Shards::of(rows, total, 0, total));
  check_fold<X>(run, 70, 90, Shards::of(1000, 8, 0, 8));
  for (int64_t total : {2, 4, 8, 16})
    for (int64_t rows : {2, 19, 128, 500}) {
      check_fold<X>(run, pick(1, 40), 37, Shards::of(rows, total, 0, total), true);
      check_fold<X>(run, 40, pick(1, 90), Shards::of(rows, total, 0, total));
    }
}

}  // namespace

int main() {
  const auto pool1 = make_pool(1), pool2 = make_pool(2), pool5 = make_pool(5);
  const Exec one{*pool1}, two{*pool2}, five{*pool5};
  const Runner run{one, two};
  check_products(run);
  check_products({one, five});
  check_zeros(run);
  check_folds<float>(run);
  check_folds<Bf16>(run);
  check_convs(run);
  CHECK(asked_blocks > 0, "no product asked for what follows");
  std::printf("%016lx\n", (unsigned long)hash);
  if (failures) std::fprintf(stderr, "%d checks failed\n", failures);
  return failures != 0;
}

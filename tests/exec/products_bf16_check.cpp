// products_bf16_check.cpp: products of bf16 operands against scalar references in the order of matmul_bf16.h and
// conv_bf16.h, bit for bit: odd shapes, every tile remainder, strides, shards, threads, on AMX and without it, special
// values. Prints one hash over all results; builds for different instruction sets must print the same. Run by
// test_products_bf16.py.
#include <algorithm>
#include <cmath>
#include <string>
#include <type_traits>

#include "exec/conv_bf16.h"
#include "exec/tile_bf16.h"
#include "products_check.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

using namespace thalweg;

namespace {

struct Runner {
  const Exec& one;
  const Exec& two;
};

class FlushDenormals {
 public:
#if defined(__x86_64__)
  FlushDenormals() : old_(_mm_getcsr()) { _mm_setcsr(old_ | 0x8040); }
  ~FlushDenormals() { _mm_setcsr(old_); }

 private:
  unsigned old_;
#endif
};

float operand(float x) { return to_float(to_bf16(x)); }
float operand(Bf16 x) { return to_float(x); }
float widened(float x) { return x; }
float widened(Bf16 x) { return to_float(x); }
void assign(float& to, float x) { to = x; }
void assign(Bf16& to, float x) { to = to_bf16(x); }

// The sum over K in groups.
class GroupSum {
 public:
  void add(float a, float b) {
    volatile float& chain = chain_[k_ & 1];
    chain = std::fma(a, b, float(chain));
    if (++k_ == kGroup) close();
  }
  float close() {
    volatile float group = chain_[0] + chain_[1];
    if (k_ > 0) sum_ = sum_ + group;
    chain_[0] = 0;
    chain_[1] = 0;
    k_ = 0;
    return sum_;
  }

 private:
  volatile float sum_ = 0, chain_[2] = {0, 0};
  int64_t k_ = 0;
};
template <class Leaf>
float ref_fold(int64_t n, Leaf leaf) {
  std::vector<float> slot(tree_slots(n));
  fold_tree(n, [&](int64_t i, int level) { slot[level] = leaf(i); }, [&](int a, int b) { slot[a] += slot[b]; });
  return slot[0];
}

template <class X>
std::vector<X> numbers(int64_t n) {
  std::vector<X> v(n);
  const auto x = values<float>(n);
  for (int64_t i = 0; i < n; i++) assign(v[i], x[i]);
  return v;
}
// Infinities, NaN, zeros of both signs, denormals, and numbers whose products and sums become denormal or overflow.
template <class X>
std::vector<X> special_numbers(int64_t n, bool finite) {
  std::vector<X> v(n);
  for (X& x : v) {
    const float size = std::ldexp(1.0f + float(pick(0, 127)) / 128, int(pick(-80, -50)));
    const float wild[] = {0.0f, -0.0f, 1e-40f, -3e-39f, 1.1754942e-38f, 3e38f, -INFINITY, NAN};
    const int64_t kind = pick(0, finite ? 12 : 200);
    assign(x, kind < (finite ? 5 : 8) ? wild[kind] : pick(0, 1) ? size : -size);
  }
  return v;
}
void drop_nan_payloads(std::vector<float>& v) {
  for (float& x : v)
    if (std::isnan(x)) x = NAN;
}
void drop_nan_payloads(std::vector<Bf16>& v) {
  for (Bf16& x : v)
    if (std::isnan(to_float(x))) x = to_bf16(NAN);
}

// f(exec, result) on one and two threads, with AMX and without it, gives `want`.
template <class X, class F>
void check_all(const Runner& run, std::vector<X> want, const std::vector<X>& before, const std::string& what, F f) {
  drop_nan_payloads(want);
  for (bool amx : {true, false})
    for (const Exec* exec : {&run.one, &run.two}) {
      use_amx(amx);
      if (amx && !amx_used()) continue;
      std::vector<X> got = before;
      f(*exec, got.data());
      drop_nan_payloads(got);
      size_t bad = 0;
      while (bad < got.size() && 0 == std::memcmp(&got[bad], &want[bad], sizeof(X))) bad++;
      CHECK(same_bits(want, got), "%s, %s, %d threads: element %zu is %g, not %g", what.c_str(),
            amx_used() ? "AMX" : "no AMX", exec->pool.threads(), bad, widened(got[bad]), widened(want[bad]));
    }
  add_to_hash(want);
}

template <class X, class W>
struct Product {
  Matmul p;
  std::vector<X> a;
  std::vector<W> b;
  std::vector<float> bias;
  std::vector<X> c;
};
template <class X, class W>
Product<X, W> make_product(const Matmul& p, int special) {
  auto fill = [&](auto zero, int64_t n) {
    using T = decltype(zero);
    return special ? special_numbers<T>(n, special == 1) : numbers<T>(n);
  };
  return {p, fill(X{}, p.batch * std::max<int64_t>(1, p.m) * (p.k + 3) * 2),
          fill(W{}, p.batch * (p.n + 3) * (p.k + 3) * 2), pick(0, 1) ? values<float>(p.n + 1) : std::vector<float>(),
          numbers<X>(p.batch * p.m * p.c_row)};
}
template <class X, class W>
void check_product(const Runner& run, const Product<X, W>& q, const std::string& what) {
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
        X& out = want[t * p.c_batch + i * p.c_row + j];
        assign(out, p.accumulate ? widened(out) + sum : sum);
      }
  const float* bias = q.bias.empty() ? nullptr : q.bias.data();
  const std::string name = what + " m " + std::to_string(p.m) + " n " + std::to_string(p.n) + " k " +
                           std::to_string(p.k) + " batch " + std::to_string(p.batch);
  check_all(run, want, q.c, name, [&](const Exec& exec, X* c) {
    if constexpr (std::is_same_v<X, W>) matmul_bf16(exec, p, q.a.data(), q.b.data(), bias, c);
    else matmul_bf16_weight(exec, p, q.a.data(), q.b.data(), bias, c);
  });
}
void check_product(const Runner& run, const Matmul& p, const std::string& what, int special = 0) {
  check_product(run, make_product<float, float>(p, special), what);
  check_product(run, make_product<Bf16, Bf16>(p, special), what + " bf16");
  check_product(run, make_product<Bf16, float>(p, special), what + " weight");
}

// Every layout of A and B: rows or columns contiguous, neither, and with gaps.
void check_strides(const Runner& run, int64_t m, int64_t n, int64_t k, int special = 0) {
  const int64_t gap = pick(0, 3);
  for (int form = 0; form < 5; form++) {
    Matmul p{m, n, k, k + gap, 1, n + gap, 1, n + gap};
    if (form & 1) p.a_row = 1, p.a_col = std::max<int64_t>(1, m);
    if (form & 2) p.b_row = 1, p.b_col = k + gap;
    if (form == 4) p.a_row = 2 * k + 1, p.a_col = 2, p.b_row = 2, p.b_col = 2 * k + 1;
    p.accumulate = pick(0, 1);
    check_product(run, p, special ? "special" : "strides", special);
  }
}
void check_products(const Runner& run) {
  for (int64_t m = 1; m <= 33; m++) check_strides(run, m, pick(1, 70), pick(0, 70));
  for (int64_t n = 1; n <= 66; n += 3) check_strides(run, pick(1, 70), n, pick(1, 70));
  for (int64_t k : {0, 1, 31, 32, 33, 63, 65, 100}) check_strides(run, pick(1, 40), pick(1, 40), k);
  for (int special : {1, 2})
    for (int64_t k : {3, 32, 70, 200}) check_strides(run, 40, 40, k, special);
  check_strides(run, 7, 0, 5);
  check_strides(run, 0, 7, 5);
  check_product(run, {600, 40, 1400, 1400, 1, 40, 1, 40}, "chunks");  // parts of rows, chunks of K
  check_product(run, {20, 600, 1500, 1500, 1, 1, 1500, 600}, "many columns");
  check_product(run, {3000, 20, 100, 100, 1, 1, 100, 20}, "many rows");
  for (int64_t batch : {2, 3, 20}) {
    const int64_t m = pick(1, 20), n = pick(1, 40), k = pick(1, 100);
    Matmul p{m, n, k, k, 1, n, 1, n, batch, m * k, n * k, m * n};
    check_product(run, p, "batch");
    p.b_batch = 0;
    check_product(run, p, "shared B");
  }
}

template <class X>
void check_fold(const Runner& run, int64_t m, int64_t n, const Shards& shards) {
  const int64_t rows = shards.rows();
  const auto a = numbers<X>(rows * m), b = numbers<X>(rows * n);
  const auto before = values<float>(m * n);
  Matmul p{m, n, rows, 1, m, n, 1, n};
  p.accumulate = pick(0, 1);
  auto want = before;
  for (int64_t i = 0; i < m; i++)
    for (int64_t j = 0; j < n; j++) {
      const float sum = ref_fold(shards.count(), [&](int64_t s) {
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
}

// y of one pixel and channel: for every kh its K in the order kw, in, in groups; zeros outside the image.
template <class X>
float ref_forward(const Conv& v, const X* x, const float* w, int64_t n, int64_t p, int64_t q, int64_t o) {
  const FlushDenormals flush;
  GroupSum s;
  const int64_t in = v.group_in(), group = o / v.group_out();
  for (int64_t r = 0; r < v.kh; r++) {
    for (int64_t t = 0; t < v.kw; t++)
      for (int64_t c = 0; c < in; c++) {
        const int64_t h = p * v.stride_h + r * v.dilation_h - v.pad_top;
        const int64_t u = q * v.stride_w + t * v.dilation_w - v.pad_left;
        const bool inside = h >= 0 && h < v.h && u >= 0 && u < v.w;
        s.add(inside ? operand(x[((n * v.h + h) * v.w + u) * v.c + group * in + c]) : 0.0f,
              operand(w[((o * v.kh + r) * v.kw + t) * in + c]));
      }
    s.close();
  }
  return s.close();
}
// d_x of one pixel and channel: the taps that fit the stride, kh falling, for each kw falling, then out.
template <class X>
float ref_backward_input(const Conv& v, const X* d_y, const float* w, int64_t n, int64_t h, int64_t u, int64_t c) {
  const FlushDenormals flush;
  GroupSum s;
  const int64_t in = v.group_in(), out = v.group_out(), group = c / in;
  for (int64_t r = v.kh - 1; r >= 0; r--) {
    for (int64_t t = v.kw - 1; t >= 0; t--) {
      const int64_t down = h + v.pad_top - r * v.dilation_h, right = u + v.pad_left - t * v.dilation_w;
      if (down % v.stride_h || right % v.stride_w) continue;
      const int64_t p = down / v.stride_h, q = right / v.stride_w;
      const bool inside = p >= 0 && p < v.out_h() && q >= 0 && q < v.out_w();
      for (int64_t o = group * out; o < (group + 1) * out; o++)
        s.add(inside ? operand(d_y[((n * v.out_h() + p) * v.out_w() + q) * v.out + o]) : 0.0f,
              operand(w[((o * v.kh + r) * v.kw + t) * in + c % in]));
    }
    s.close();
  }
  return s.close();
}
// d_w of one weight: an image is a leaf, its output pixels in order; images fold in their shard, then shards.
template <class X>
float ref_backward_weight(const Conv& v, const Shards& shards, const X* x, const X* d_y, int64_t o, int64_t r,
                          int64_t t, int64_t c) {
  const int64_t group = o / v.group_out();
  return ref_fold(shards.count(), [&](int64_t shard) {
    const int64_t first = shards.offset[shard];
    return ref_fold(shards.offset[shard + 1] - first, [&](int64_t i) {
      const FlushDenormals flush;
      GroupSum s;
      for (int64_t p = 0; p < v.out_h(); p++)
        for (int64_t q = 0; q < v.out_w(); q++) {
          const int64_t h = p * v.stride_h + r * v.dilation_h - v.pad_top;
          const int64_t u = q * v.stride_w + t * v.dilation_w - v.pad_left;
          const bool inside = h >= 0 && h < v.h && u >= 0 && u < v.w;
          s.add(inside ? operand(x[(((first + i) * v.h + h) * v.w + u) * v.c + group * v.group_in() + c]) : 0.0f,
                operand(d_y[(((first + i) * v.out_h() + p) * v.out_w() + q) * v.out + o]));
        }
      return s.close();
    });
  });
}

std::string text_of(const Conv& v) {
  char s[200];
  std::snprintf(
      s, sizeof s,
      "n %ld %ldx%ldx%ld out %ld kernel %ldx%ld stride %ld %ld pad %ld %ld %ld %ld dilation %ld %ld groups %ld", v.n,
      v.h, v.w, v.c, v.out, v.kh, v.kw, v.stride_h, v.stride_w, v.pad_top, v.pad_bottom, v.pad_left, v.pad_right,
      v.dilation_h, v.dilation_w, v.groups);
  return s;
}
// Counts how often each element is followed.
struct Followed {
  std::vector<int> count;
  explicit Followed(int64_t n) : count(n) {}
  Follow follow() {
    return {[](const void* self, const Block& b) {
              auto& to = const_cast<std::vector<int>&>(*static_cast<const std::vector<int>*>(self));
              for (int64_t r = 0; r < b.rows; r++)
                for (int64_t i = 0; i < b.n; i++) to[b.begin + r * b.step + i]++;
            },
            &count};
  }
  bool once() const {
    return std::all_of(count.begin(), count.end(), [](int n) { return n == 1; });
  }
};
template <class X>
void check_conv(const Runner& run, const Conv& v, bool special = false) {
  const int64_t x_size = v.n * v.h * v.w * v.c, y_size = v.n * v.out_h() * v.out_w() * v.out;
  const int64_t w_size = v.out * v.kh * v.kw * v.group_in(), total = int64_t(1) << pick(0, 3);
  auto fill = [&](auto zero, int64_t n) {
    using T = decltype(zero);
    return special ? special_numbers<T>(n, true) : numbers<T>(n);
  };
  const auto x = fill(X{}, x_size), d_y = fill(X{}, y_size);
  const auto w = fill(0.0f, w_size), bias = values<float>(v.out);
  const float* bias_or_null = pick(0, 1) ? bias.data() : nullptr;
  const Shards shards = Shards::of(v.n, total, 0, total);
  std::vector<X> y(y_size), d_x(x_size);
  std::vector<float> d_w(w_size);
  for (int64_t n = 0, at = 0; n < v.n; n++)
    for (int64_t p = 0; p < v.out_h(); p++)
      for (int64_t q = 0; q < v.out_w(); q++)
        for (int64_t o = 0; o < v.out; o++) {
          const float sum = ref_forward(v, x.data(), w.data(), n, p, q, o);
          assign(y[at++], bias_or_null ? bias[o] + sum : sum);
        }
  for (int64_t n = 0, at = 0; n < v.n; n++)
    for (int64_t h = 0; h < v.h; h++)
      for (int64_t u = 0; u < v.w; u++)
        for (int64_t c = 0; c < v.c; c++) assign(d_x[at++], ref_backward_input(v, d_y.data(), w.data(), n, h, u, c));
  for (int64_t o = 0, at = 0; o < v.out; o++)
    for (int64_t r = 0; r < v.kh; r++)
      for (int64_t t = 0; t < v.kw; t++)
        for (int64_t c = 0; c < v.group_in(); c++)
          d_w[at++] = ref_backward_weight(v, shards, x.data(), d_y.data(), o, r, t, c);
  check_all(run, y, numbers<X>(y_size), "forward " + text_of(v), [&](const Exec& exec, X* to) {
    Followed followed(y_size);
    conv_forward_bf16(exec, v, x.data(), w.data(), bias_or_null, to, followed.follow());
    CHECK(followed.once(), "forward %s: follow", text_of(v).c_str());
  });
  check_all(run, d_x, numbers<X>(x_size), "backward_input " + text_of(v), [&](const Exec& exec, X* to) {
    Followed followed(x_size);
    conv_backward_input_bf16(exec, v, d_y.data(), w.data(), to, followed.follow());
    CHECK(followed.once(), "backward_input %s: follow", text_of(v).c_str());
  });
  check_all(run, d_w, values<float>(w_size), "backward_weight " + text_of(v) + " shards " + std::to_string(total),
            [&](const Exec& exec, float* to) { conv_backward_weight_bf16(exec, v, shards, x.data(), d_y.data(), to); });
}
void check_conv(const Runner& run, const Conv& v, bool special = false) {
  check_conv<float>(run, v, special);
  check_conv<Bf16>(run, v, special);
}

Conv random_conv() {
  Conv v{pick(0, 4), pick(1, 12), pick(1, 12), pick(1, 40), pick(1, 40), pick(1, 4), pick(1, 4)};
  v.stride_h = pick(1, 3), v.stride_w = pick(1, 3), v.dilation_h = pick(1, 2), v.dilation_w = pick(1, 2);
  v.pad_top = pick(0, 3), v.pad_bottom = pick(0, 3), v.pad_left = pick(0, 3), v.pad_right = pick(0, 3);
  if (pick(0, 3) == 0) {
    v.groups = pick(2, 4);
    v.c = v.groups * pick(1, 8), v.out = v.groups * pick(1, 20);
  } else if (pick(0, 4) == 0) {
    v.c = v.out = v.groups = pick(1, 20);
  }
  return v;
}
Conv same_conv(int64_t n, int64_t size, int64_t c, int64_t out, int64_t kernel, int64_t stride = 1) {
  Conv v{n, size, size, c, out, kernel, kernel};
  v.stride_h = v.stride_w = stride;
  v.pad_top = v.pad_bottom = v.pad_left = v.pad_right = kernel / 2;
  return v;
}
void check_convs(const Runner& run) {
  for (int i = 0; i < 40;) {
    const Conv v = random_conv();
    if (v.h + v.pad_top + v.pad_bottom <= v.dilation_h * (v.kh - 1) ||
        v.w + v.pad_left + v.pad_right <= v.dilation_w * (v.kw - 1))
      continue;
    check_conv(run, v);
    i++;
  }
  for (int64_t size : {4, 8, 16})  // even rows of whole groups, and strides
    for (int64_t stride : {1, 2}) {
      check_conv(run, same_conv(3, size, 32, pick(1, 40), 3, stride));
      check_conv(run, same_conv(2, size, pick(1, 20), 16, 3, stride));
      check_conv(run, same_conv(2, size, 17, 33, 1, stride));
    }
  check_conv(run, same_conv(3, 6, 5, 40, 3), true);
  Conv lanes = same_conv(2, 10, 18, 18, 9);  // depthwise: many taps, rows of more than a group of them
  lanes.groups = 18;
  check_conv(run, lanes);
  lanes.h = 2, lanes.w = 40, lanes.kh = 1, lanes.kw = 35;
  check_conv(run, lanes);
  check_conv(run, same_conv(20, 8, 3, 6, 5));   // runs of images
  check_conv(run, same_conv(1, 70, 32, 3, 3));  // bands of rows
}

}  // namespace

int main() {
  const auto pool1 = make_pool(1), pool2 = make_pool(2);
  const Exec one{*pool1}, two{*pool2};
  const Runner run{one, two};
  check_products(run);
  check_folds<float>(run);
  check_folds<Bf16>(run);
  check_convs(run);
  std::printf("%016lx\n", (unsigned long)hash);
  if (failures) std::fprintf(stderr, "%d checks failed\n", failures);
  return failures != 0;
}

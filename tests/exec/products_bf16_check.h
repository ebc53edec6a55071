// products_bf16_check.h: the order of sums of bf16 products, one element at a time, and how results are compared with
// it.
#pragma once
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
    for (int64_t k = k_; k > 0 && k < kGroup; k++) chain_[k & 1] = std::fma(0.0f, 0.0f, float(chain_[k & 1]));
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

// f(exec, result) on one and two threads, on each unit that the processor has, gives `want`.
template <class X, class F>
void check_all(const Runner& run, std::vector<X> want, const std::vector<X>& before, const std::string& what, F f) {
  drop_nan_payloads(want);
  constexpr const char* kNames[] = {"fma", "dots", "amx"};
  for (UnitBf16 unit : {UnitBf16::amx, UnitBf16::dots, UnitBf16::fma})
    for (const Exec* exec : {&run.one, &run.two}) {
      if (!choose_bf16(unit)) continue;
      std::vector<X> got = before;
      f(*exec, got.data());
      drop_nan_payloads(got);
      size_t bad = 0;
      while (bad < got.size() && 0 == std::memcmp(&got[bad], &want[bad], sizeof(X))) bad++;
      CHECK(same_bits(want, got), "%s, %s, %d threads: element %zu is %g, not %g", what.c_str(), kNames[int(unit)],
            exec->pool.threads(), bad, widened(got[bad]), widened(want[bad]));
    }
  add_to_hash(want);
}

}  // namespace

// products_check.h: random values, a hash of results, what a failed check prints, and which elements were followed.
#pragma once
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <random>
#include <vector>

#include "exec/follow.h"
#include "exec/matmul.h"

namespace {

int failures = 0;
uint64_t hash = 14695981039346656037u;

#define CHECK(ok, ...)                                     \
  do {                                                     \
    if (!(ok) && failures++ < 20) {                        \
      std::fprintf(stderr, "%s:%d: ", __FILE__, __LINE__); \
      std::fprintf(stderr, __VA_ARGS__);                   \
      std::fputc('\n', stderr);                            \
    }                                                      \
  } while (0)

std::mt19937 random_bits(1);
int64_t pick(int64_t low, int64_t high) { return low + int64_t(random_bits() % uint64_t(high - low + 1)); }
template <class T>
std::vector<T> values(int64_t n) {
  std::vector<T> v(n);
  for (T& x : v) x = T(int32_t(random_bits())) * T(0x1p-31);
  return v;
}
template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && (a.empty() || 0 == std::memcmp(a.data(), b.data(), a.size() * sizeof(T)));
}
template <class T>
void add_to_hash(const std::vector<T>& v) {
  for (T x : v) {
    uint64_t bits = 0;
    std::memcpy(&bits, &x, sizeof(T));
    hash = (hash ^ bits) * 1099511628211u;
  }
}
std::atomic<int64_t> asked_blocks = 0;  // for followers, by all products
// Counts how often each element is followed. Elements that are asked for must be followed later.
struct Followed {
  std::vector<int> count, asked;
  explicit Followed(int64_t n) : count(n), asked(n) {}
  thalweg::Follow follow() {
    return {.run = [](const void* self, const thalweg::Block& b) { add(b, of(self).count); },
            .asks =
                [](const void* self, const thalweg::Block& b) {
                  const std::vector<int>& done = of(self).count;
                  each(b, [&](int64_t i) {
                    CHECK(!inside(i, done) || done[i] == 0, "element %ld is asked for late", long(i));
                  });
                  add(b, of(self).asked);
                  asked_blocks++;
                },
            .self = this};
  }
  bool once() const {
    return std::all_of(count.begin(), count.end(), [](int n) { return n == 1; });
  }
  // Nothing was asked for twice, or for nothing.
  bool asks_fit() const {
    return std::equal(asked.begin(), asked.end(), count.begin(), [](int a, int n) { return a <= std::min(n, 1); });
  }

 private:
  static Followed& of(const void* self) { return const_cast<Followed&>(*static_cast<const Followed*>(self)); }
  template <class F>
  static void each(const thalweg::Block& b, F f) {
    for (int64_t r = 0; r < b.rows; r++)
      for (int64_t i = 0; i < b.n; i++) f(b.begin + r * b.step + i);
  }
  static bool inside(int64_t i, const std::vector<int>& v) { return i >= 0 && i < int64_t(v.size()); }
  static void add(const thalweg::Block& b, std::vector<int>& to) {
    each(b, [&](int64_t i) {
      CHECK(inside(i, to), "element %ld of %ld", long(i), long(to.size()));
      if (inside(i, to)) to[i]++;
    });
  }
};
// f(product) for every layout of A and B: rows or columns contiguous, neither, and with gaps.
template <class F>
void each_layout(int64_t m, int64_t n, int64_t k, F f) {
  const int64_t gap = pick(0, 3);
  for (int form = 0; form < 5; form++) {
    thalweg::Matmul p{m, n, k, k + gap, 1, n + gap, 1, n + gap};
    if (form & 1) p.a_row = 1, p.a_col = std::max<int64_t>(1, m);
    if (form & 2) p.b_row = 1, p.b_col = k + gap;
    if (form == 4) p.a_row = 2 * k + 1, p.a_col = 2, p.b_row = 2, p.b_col = 2 * k + 1;
    p.accumulate = pick(0, 1);
    f(p);
  }
}

}  // namespace

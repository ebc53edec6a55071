// stored.h: numbers that are stored as bf16, for loops over floats: they are read where they lie, and what a loop makes
// is rounded on its way out, part by part. The formulas are those of floats.
#pragma once
#include <array>

#include "../formula/bf16.h"
#include "follow.h"

namespace thalweg {

inline constexpr int64_t kStoredPart = 1024;  // elements that wait to be rounded: L1

void load_stored(const Bf16* from, int64_t n, float* to);
void store_stored(const float* from, int64_t n, Bf16* to);  // rounded to nearest
// The same of `rows` runs of n, `step` apart there and dense here; at most kStoredPart in all.
void store_runs(const float* from, int64_t rows, int64_t n, Bf16* to, int64_t step);

// Where they are read, or written, one by one.
template <>
struct View<Bf16> {
  Bf16* __restrict__ p;
  View(Buffer b) : p(b.as<Bf16>()) {}
  explicit View(Bf16* q) : p(q) {}
  float operator[](int64_t i) const { return to_float(p[i]); }
  void set(int64_t i, float x) const { p[i] = {uint16_t(to_bits(x) >> 16)}; }  // one that was stored, or zero
  View at(int64_t i) const { return View(p + i); }
};
// The type of the numbers of a View.
template <class S>
using NumberOf = std::conditional_t<std::is_same_v<S, Bf16>, float, S>;

// K tensors of one shape that a loop reads, all of them numbers or all of them stored as bf16 (where N is float).
template <class N, int K>
struct Operands {
  std::array<Buffer, K> at;
  bool stored = false;
  // f(views), their elements numbers either way.
  template <class F>
  auto read(const F& f) const {
    if constexpr (std::is_same_v<N, float>)
      if (stored) return f(views<Bf16>());
    return f(views<N>());
  }

 private:
  template <class S>
  std::array<View<S>, K> views() const {
    return [&]<size_t... k>(std::index_sequence<k...>) {
      return std::array<View<S>, K>{View<S>(at[k])...};
    }(std::make_index_sequence<K>{});
  }
};

// to[i] = f(i), rounded, for the elements of a block.
template <class F>
TW_FLATTEN void fill_stored(Bf16* to, const Block& b, const F& f) {
  alignas(64) float made[kStoredPart];
  const F at = f;  // a copy: through a reference the compiler would reload pointers
  const int64_t width = std::min(b.n, kStoredPart), most = kStoredPart / std::max<int64_t>(1, width);
  for (int64_t r = 0; r < b.rows; r += most)
    for (int64_t j = 0; j < b.n; j += width) {
      const int64_t rows = std::min(most, b.rows - r), n = std::min(width, b.n - j), begin = b.begin + r * b.step + j;
      for (int64_t i = 0; i < rows; i++) {
        const int64_t first = begin + i * b.step;
        float* const row = made + i * n;
#pragma omp simd
        for (int64_t k = 0; k < n; k++) row[k] = at(first + k);
      }
      store_runs(made, rows, n, to + begin, b.step);
    }
}

}  // namespace thalweg

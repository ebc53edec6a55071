// stored.h: numbers that are stored as bf16, for loops over floats: operands are loaded part by part into memory where
// the loop finds them, and what it makes there is rounded on its way out. The loops themselves are those of floats.
#pragma once
#include <array>

#include "../formula/bf16.h"
#include "follow.h"

namespace thalweg {

inline constexpr int64_t kStoredPart = 1024;  // elements: three operands and a result stay in the first-level cache

void load_stored(const Bf16* from, int64_t n, float* to);
void store_stored(const float* from, int64_t n, Bf16* to);  // rounded to nearest
// The same of `rows` runs of n, `step` apart there and dense here; at most kStoredPart in all are stored.
void load_runs(const Bf16* from, int64_t step, int64_t rows, int64_t n, float* to);
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

// f(in, to, part) where `in` and `to` hold the elements of a block as floats, one after the other: parts of them, each
// of kStoredPart at most. An elementwise operation on floats serves bf16 this way.
template <int K, class F>
void for_stored(const Buffer* in, const Buffer& out, const Block& b, const F& f) {
  alignas(64) float memory[(K + 1) * kStoredPart];
  std::array<Buffer, K + 1> at;
  for (int k = 0; k <= K; k++) at[size_t(k)] = {reinterpret_cast<std::byte*>(memory + k * kStoredPart)};
  const int64_t width = std::min(b.n, kStoredPart), most = kStoredPart / std::max<int64_t>(1, width);
  for (int64_t r = 0; r < b.rows; r += most)
    for (int64_t j = 0; j < b.n; j += width) {
      const int64_t rows = std::min(most, b.rows - r), n = std::min(width, b.n - j), begin = b.begin + r * b.step + j;
      for (int k = 0; k < K; k++) load_runs(in[k].as<Bf16>() + begin, b.step, rows, n, memory + k * kStoredPart);
      f(at.data(), at[K], Block{0, 0, 1, rows * n});
      store_runs(memory + K * kStoredPart, rows, n, out.as<Bf16>() + begin, b.step);
    }
}

}  // namespace thalweg

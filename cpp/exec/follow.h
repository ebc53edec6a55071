// follow.h: what is done to elements of a result as soon as they are final, while they are still in cache.
//   matmul(exec, p, a, b, bias, c, follow)        calls follow(block) once for every element of c; if c is large, after
//                                                 follow.ask(block), some time before
//   follow_all(exec, n, follow)                   the same for a result that was made without it
#pragma once
#include "for_each.h"

namespace thalweg {

// Elements of a result: `rows` runs of n, `step` apart, the first at `begin`.
struct Block {
  int64_t begin, step, rows, n;
};

// f(i) for the n elements of every run.
template <int64_t kCount, class F>
TW_FLATTEN void for_runs(const Block& b, const F& f) {
  for (int64_t r = 0, i = b.begin; r < b.rows; r++, i += b.step)
#pragma omp simd
    for (int64_t k = 0; k < kCount; k++) f(i + k);
}
// f(i) for every element of a block. kTiles: runs of a register tile have a loop of their fixed length.
template <bool kTiles, class F>
TW_FLATTEN void for_block(const Block& b, const F& f) {
  const F at = f;  // a copy: through a reference the compiler would reload pointers
  if constexpr (kTiles)
    if (b.n == 32) return for_runs<32>(b, at);
  for (int64_t r = 0, i = b.begin; r < b.rows; r++, i += b.step)
#pragma omp simd
    for (int64_t k = i; k < i + b.n; k++) at(k);
}

// Called from any thread, for blocks that don't overlap.
struct Follow {
  using Call = void (*)(const void* self, const Block&);
  Call run = nullptr, asks = nullptr;
  const void* self = nullptr;
  int64_t base = 0;  // element of the whole result where a part begins
  explicit operator bool() const { return run != nullptr; }
  void operator()(Block b) const {
    b.begin += base;
    run(self, b);
  }
  // Asks for what a block will read besides the result, before the result is made.
  void ask(Block b) const {
    b.begin += base;
    asks(self, b);
  }
  Follow from(int64_t element) const { return {run, asks, self, base + element}; }
};

// Asks for a block of elements of so many bytes: into L2, as rows that lie a power of two apart share few sets of L1.
inline void ask_block(const std::byte* p, int64_t bytes, const Block& b) {
  constexpr int64_t kLine = 64;
  asm volatile("");  // GCC 12 leaves out calls of functions that do nothing but ask
  for (int64_t r = 0; bytes > 0 && r < b.rows; r++) {
    const std::byte* row = p + (b.begin + r * b.step) * bytes;
    const auto before = int64_t(reinterpret_cast<uintptr_t>(row) % kLine);  // in the row's first line
    for (int64_t i = -before; i < b.n * bytes; i += kLine) __builtin_prefetch(row + i, 0, 2);
  }
}

// f(block) for blocks that make up n elements.
template <class F>
void for_parts(const Exec& exec, int64_t n, double ns_per_element, const F& f) {
  const int64_t tasks = (n + kElementsPerTask - 1) / kElementsPerTask;
  exec.parallel(tasks, double(n) * ns_per_element, [&](int64_t task, int) {
    const int64_t begin = task * kElementsPerTask;
    f(Block{begin, 0, 1, std::min(n - begin, kElementsPerTask)});
  });
}
inline void follow_all(const Exec& exec, int64_t n, const Follow& follow) { for_parts(exec, n, 0.5, follow); }

}  // namespace thalweg

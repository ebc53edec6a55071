// channel_rows.h: elementwise loops over (rows, channels) with constants of every channel, on numbers or on what is
// stored as bf16. What is read of a channel would take most of the time if each row read it: four rows share it, where
// they follow each other in memory as one run, or stay in cache.
#pragma once
#include "../exec/ask.h"
#include "../exec/reduce.h"
#include "common.h"

namespace thalweg {

// Numbers of rows of which four are one run through memory: as many bytes, stored or not.
inline int64_t short_row(bool stored) { return stored ? 2 * kShortRow : kShortRow; }

// Rows that are treated as one, whose constants repeat, so that they are a short row, or the loop along them is long.
inline int64_t rows_joined(int64_t channels, bool stored) {
  if (channels < 1) return 1;
  return std::max<int64_t>(1, (short_row(stored) % channels == 0 ? short_row(stored) : 512) / channels);
}

// K constants of every channel, repeated.
template <class N, int K, class F>
State<N, K> per_channel(const Exec& exec, int64_t channels, bool stored, F constants) {
  const int64_t width = channels * rows_joined(channels, stored);
  const State<N, K> k = state_at<N, K>(exec.scratch<RealOf<N>>(0, Slot::shared_pack, K * kPlanes<N> * width), width);
  for (int64_t c = 0; c < channels; c++) {
    const std::array<N, K> x = constants(c);
    for (int i = 0; i < K; i++)
      for (int64_t j = c; j < width; j += channels) k[i].set(j, x[i]);
  }
  return k;
}

namespace channel_rows {

inline constexpr int64_t kFarPart = 512;  // numbers that wait where memory is the bound: fewer and more are slower
static_assert(kStoredPart == for_each_detail::kBuffer);

// A function of its own: arrays that are declared in a simd loop's body stay in memory, and the loop stays scalar.
template <class N, int kRows, class F, size_t... k>
TW_HD void fill_channel(View<N> y, int64_t to, int64_t to_step, int64_t i, int64_t step, const F& f,
                        const State<N, sizeof...(k)>& constants, int64_t j, std::index_sequence<k...>) {
  const std::array<N, sizeof...(k)> own{constants[k][j]...};
  TW_UNROLL for (int r = 0; r < kRows; r++) y.set(to + r * to_step, f(i + r * step, own));
}
// y(r, j) = f(i + r step + j, constants(begin + j)) for j < n and whole groups of kRows rows, which share what is read
// of a channel. Returns how many rows these are.
template <class N, int kRows, int K, class F>
TW_FLATTEN int64_t fill_groups(View<N> to, int64_t to_step, int64_t i, int64_t step, int64_t begin, int64_t n,
                               int64_t rows, const State<N, K>& constants, const F& f) {
  const F at = f;  // copies, as through references the compiler would reload pointers
  const View<N> y = to;
  const State<N, K> all = constants;
  int64_t r = 0;
  for (; r + kRows <= rows; r += kRows) {
#pragma omp simd
    for (int64_t j = 0; j < n; j++)
      fill_channel<N, kRows>(y, r * to_step + j, to_step, i + r * step + j, step, at, all, begin + j,
                             std::make_index_sequence<K>{});
  }
  return r;
}

// The rows of a matrix of `width` columns, part by part, whose results are stored as S: rounded, or past the caches,
// from memory where they wait in L1.
template <class N, class S, int M, int K, class F>
struct FillRows {
  static constexpr bool kStored = std::is_same_v<S, Bf16>;
  int64_t width;
  const State<N, K> constants;
  const F f;
  const std::array<View<S>, M> in;
  const Result<N> out;
  Bf16* stored;
  bool large;    // than the caches
  bool at_once;  // rows that follow each other in memory, or stay in cache

  TW_FLATTEN void rows(int64_t begin, int64_t end) const {
    const int64_t wait = large || !at_once ? kFarPart : kStoredPart, least = at_once ? kRowsAtOnce : 1;
    const int64_t columns = std::min(width, wait / least), most = std::max(least, wait / width);
    for (int64_t r = begin; r < end; r += most)
      for (int64_t j = 0; j < width; j += columns) part(r, std::min(most, end - r), j, std::min(columns, width - j));
  }
  // Columns [begin, begin + n) of `count` rows.
  void part(int64_t row, int64_t count, int64_t begin, int64_t n) const {
    alignas(64) RealOf<N> memory[kPlanes<N> * kStoredPart];
    const bool aside = kStored || out.far;
    const int64_t first = row * width + begin, step = aside ? n : width;
    const View<N> to = aside ? planar<N>(memory, kStoredPart) : out.y.at(first);
    if (large)  // all that it reads at first: memory turns less between reading and writing
      for (int64_t r = 0; r < count; r++)
        for (const View<S>& v : in) ask<false, 3>(v, first + r * width, n);
    int64_t done = 0;
    if (at_once) done = fill_groups<N, kRowsAtOnce, K>(to, step, first, width, begin, n, count, constants, f);
    fill_groups<N, 1, K>(to.at(done * step), step, first + done * width, width, begin, n, count - done, constants, f);
    if (!aside) return;
    const int64_t runs = n == width ? 1 : count, length = n == width ? count * n : n;
    if constexpr (kStored) return store_runs(memory, runs, length, stored + first, width);
    for (int64_t i = 0; i < runs; i++)
      for_each_detail::copy_planes_far(out.y.at(first + i * width), memory + i * n, length);
  }
};

}  // namespace channel_rows

// y[i] = f(i, constants of i's channel) for every element i of output 0, a (rows, channels) matrix; f = body(in), `in`
// being views of what is read.
template <class N, int M, int K, class Body>
void fill_channels(const Launch& l, int64_t rows, int64_t channels, const Operands<N, M>& in,
                   const State<N, K>& constants, const Body& body) {
  const int64_t joined = rows_joined(channels, in.stored), width = joined * channels, whole = rows / joined;
  const int64_t rest = (rows - whole * joined) * channels;
  if (rows == 0 || channels == 0) return;
  const Follow follow = l.follow();
  Result<N> to = result<N>(l, rows * channels, M);
  if (follow) to.far = false;
  const bool large = std::exchange(to.far, to.far && !in.stored);
  in.read([&]<class S>(const std::array<View<S>, M>& views) {
    const auto f = body(views);
    const bool at_once = width <= short_row(in.stored) || rows * channels <= kNearNumbers;
    const channel_rows::FillRows<N, S, M, K, std::decay_t<decltype(f)>> fill{
        width, constants, f, views, to, l.out[0].as<Bf16>(), large, at_once};
    const int64_t rows_per_task = std::max<int64_t>(1, kElementsPerTask / width);
    l.exec.parallel(divide_up(whole, rows_per_task), double(rows) * double(channels) * 0.4, [&](int64_t task, int) {
      const int64_t begin = task * rows_per_task, end = std::min(whole, begin + rows_per_task);
      fill.rows(begin, end);
      if (follow) follow({begin * width, 0, 1, (end - begin) * width});
      if (to.far) end_far();
    });
    if (rest > 0) fill.part(whole, 1, 0, rest);  // at most 512: more channels have a row of their own
  });
  if (to.far) end_far();
  if (follow) follow({whole * width, 0, 1, rest});
}

}  // namespace thalweg

// tile_dots.cpp: sums of bf16 by dot products of pairs, group by group, and their folds.
#include "tile_dots.h"

#include <algorithm>

#include "flush.h"

namespace thalweg {

#if defined(TW_UNITS)

namespace {

constexpr int kQuarter = kHalfSide / 2;  // rows of a fold: four sums of a tree, and the two of a group, fit

// VDPBF16PS adds its upper product before its lower one and counts denormals as zeros: two links of a chain of fma.
TW_INLINE void dot(Vector<float>& sum, const Bf16* a, Pairs b) {
  using Pair [[gnu::may_alias]] = uint32_t;
  asm("vdpbf16ps %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(b), "m"(*reinterpret_cast<const Pair*>(a)));
}
// How many quads of a group there are to add: those of its k, and where the sum that they are added to may be -0, one
// zero link more in each chain, which makes +0 of -0. Short leaves notice how long this takes.
TW_INLINE int64_t quads(int64_t count, bool first) {
  return std::min<int64_t>(kGroup / 4, int64_t(uint64_t(count + (first ? 3 : 5)) >> 2));
}

// all[i] += the sums of some groups; fresh: all is +0.
template <int kRows>
TW_INLINE void add_groups(const BlockBf16& c, GroupRange groups, bool fresh, const Bf16* a_rows, const Bf16* b,
                          Vector<float> (&all)[kRows]) {
  const int64_t step = c.a_step;
  const GroupBf16* const first = c.group + groups.from;
  b += groups.from * kOperandTile;
  for (const GroupBf16 *g = first, *end = c.group + groups.to; g != end; g++, b += kOperandTile) {
    const Bf16 *a = a_rows + g->at, *lower = a + 4 * step, *bq = b;
    Vector<float> even[kRows] = {}, odd[kRows] = {};
    for (int64_t q = quads(g->count, fresh && g == first); q > 0; q--, a += 4, lower += 4, bq += 4 * kSide) {
      const Pairs b_even = pairs_at(bq), b_odd = pairs_at(bq + 2 * kSide);
      TW_UNROLL for (int i = 0; i < kRows; i++) {
        const Bf16* row = i < 4 ? a + i * step : lower + (i - 4) * step;
        dot(even[i], row, b_even);
        dot(odd[i], row + 2, b_odd);
      }
    }
    TW_UNROLL for (int i = 0; i < kRows; i++) all[i] += even[i] + odd[i];
  }
}

// kHalfSide rows of a tile of sums.
TW_INLINE void add_dots(const BlockBf16& c, GroupRange groups, const Bf16* a, const Bf16* b, float* sum) {
  Vector<float> all[kHalfSide] = {};
  if (!c.fresh) TW_UNROLL for (int i = 0; i < kHalfSide; i++) all[i] = load(sum + i * kSide);
  add_groups(c, groups, c.fresh, a, b, all);
  TW_UNROLL for (int i = 0; i < kHalfSide; i++) store(sum + i * kSide, all[i]);
}
// f(groups, a, b, sum) for the halves of the tiles of a block.
template <class F>
TW_INLINE void each_half(const BlockBf16& c, F f) {
  for (int i = 0; i < c.tall; i++)
    for (int half = 0; half < 2; half++)
      for (int j = 0; j < c.wide; j++)
        f(c.inside[i][half], c.a[i] + half * c.half[i], c.b[j],
          c.sum + (kBlockSide * i + j) * kSumTile + half * kHalfSide * kSide);
}
// A function of its own, whose sums stay in registers.
TW_NOINLINE void add_part(const BlockBf16& c, GroupRange groups, const Bf16* a, const Bf16* b, float* sum) {
  add_dots(c, groups, a, b, sum);
}
TW_NOINLINE void dots_inside(const BlockBf16& c) {
  each_half(c, [&](GroupRange inside, const Bf16* a, const Bf16* b, float* sum) {
    const int64_t to = std::min(inside.to, c.groups);
    add_part(c, {std::min(inside.from, to), to}, a, b, sum);
    // As the zeros of what is left out do: +0 of a sum that was flushed to -0.
    for (int r = 0; r < kHalfSide && to < c.groups; r++)
      store(sum + r * kSide, load(sum + r * kSide) + Vector<float>{});
  });
}

template <int kLeaves>
TW_INLINE void fold(const BlockBf16& c, const GroupRange* leaf, const Bf16* a, const Bf16* b,
                    Vector<float> (&all)[kQuarter]) {
  if constexpr (kLeaves == 1) {
    TW_UNROLL for (int i = 0; i < kQuarter; i++) all[i] = Vector<float>{};
    add_groups(c, *leaf, true, a, b, all);
  } else {
    fold<kLeaves / 2>(c, leaf, a, b, all);
    Vector<float> newer[kQuarter];
    fold<kLeaves / 2>(c, leaf + kLeaves / 2, a, b, newer);
    TW_UNROLL for (int i = 0; i < kQuarter; i++) all[i] += newer[i];
  }
}
template <int kLeaves>
TW_NOINLINE void fold_part(const BlockBf16& c, const GroupRange* leaf, const Bf16* a, const Bf16* b, float* sum) {
  Vector<float> all[kQuarter];
  fold<kLeaves>(c, leaf, a, b, all);
  TW_UNROLL for (int i = 0; i < kQuarter; i++) store(sum + i * kSide, all[i]);
}
// Twice as many rows, as add_dots has, for long leaves, whose sums may go through memory: twice as many dot products
// for every load of B. Even where a neighbour on the core takes half of the window of instructions, it holds enough of
// them.
template <int kLeaves>
TW_NOINLINE void fold_half(const BlockBf16& c, const GroupRange* leaf, const Bf16* a, const Bf16* b, float* sum) {
  alignas(64) float slot[std::bit_width(unsigned(kLeaves)) - 1][kHalfSide * kSide];  // sums that wait, of 2^n leaves
  for (int n = 0; n < kLeaves; n++) {
    Vector<float> all[kHalfSide] = {};
    add_groups(c, leaf[n], true, a, b, all);
    const LeafBf16 at = leaf_at(n, kLeaves);
    for (int m = at.slot + at.adds; m-- > at.slot;)
      TW_UNROLL for (int i = 0; i < kHalfSide; i++) all[i] = load(slot[m] + i * kSide) + all[i];
    float* to = n + 1 < kLeaves ? slot[at.slot] : sum;
    TW_UNROLL for (int i = 0; i < kHalfSide; i++) store(to + i * kSide, all[i]);
  }
}
template <int kLeaves>
void fold_block(const BlockBf16& c, int rows, const GroupRange* leaf) {
  const bool is_long = leaf->to - leaf->from > 1;  // as the others are, or nearly
  for (int j = 0; j < c.wide; j++)                 // a tile of B stays in L1
    for (int row = 0, next; row < rows; row = next) {
      const int i = row / kSide, half = row % kSide / kHalfSide, rest = row % kHalfSide;
      const bool whole = is_long && rest == 0 && rows - row > kQuarter;
      next = row + (whole ? kHalfSide : kQuarter);
      (whole ? fold_half<kLeaves> : fold_part<kLeaves>)(c, leaf, c.a[i] + half * c.half[i] + rest * c.a_step, c.b[j],
                                                        c.sum + (kBlockSide * i + j) * kSumTile + row % kSide * kSide);
    }
}

}  // namespace

// At a line of its own: elsewhere in one, products of ten k took a quarter longer (Zen 4).
[[gnu::aligned(64)]] void dots_block(const BlockBf16& c) {
  const FlushScope flush;
  if (c.skips) return dots_inside(c);
  each_half(c, [&](GroupRange, const Bf16* a, const Bf16* b, float* sum)
                   __attribute__((always_inline)) { add_dots(c, {0, c.groups}, a, b, sum); });
}

bool dots_folded(const BlockBf16& c, int rows, const GroupRange* leaf, int64_t leaves) {
  const FlushScope flush;
  if (leaves == 2) fold_block<2>(c, rows, leaf);
  else if (leaves == 4) fold_block<4>(c, rows, leaf);
  else if (leaves == 8) fold_block<8>(c, rows, leaf);
  else return false;
  return !flush.flushed();  // the folds themselves keep denormals
}

#endif

}  // namespace thalweg

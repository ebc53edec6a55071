// tile_bf16.h: the tile behind every product of bf16 operands, in the order of matmul_bf16.h. A tile of sums has kSide
// rows and kSide columns of floats; an operand tile holds one group of K for kSide rows of A or kSide columns of B:
//   A: [kSide rows][kGroup k], rows at any distance      B: [kGroup / 2 pairs of k][kSide columns][2], dense
// On processors with AMX it runs there; elsewhere the same sums are made by dot products of pairs or by fma on floats.
// For dot products, whose pairs are two links of one chain, the four k of a quad lie in the order 2 0 3 1 in both.
#pragma once
#include "matmul_bf16.h"

namespace thalweg {

inline constexpr int kSide = 16, kHalfSide = kSide / 2;
inline constexpr int kOperandTile = kSide * int(kGroup);  // elements
inline constexpr int kSumTile = kSide * kSide;
inline constexpr int kBlockSide = 2;  // tiles: a block has up to 2 x 2, so that every operand serves two products
inline constexpr int kBlock = kBlockSide * kSide;
inline constexpr int kBlockSums = kBlockSide * kBlockSide * kSumTile;

struct GroupBf16 {
  int64_t at;     // in the rows of A
  int64_t count;  // k from here on are zeros in A and in B
};

struct GroupRange {
  int64_t from, to;
};
// sum += A B over some groups. All rows of a tile of A are read, so they must be memory.
struct BlockBf16 {
  const Bf16* a[kBlockSide];  // row i < 8, group g: a[t] + group[g].at + i a_step
  int64_t a_step;
  int64_t half[kBlockSide];   // from row 0 to row 8 of a tile: 8 a_step, or any distance where halves_may_part()
  const Bf16* b[kBlockSide];  // group g: b[t] + g kOperandTile
  const GroupBf16* group;
  int64_t groups;
  int tall, wide;      // tiles of rows and of columns: 1 or 2
  float* sum;          // tile (i, j): sum + (2 i + j) kSumTile
  bool fresh;          // from +0, not from what sum holds
  bool skips = false;  // products outside these groups are zeros, for each half of a tile: they may be left out
  GroupRange inside[kBlockSide][2] = {};
};
void run_block(const BlockBf16&);
// Writes the fold_tree (shards.h) over leaves, each the sum of some groups from +0, of the first `rows` rows of a block
// (whose fresh, groups and skips say nothing here): a few rows at a time, all leaves of each. False where that can't be
// done, or a sum was so small that it was flushed, as folds are not: leaf by leaf then. More leaves, or larger ones,
// gain nothing.
inline constexpr int64_t kMostLeavesBf16 = 8, kLeafGroupsBf16 = 8;
bool run_folded(const BlockBf16&, int rows, const GroupRange* leaf, int64_t leaves);

// For depthwise convolutions, where each channel is a product of its own, of bf16 that were made floats: for i < count
// and kSide lanes j,
//   sum[i kSide + j] = the sum, in groups of k in [start[g], start[g + 1]), of a[i a_next + a_at[k] + j] b[k b_step +
//   j]
struct LanesBf16 {
  const float* a;
  int64_t a_next;
  const int64_t* a_at;
  const float* b;
  int64_t b_step;
  const int64_t* start;
  int64_t groups, count;
  float* sum;
};
void run_lanes(const LanesBf16&);

// Around the blocks of a task: the tile registers belong to it.
class TileScope {
 public:
  TileScope();
  ~TileScope();
  TileScope(const TileScope&) = delete;
};

// What blocks run on, all with the same bits: AMX where the processor and the system allow it; dot products of pairs
// (AVX512_BF16) where they are measured to be faster than fma, which is so where a vector of them takes as long as one
// of fma, not twice. THALWEG_BF16 (fma, dots or amx) asks for another one.
enum class UnitBf16 : int { fma, dots, amx };
UnitBf16 unit_bf16();
// What whoever lays out operands must observe: AMX reads 16 rows at one distance, dot products want turned quads.
inline bool halves_may_part() { return unit_bf16() != UnitBf16::amx; }
inline bool turns_quads() { return unit_bf16() == UnitBf16::dots; }
inline bool skips_groups() { return unit_bf16() == UnitBf16::dots; }
bool choose_bf16(UnitBf16);  // for tests; whether there is one
// Estimates, on one thread.
double flops_per_ns_bf16();
inline constexpr double kLaneFlopsPerNs = 20, kMoveNs = 0.05;  // depthwise; of a number that is read or written
bool bf16_conversion();  // the processor has the conversion of formula/bf16.h as an instruction

// Leaf i of the n leaves of fold_tree (shards.h) whose stack starts at slot `base`, as in SumOrderWriter: its sum is
// added to those in slots slot + adds - 1, ..., slot, newest first, and the result goes to `slot`.
struct LeafBf16 {
  int slot, adds;
};
inline LeafBf16 leaf_at(int64_t i, int64_t n, int base = 0, int more = 0) {
  const int top = base + std::popcount(uint64_t(i));
  const int adds = (i + 1 == n ? top - base : std::countr_one(uint64_t(i))) + more;
  return {top - adds, adds};
}
// Where run_block puts the sum of a leaf before fold_leaf. A stack has slots of kBlockSums; `sum` is one more.
inline float* leaf_sum(LeafBf16 leaf, float* stack, float* sum) {
  return leaf.adds ? sum : stack + leaf.slot * kBlockSums;
}
void fold_leaf(LeafBf16 leaf, float* stack, const float* sum);

}  // namespace thalweg

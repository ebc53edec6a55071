// shards.h: how the rows of a batch are cut, and the one binary tree that every sum over rows follows.
//   global batch -> S logical shards (shard i of n rows holds rows floor(i n / S) to floor((i + 1) n / S))
//   shard -> blocks of rows that depend on the shape of the shard alone -> a chain inside a block
// Blocks fold in a fixed tree inside a shard, shards fold in the same tree on a rank, ranks continue it
// (comm/tree.h), so a power of two of ranks that divides S gives the same bits as one rank.
#pragma once
#include <bit>
#include <cstdint>
#include <vector>

namespace thalweg {

inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Row offsets of the consecutive shards that one rank holds: shard s has local rows [offset[s], offset[s + 1]).
struct Shards {
  std::vector<int64_t> offset{0, 0};
  int64_t fewest = 0;  // rows of the smallest shard of all ranks
  int count() const { return int(offset.size()) - 1; }
  int64_t rows() const { return offset.back(); }
  static Shards whole(int64_t rows) { return {{0, rows}, rows}; }
  // Shards [first, last) of `total` for a global batch of n rows, counted from the first of them.
  static Shards of(int64_t n, int64_t total, int64_t first, int64_t last) {
    Shards s;
    s.offset.clear(), s.fewest = n / total;
    for (int64_t i = first; i <= last; i++) s.offset.push_back(i * n / total - first * n / total);
    return s;
  }
};

// The tree over items 0..n-1 as a binary counter: after item i, while the low bits of i are ones, the two newest
// equal-sized subtrees merge; at the end the rest merges from the newest to the oldest. For a power of two this is the
// perfect binary tree; aligned runs of 2^k items are subtrees.
//   leaf(i, level): compute item i into stack slot `level`;  merge(a, b): slot a = slot a + slot b (a holds older
//   items)
// Uses slots 0 .. tree_slots(n) - 1; the result is in slot 0. n = 0 calls nothing.
inline int tree_slots(int64_t n) { return std::bit_width(uint64_t(n > 0 ? n : 1)) + 1; }
template <class Leaf, class Merge>
void fold_tree(int64_t n, Leaf leaf, Merge merge) {
  int top = 0;  // slots in use
  for (int64_t i = 0; i < n; i++) {
    leaf(i, top++);
    for (int64_t ones = i; ones & 1; ones >>= 1, top--) merge(top - 2, top - 1);
  }
  for (; top > 1; top--) merge(top - 2, top - 1);
}

// Blocks of the rows of a (rows * inner, C) matrix, where each batch row holds `inner` pixels.
// inner = 1: blocks of up to kDenseBlock rows of one shard. Otherwise blocks are images, large ones cut evenly.
struct RowBlocks {
  std::vector<int64_t> row;    // block b covers matrix rows [row[b], row[b + 1])
  std::vector<int64_t> shard;  // shard s owns blocks [shard[s], shard[s + 1])
  int64_t blocks() const { return int64_t(row.size()) - 1; }
  int shards() const { return int(shard.size()) - 1; }
  int64_t rows() const { return row.back(); }
};
RowBlocks row_blocks(const Shards& shards, int64_t inner);

}  // namespace thalweg

// tile.h: the register tile behind every product, dense or convolutional, forward or gradient (depthwise ones and
// weight gradients of very few channels have their own, in the same order: tile_depthwise.h, tile_patches.h).
//   acc(i, j) = fma(A(i, k), B(k, j), acc(i, j))   for kTileRows rows i and kPanel columns j
// Which k follow each other, where a chain ends, and how finished chains are added is written down once per product in
// a SumOrder, which all its tiles execute. It depends on the mathematics alone (shapes, shards), never on tiles,
// so an output element has the same bits wherever it lies. An element is one lane of one accumulator.
#pragma once
#include <algorithm>
#include <bit>
#include <cstddef>

#include "shards.h"
#include "vector.h"

namespace thalweg {

template <class T>
inline constexpr int kPanel = kTileVectors * kLanes<T>;  // columns of a packed panel of B
template <class T>
inline constexpr int kRowsWidth =  // elements between packed k of a row tile
    (kTileRows + kLanes<T> - 1) / kLanes<T> * kLanes<T>;
template <class T>
inline constexpr int kTileSize = kTileRows * kPanel<T>;  // numbers of a slot

// A run of k with constant strides: a and b are element offsets of its first k.
struct KSegment {
  int64_t a, b, count;
};
inline constexpr int kPiece = 3;  // k of a piece of a short run
// One chain from +0 over `segments` segments; then the sums in slots slot + adds - 1, ..., slot are added to it, newest
// first, and the result goes to `slot`. Slots form the stack of fold_tree (shards.h); with adds = 1 a block of K joins
// the blocks before it.
struct Chain {
  int64_t segment;
  int32_t segments, adds, slot;
  int32_t pieces = 0;    // so many of its segments, the first ones, have kPiece k each
  bool resumes = false;  // not from +0: from the sums in slot + adds, where the chain was laid down
};
struct SumOrder {
  const KSegment* segment = nullptr;
  const Chain* chain = nullptr;
  int64_t chains = 0;
  int slots = 1;
};

// Writes a SumOrder into memory of the caller's. A leaf is a sum over some k, cut every `block` of them; a_step and
// b_step are the strides of one k. Short runs of k may be cut into pieces: the tile then has one loop of equal steps
// instead of a loop for each run, whose end the processor does not foresee. Every `rest` k a chain may be laid down,
// for tiles that pass K in shorter chunks than a block.
class SumOrderWriter {
 public:
  SumOrderWriter(KSegment* segment, Chain* chain, int64_t a_step, int64_t b_step, int64_t block, bool pieces = false,
                 int64_t rest = INT64_MAX)
      : segment_(segment),
        chain_(chain),
        a_step_(a_step),
        b_step_(b_step),
        block_(block),
        rest_(rest),
        most_(pieces ? kPiece : INT64_MAX) {}
  // Leaf i of the n of one fold_tree whose stack starts at slot `base`.
  void begin_leaf(int64_t i, int64_t n, int base = 0) {
    top_ = base + std::popcount(uint64_t(i));
    merges_ = i + 1 == n ? top_ - base : std::countr_one(uint64_t(i));
    blocks_ = 0;
    open_block();
  }
  void also_merge(int slots) { merges_ += slots; }  // the leaf ends a subtree of the tree below `base`
  void add(int64_t a, int64_t b, int64_t count) {
    while (count > 0) {
      if (left_ == 0) open_block();
      if (until_rest_ == 0) lay_down();
      const int64_t part = std::min({count, left_, until_rest_});
      append(a, b, part);
      a += part * a_step_, b += part * b_step_, count -= part, left_ -= part, until_rest_ -= part;
    }
  }
  // K that count where blocks end, but add nothing.
  void skip(int64_t count) {
    while (count > 0) {
      if (left_ == 0) open_block();
      const int64_t part = std::min(count, left_);
      count -= part, left_ -= part;
    }
  }
  void end_leaf() {
    Chain& last = chain_[chains_ - 1];
    last.adds += merges_;
    last.slot -= merges_;
    slots_ = std::max(slots_, top_ + 1);
  }
  int64_t chains() const { return chains_; }
  SumOrder order() const { return {segment_, chain_, chains_, slots_}; }

 private:
  void open_block() {
    chain_[chains_++] = {segments_, 0, blocks_++ > 0, top_};
    left_ = block_, until_rest_ = rest_;
  }
  void lay_down() {
    Chain& chain = chain_[chains_ - 1];
    const int at = chain.slot + chain.adds;
    chain_[chains_++] = {segments_, 0, chain.adds, chain.slot, 0, true};
    chain.slot = at, chain.adds = 0;
    slots_ = std::max(slots_, at + 1), until_rest_ = rest_;
  }
  void append(int64_t a, int64_t b, int64_t count) {
    Chain& chain = chain_[chains_ - 1];
    for (int64_t part;; a += part * a_step_, b += part * b_step_) {
      KSegment* last = segment_ + segments_ - 1;
      const bool joins = chain.segments > 0 && last->count < most_ && last->a + last->count * a_step_ == a &&
                         last->b + last->count * b_step_ == b;
      part = std::min(count, joins ? most_ - last->count : most_);
      if (joins) {
        last->count += part;
      } else {
        *++last = {a, b, part};
        segments_++, chain.segments++;
      }
      if (last->count == most_ && chain.pieces + 1 == chain.segments) chain.pieces++;
      if ((count -= part) == 0) return;
    }
  }

  KSegment* segment_;
  Chain* chain_;
  int64_t a_step_, b_step_, block_, rest_, most_, left_ = 0, until_rest_ = 0, segments_ = 0, chains_ = 0;
  int top_ = 0, merges_ = 0, blocks_ = 0, slots_ = 1;
};

// What one tile reads and writes.
template <class T>
struct TileCall {
  const T* const* row = nullptr;  // form rows:     A(i, k) = row[i][segment.a + k]
  int64_t tiles = 1;              // form rows:     so many tiles, whose rows follow each other
  const T* a = nullptr;           // forms columns: A(i, k) = a[segment.a + k a_step + i]
  int64_t a_step = 0;
  const T* b = nullptr;  // B(k, j) = b[segment.b + k b_step + j]
  int64_t b_step = 0;
  int64_t panels = 1,
          b_panel = 0;  // forms columns: so many panels of B, b_panel apart, whose outputs follow each other
  int64_t a_ahead = 0, b_ahead = 0;  // form columns_ahead: elements from what is read to what is asked for
  const KSegment* segment = nullptr;
  const Chain *first = nullptr, *last = nullptr;  // chains [first, last)
  T* stack = nullptr;                             // slots of kTileSize elements
  T* const* out = nullptr;           // if not null, the last chain's sum goes to out[i][j], not to its slot:
  const T* bias = nullptr;           // + bias[j], where not null
  bool accumulate = false;           // + what out holds
  bool far = false;                  // past the caches: whole, aligned vectors
  bool ask = false;                  // forms columns: for the lines of out, which take long to arrive
  bool follows = false;              // form rows: another tile after these, whose rows follow
  int64_t out_ahead = 0;             // form rows: elements from `out` to the outputs that are asked for, if not 0,
  int out_rows = 1;                  // so many rows in a step
  const std::byte* ahead = nullptr;  // read soon after; asked for, `ahead_lines` lines a segment, or a step of rows
  int ahead_lines = 0;
};

inline constexpr int64_t kLineBytes = 64;
inline constexpr int kStepK = 4;  // of a step of form rows
inline int out_rows_a_step(int64_t k) { return int(divide_up(kTileRows, std::max<int64_t>(1, k / kStepK))); }

// folded: columns, whose chains are all the leaves of a fold_tree, a multiple of kFoldLeaves, each of one chain of one
// segment at most. They are added in registers, which hold that many for half the rows of a tile and one vector.
enum class TileForm { rows, columns, columns_ahead, folded };
inline constexpr int kFoldLeaves = 4;
inline constexpr bool kFoldsInRegisters = kVectorBytes == 64;  // of which there are 32
template <class T>
using TileFunction = void (*)(const TileCall<T>&);
// The tile of `rows` rows (1 to kTileRows) and `vectors` vectors of columns (1 to kTileVectors).
template <class T>
TileFunction<T> tile_function(TileForm form, int rows, int vectors);

// A row of a finished sum on its way from a slot to C, where the tile itself cannot write: fewer columns than a vector,
// or rows at uneven distances.
template <class T>
inline void put_row(const T* sum, int64_t n, const T* bias, bool accumulate, T* out) {
  for (int64_t j = 0; j < n; j += kLanes<T>) {
    const int part = int(std::min<int64_t>(kLanes<T>, n - j));
    Vector<T> v = load_first(sum + j, part);
    if (bias) v = load_first(bias + j, part) + v;
    if (accumulate) v = load_first(out + j, part) + v;
    store_first(out + j, v, part);
  }
}

}  // namespace thalweg
